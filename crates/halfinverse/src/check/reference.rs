//! What derivatives are compared with: quotients along several directions, and the sizes that differences are
//! relative to.

use std::ops::Range;

use faer::{Mat, MatRef};
use rand::{Rng, RngExt};

use super::quotient::{Quotient, along};
use super::{Comparison, TOLERANCE};

/// Directions, and combinations of outcomes: so many controls have a direction of their own; more share them.
const MOST_GROUPS: usize = 8;
/// A derivative is compared relative to its own size, or to this share of the largest that its outcome has: so far
/// below, a simulator's own round-off shows.
const SHARE: f64 = 1e-3;

/// A direction moves neighbouring controls (or parameters), each by about its own size.
pub(super) struct Direction {
    /// Which.
    pub(super) inputs: Range<usize>,
    /// By how much each of them, one row per sample.
    v: Mat<f64>,
}

impl Direction {
    /// z + tv.
    pub(super) fn moved(&self, z: MatRef<'_, f64>, t: f64) -> Mat<f64> {
        let mut moved = z.to_owned();
        let mut part = moved.as_mut().subcols_mut(self.inputs.start, self.inputs.len());
        part += faer::Scale(t) * &self.v;
        moved
    }

    /// v itself, of so many controls.
    pub(super) fn whole(&self, controls: usize) -> Mat<f64> {
        self.moved(Mat::zeros(self.v.nrows(), controls).as_ref(), 1.0)
    }

    /// θ ← θ + tv, where θ is the only sample.
    pub(super) fn shift(&self, t: f64, theta: &mut [f64]) {
        let part = theta[self.inputs.clone()].iter_mut().enumerate();
        part.for_each(|(j, theta)| *theta += t * self.v[(0, j)]);
    }

    /// `part`·v, where `part` are the moved entries of the only sample.
    pub(super) fn dot(&self, part: &[f64]) -> f64 {
        part.iter().enumerate().map(|(j, part)| part * self.v[(0, j)]).sum()
    }

    /// `cotangent`·v of every sample.
    pub(super) fn dots(&self, cotangent: MatRef<'_, f64>) -> Vec<f64> {
        let of_sample = |s| {
            let inputs = self.inputs.clone().enumerate();
            inputs.map(|(j, input)| cotangent[(s, input)] * self.v[(s, j)]).sum()
        };
        (0..self.v.nrows()).map(of_sample).collect()
    }
}

/// Directions at a point z, one row per sample.
pub(super) fn directions<R: Rng>(z: MatRef<'_, f64>, rng: &mut R) -> Vec<Direction> {
    let sizes = sizes(z);
    let mut part = |inputs: Range<usize>| {
        let v = Mat::from_fn(z.nrows(), inputs.len(), |s, j| factor(rng) * sizes[(s, inputs.start + j)]);
        Direction { inputs, v }
    };
    groups(z.ncols()).into_iter().map(&mut part).collect()
}

/// Up to [`MOST_GROUPS`] ranges of neighbours.
pub(super) fn groups(count: usize) -> Vec<Range<usize>> {
    let groups = count.min(MOST_GROUPS);
    (0..groups).map(|i| i * count / groups..(i + 1) * count / groups).collect()
}

/// ±½ to ±1: random, so that errors do not cancel, and never so small that one is overlooked.
fn factor<R: Rng>(rng: &mut R) -> f64 {
    let size = 0.5 + 0.5 * rng.random::<f64>();
    if rng.random::<bool>() { size } else { -size }
}

/// The size of each component of z: its own, or where that is nearly 0 a thousandth of what it is in the other samples;
/// where it is 0 in all of them, the (geometric) mean of the other components' sizes.
fn sizes(z: MatRef<'_, f64>) -> Mat<f64> {
    let typical: Vec<f64> = (0..z.ncols()).map(|j| z.col(j).norm_l2() / (z.nrows() as f64).sqrt()).collect();
    let logs: Vec<f64> = typical.iter().filter(|size| **size > 0.0).map(|size| size.ln()).collect();
    let mean = if logs.is_empty() { 1.0 } else { (logs.iter().sum::<f64>() / logs.len() as f64).exp() };
    Mat::from_fn(z.nrows(), z.ncols(), |s, j| {
        if typical[j] > 0.0 { z[(s, j)].abs().max(SHARE * typical[j]) } else { mean }
    })
}

/// Outcomes, each with its factor.
pub(super) type Sum = Vec<(usize, f64)>;

/// Quotients of outcomes along directions. Vectors over outcomes are sample-major.
#[derive(Clone)]
pub(super) struct Reference {
    /// Of what moves, and of an outcome.
    names: [&'static str; 2],
    /// What moves, for each direction.
    inputs: Vec<Range<usize>>,
    /// The outcomes, or groups of them, of a sample.
    outcomes: Vec<Range<usize>>,
    /// For each direction, of all outcomes.
    quotients: Vec<Vec<Quotient>>,
    /// For each direction, of the outcomes of a sample: the size that differences are relative to.
    units: Vec<Vec<f64>>,
}

impl Reference {
    /// Quotients of m outcomes of each sample: for each direction, of all of them. `names` are those of what moves and
    /// of an outcome.
    pub(super) fn new(
        names: [&'static str; 2],
        directions: &[Direction],
        outcomes: usize,
        quotients: Vec<Vec<Quotient>>,
    ) -> Self {
        let inputs = directions.iter().map(|direction| direction.inputs.clone()).collect();
        let outcomes = (0..outcomes).map(|c| c..c + 1).collect();
        Self { names, inputs, outcomes, quotients, units: Vec::new() }.sized()
    }

    /// As [`Self::new`], of the function that makes y(z + tv); `at_rest` is y(z).
    pub(super) fn measure<E>(
        names: [&'static str; 2],
        directions: &[Direction],
        outcomes: usize,
        at_rest: &[f64],
        mut y: impl FnMut(f64, &Direction) -> Result<Vec<f64>, E>,
    ) -> Result<Self, E> {
        let quotients: Result<_, E> =
            directions.iter().map(|direction| along(at_rest, |t| y(t, direction))).collect();
        Ok(Self::new(names, directions, outcomes, quotients?))
    }

    /// J v itself in the place of quotients.
    pub(super) fn exact(directions: &[Direction], outcomes: usize, products: &[Vec<f64>]) -> Self {
        let known = |product: &Vec<f64>| product.iter().map(|&value| Quotient::known(value)).collect();
        Self::new(["parameter", "outcome"], directions, outcomes, products.iter().map(known).collect())
    }

    /// With the units of its quotients.
    fn sized(mut self) -> Self {
        let own: Vec<Vec<f64>> = self.quotients.iter().map(|of| self.largest(of)).collect();
        let of_outcome = |c: usize| own.iter().map(|own| own[c]).fold(0.0, f64::max);
        let all: Vec<f64> = (0..self.outcomes.len()).map(of_outcome).collect();
        let unit = |own: &Vec<f64>| own.iter().zip(&all).map(|(own, all)| own.max(SHARE * all)).collect();
        self.units = own.iter().map(unit).collect();
        self
    }

    /// The largest derivative of each outcome over the samples, of those that are known to a tenth.
    fn largest(&self, quotients: &[Quotient]) -> Vec<f64> {
        let mut largest = vec![0.0f64; self.outcomes.len()];
        for (i, quotient) in quotients.iter().enumerate() {
            if quotient.resolution <= 0.1 * quotient.value.abs() {
                let c = i % self.outcomes.len();
                largest[c] = largest[c].max(quotient.value.abs());
            }
        }
        largest
    }

    /// A cotangent in which every outcome weighs about the same, whatever its unit.
    pub(super) fn cotangent<R: Rng>(&self, rng: &mut R) -> Vec<f64> {
        let m = self.outcomes.len();
        let unit = |c: usize| self.units.iter().map(|units| units[c]).fold(0.0, f64::max);
        let size = |c: usize| [unit(c), self.size(c)].into_iter().find(|size| *size > 0.0).unwrap_or(1.0);
        let sizes: Vec<f64> = (0..m).map(size).collect();
        let count = self.quotients.first().map_or(0, Vec::len);
        (0..count).map(|i| factor(rng) / sizes[i % m]).collect()
    }

    /// For each outcome a sum of outcomes.
    pub(super) fn times(mut self, sums: &[Sum]) -> Self {
        for of in &mut self.quotients {
            let sum = |sum: &Sum| Quotient::sum(sum.iter().map(|&(i, factor)| (factor, of[i])));
            *of = sums.iter().map(sum).collect();
        }
        self.sized()
    }

    /// Of each sample the sums of outcomes times `cotangent` over the groups.
    pub(super) fn combine(&self, groups: &[Range<usize>], cotangent: &[f64]) -> Self {
        let m = self.outcomes.len().max(1);
        let combined = |of: &Vec<Quotient>| {
            let of_sample = |(of, u): (&[Quotient], &[f64])| -> Vec<Quotient> {
                let sum = |group: &Range<usize>| Quotient::sum(group.clone().map(|c| (u[c], of[c])));
                groups.iter().map(sum).collect()
            };
            of.chunks(m).zip(cotangent.chunks(m)).flat_map(of_sample).collect()
        };
        let quotients = self.quotients.iter().map(combined).collect();
        Self { outcomes: groups.to_vec(), quotients, ..self.clone() }.sized()
    }

    /// The sums over all samples.
    pub(super) fn total(mut self) -> Self {
        let m = self.outcomes.len();
        for of in &mut self.quotients {
            *of = (0..m).map(|c| Quotient::sum(of.iter().skip(c).step_by(m).map(|of| (1.0, *of)))).collect();
        }
        self.sized()
    }

    /// The same sizes, with these values in place of the quotients.
    pub(super) fn expecting(&self, values: &[Vec<f64>]) -> Self {
        let replaced = |(of, values): (&Vec<Quotient>, &Vec<f64>)| {
            let replaced = of.iter().zip(values);
            replaced.map(|(of, &value)| Quotient { value, kink: false, ..*of }).collect()
        };
        Self { quotients: self.quotients.iter().zip(values).map(replaced).collect(), ..self.clone() }
    }

    /// Derivatives along each direction, of all outcomes, against the quotients.
    pub(super) fn compare(&self, what: &'static str, values: &[Vec<f64>]) -> Comparison {
        let m = self.outcomes.len();
        let mut comparison = Comparison::new(what, 0.0);
        for (d, (values, quotients)) in values.iter().zip(&self.quotients).enumerate() {
            for (i, (&value, quotient)) in values.iter().zip(quotients).enumerate() {
                let unit = self.units[d][i % m];
                let error = relative(value - quotient.value, unit.max(quotient.resolution / TOLERANCE));
                if error > TOLERANCE && quotient.allows(value) {
                    comparison.kink = true;
                    continue;
                }
                let resolution = relative(quotient.resolution, unit.max(quotient.size));
                comparison.resolution = comparison.resolution.max(resolution);
                if error > comparison.error {
                    comparison.error = error;
                    comparison.place = self.place(d, i);
                }
            }
        }
        comparison
    }

    /// Outcomes of two calls, relative to the outcome, or to what a change of the controls makes of it.
    pub(super) fn compare_outcomes(&self, what: &'static str, expected: &[f64], found: &[f64]) -> Comparison {
        let m = self.outcomes.len();
        let mut comparison = Comparison::new(what, 0.0);
        for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
            let error = relative(expected - found, self.size(i % m));
            if error > comparison.error {
                comparison.error = error;
                comparison.place =
                    format!("{} of sample {}", words(self.names[1], &self.outcomes[i % m]), i / m);
            }
        }
        comparison
    }

    /// The largest derivative of outcome c, or its largest value where that is more.
    fn size(&self, c: usize) -> f64 {
        let units = self.units.iter().map(|units| units[c]);
        let values = self.quotients.iter().flatten().skip(c).step_by(self.outcomes.len()).map(|of| of.size);
        units.chain(values).fold(0.0, f64::max)
    }

    /// In words, entry i of direction d.
    fn place(&self, d: usize, i: usize) -> String {
        format!("{}, along {}", self.outcome(i), words(self.names[0], &self.inputs[d]))
    }

    /// In words, outcome i of the mini-batch.
    fn outcome(&self, i: usize) -> String {
        let m = self.outcomes.len();
        let outcome =
            if m == 1 { self.names[1].to_owned() } else { words(self.names[1], &self.outcomes[i % m]) };
        let samples = self.quotients.first().map_or(0, Vec::len) / m;
        if samples == 1 { outcome } else { format!("{outcome} of sample {}", i / m) }
    }
}

/// |difference| over a size; 0 where there is no difference, infinite where there is none to be had.
pub(super) fn relative(difference: f64, size: f64) -> f64 {
    match difference.abs() {
        0.0 => 0.0,
        difference if difference.is_nan() => f64::INFINITY,
        difference => difference / size.max(f64::MIN_POSITIVE),
    }
}

fn words(name: &str, range: &Range<usize>) -> String {
    if range.len() == 1 {
        format!("{name} {}", range.start)
    } else {
        format!("{name}s {} to {}", range.start, range.end.saturating_sub(1))
    }
}
