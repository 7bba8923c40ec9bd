//! The check of derivatives: no false alarm at any scale, every wrong entry found, and what a reused buffer, a tape,
//! other chunks and kinks do.

use halfinverse::check::{self, Comparison};
use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::rand::{Rng, RngExt, SeedableRng};
use halfinverse::simulator::{Derivative, Pattern, Point, Simulator, SimulatorError, Tape};
use rand_chacha::ChaCha8Rng;

/// Which derivative a simulator gives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Given {
    Jvp,
    Vjp,
    Block,
}

const GIVEN: [Given; 3] = [Given::Jvp, Given::Vjp, Given::Block];

/// What is wrong with a simulator besides its derivative.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Its outcome is added to what was there.
    OutcomeAdds,
    /// Its derivative is added to what was there.
    DerivativeAdds,
    /// Its derivative leaves out entries that are 0.
    SkipsZeros,
    /// Its outcome has the mean of the chunk taken off.
    ChunkMean,
    /// Its derivative is that of the control that the tape saw first.
    OldTape,
}

type Function = Box<dyn Fn(&[f64]) -> Vec<f64> + Send + Sync>;

/// A simulator from the functions of one sample: z to y, and z to the block, entry j·m + c.
struct Example {
    sizes: [usize; 2],
    given: Given,
    flaw: Flaw,
    outcome: Function,
    block: Function,
}

impl Example {
    fn new(
        sizes: [usize; 2],
        outcome: impl Fn(&[f64]) -> Vec<f64> + Send + Sync + 'static,
        block: impl Fn(&[f64]) -> Vec<f64> + Send + Sync + 'static,
    ) -> Self {
        let (given, flaw) = (Given::Block, Flaw::None);
        Self { sizes, given, flaw, outcome: Box::new(outcome), block: Box::new(block) }
    }

    /// y = z² on one control, with a factor of the derivative.
    fn square(slip: f64) -> Self {
        Self::new([1, 1], |z| vec![z[0] * z[0]], move |z| vec![slip * 2.0 * z[0]])
    }

    fn put(&self, adds: bool, out: &mut f64, value: f64) {
        if adds {
            *out += value;
        } else if value != 0.0 || self.flaw != Flaw::SkipsZeros {
            *out = value;
        }
    }

    fn block_at(&self, at: Point<'_>, s: usize) -> Vec<f64> {
        match at.tape.get::<Mat<f64>>() {
            Some(first) if self.flaw == Flaw::OldTape => (self.block)(&row(first.as_ref(), s)),
            _ => (self.block)(&row(at.control, s)),
        }
    }

    /// Writes `entry` of (sample, column, the sample's block) to all of `out`.
    fn write(
        &self,
        at: Point<'_>,
        mut out: MatMut<'_, f64>,
        columns: usize,
        entry: impl Fn(usize, usize, &[f64]) -> f64,
    ) {
        for s in 0..at.control.nrows() {
            let block = self.block_at(at, s);
            for column in 0..columns {
                let value = entry(s, column, &block);
                self.put(self.flaw == Flaw::DerivativeAdds, &mut out[(s, column)], value);
            }
        }
    }
}

fn row(matrix: MatRef<'_, f64>, s: usize) -> Vec<f64> {
    (0..matrix.ncols()).map(|j| matrix[(s, j)]).collect()
}

impl Simulator for Example {
    fn controls(&self) -> usize {
        self.sizes[0]
    }

    fn outcomes(&self) -> usize {
        self.sizes[1]
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        let (b, m) = outcome.shape();
        if let Some(tape) = tape {
            tape.get_or_keep(|| control.to_owned());
        }
        let all: Vec<Vec<f64>> = (0..b).map(|s| (self.outcome)(&row(control, s))).collect();
        for c in 0..m {
            let mean = all.iter().map(|y| y[c]).sum::<f64>() / b as f64;
            for s in 0..b {
                let y = all[s][c] - if self.flaw == Flaw::ChunkMean { mean } else { 0.0 };
                self.put(self.flaw == Flaw::OutcomeAdds, &mut outcome[(s, c)], y);
            }
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        let [q, m] = self.sizes;
        match self.given {
            Given::Jvp => Derivative::jvp(move |at, tangent, out| {
                self.write(at, out, m, |s, c, block| {
                    (0..q).map(|j| block[j * m + c] * tangent[(s, j)]).sum()
                });
                Ok(())
            }),
            Given::Vjp => Derivative::vjp(move |at, cotangent, out| {
                self.write(at, out, q, |s, j, block| {
                    (0..m).map(|c| block[j * m + c] * cotangent[(s, c)]).sum()
                });
                Ok(())
            }),
            Given::Block => Derivative::block(move |at, out| {
                self.write(at, out, q * m, |_, entry, block| block[entry]);
                Ok(())
            }),
        }
    }
}

fn check(example: &Example, control: &Mat<f64>) -> Vec<Comparison> {
    check::simulator(example, Mat::zeros(control.nrows(), 0).as_ref(), control.as_ref(), 1).unwrap()
}

fn wrong(comparisons: &[Comparison]) -> Vec<&'static str> {
    comparisons.iter().filter(|c| !c.right()).map(|c| c.what).collect()
}

/// One smooth outcome F of x, with its gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    Cubic,
    Exp,
    Sine,
    Rational,
    Product,
}

const FAMILIES: [Family; 5] = [Family::Cubic, Family::Exp, Family::Sine, Family::Rational, Family::Product];

impl Family {
    fn value(self, a: &[f64], x: &[f64]) -> f64 {
        let s = linear(a, x);
        match self {
            Self::Cubic => s + 0.5 * s * s - s.powi(3) / 6.0,
            Self::Exp => s.exp(),
            Self::Sine => (3.0 * s + 0.2).sin(),
            Self::Rational => s / (1.0 + s * s),
            Self::Product => x.iter().zip(a).map(|(x, a)| x + 3.0 * a).product(),
        }
    }

    fn slope(self, a: &[f64], x: &[f64], j: usize) -> f64 {
        let s = linear(a, x);
        let of_sum = match self {
            Self::Cubic => 1.0 + s - 0.5 * s * s,
            Self::Exp => s.exp(),
            Self::Sine => 3.0 * (3.0 * s + 0.2).cos(),
            Self::Rational => (1.0 - s * s) / (1.0 + s * s).powi(2),
            Self::Product => {
                let others = (0..x.len()).filter(|&i| i != j);
                return others.map(|i| x[i] + 3.0 * a[i]).product();
            }
        };
        a[j] * of_sum
    }
}

fn linear(a: &[f64], x: &[f64]) -> f64 {
    a.iter().zip(x).map(|(a, x)| a * x).sum()
}

/// y_c = scale_c·(F_c(x) + offset_c) with x_j = z_j/scale_j − offset_j; every scale from 1e-9 to 1e12.
#[derive(Debug, Clone)]
struct Smooth {
    families: Vec<Family>,
    factors: Vec<Vec<f64>>,
    controls: Vec<[f64; 2]>,
    outcomes: Vec<[f64; 2]>,
}

impl Smooth {
    fn random<R: Rng>(rng: &mut R) -> (Self, Mat<f64>) {
        let [q, m] = [0, 0].map(|_| 1 + rng.random_range(0..4usize));
        let mut scaled = |largest: f64| {
            let offset = if rng.random::<bool>() { largest * (rng.random::<f64>() - 0.5) } else { 0.0 };
            [10f64.powf(21.0 * rng.random::<f64>() - 9.0), offset]
        };
        let controls: Vec<[f64; 2]> = (0..q).map(|_| scaled(1e3)).collect();
        let outcomes = (0..m).map(|_| scaled(1e3)).collect();
        let families = (0..m).map(|_| FAMILIES[rng.random_range(0..FAMILIES.len())]).collect();
        let mut signed = |low: f64, high: f64| {
            let size = low + (high - low) * rng.random::<f64>();
            if rng.random::<bool>() { size } else { -size }
        };
        let factors = (0..m).map(|_| (0..q).map(|_| signed(0.1, 1.0)).collect()).collect();
        let z = Mat::from_fn(8, q, |_, j| controls[j][0] * (signed(0.2, 2.0) + controls[j][1]));
        (Self { families, factors, controls, outcomes }, z)
    }

    fn x(&self, z: &[f64]) -> Vec<f64> {
        z.iter().zip(&self.controls).map(|(z, [scale, offset])| z / scale - offset).collect()
    }

    fn outcome(&self, z: &[f64]) -> Vec<f64> {
        let x = self.x(z);
        let value = |c: usize| self.families[c].value(&self.factors[c], &x) + self.outcomes[c][1];
        (0..self.outcomes.len()).map(|c| self.outcomes[c][0] * value(c)).collect()
    }

    fn block(&self, z: &[f64]) -> Vec<f64> {
        let (x, m) = (self.x(z), self.outcomes.len());
        let entry = |i: usize| {
            let (j, c) = (i / m, i % m);
            self.outcomes[c][0] * self.families[c].slope(&self.factors[c], &x, j) / self.controls[j][0]
        };
        (0..z.len() * m).map(entry).collect()
    }

    fn example(&self, given: Given, damage: impl Fn(&mut Vec<f64>) + Send + Sync + 'static) -> Example {
        let (outcome, block) = (self.clone(), self.clone());
        let damaged = move |z: &[f64]| {
            let mut block = block.block(z);
            damage(&mut block);
            block
        };
        let sizes = [self.controls.len(), self.outcomes.len()];
        Example { given, ..Example::new(sizes, move |z| outcome.outcome(z), damaged) }
    }

    /// An entry (j, c) that is not negligible: what it makes of its outcome, |∂y_c/∂z_j||z_j|, is somewhere at least 1e-6 of the most
    /// that any control makes of it.
    fn entry<R: Rng>(&self, z: &Mat<f64>, rng: &mut R) -> [usize; 2] {
        let m = self.outcomes.len();
        let blocks: Vec<Vec<f64>> = (0..z.nrows()).map(|s| self.block(&row(z.as_ref(), s))).collect();
        let makes = |j: usize, c: usize| {
            (0..z.nrows()).map(|s| (blocks[s][j * m + c] * z[(s, j)]).abs()).fold(0.0, f64::max)
        };
        loop {
            let [j, c] = [rng.random_range(0..z.ncols()), rng.random_range(0..m)];
            let most = (0..z.ncols()).map(|j| makes(j, c)).fold(0.0, f64::max);
            if makes(j, c) >= 1e-6 * most {
                return [j, c];
            }
        }
    }
}

const FUNCTIONS: usize = 400;

#[test]
fn smooth_functions_of_all_scales_raise_no_alarm() {
    let mut alarms = Vec::new();
    for seed in 0..FUNCTIONS {
        let (smooth, z) = Smooth::random(&mut ChaCha8Rng::seed_from_u64(seed as u64));
        let comparisons = check(&smooth.example(GIVEN[seed % 3], |_| ()), &z);
        assert_eq!(comparisons.len(), 9);
        alarms.extend(comparisons.into_iter().filter(|c| !c.right() || c.kink).map(|c| (seed, c)));
        let worst = alarms.iter().map(|(_, c)| c.error).fold(0.0, f64::max);
        assert!(worst.is_finite(), "{alarms:#?}");
    }
    assert!(alarms.is_empty(), "{} alarms: {alarms:#?}", alarms.len());
}

#[test]
fn a_wrong_entry_is_found_in_every_smooth_function() {
    let mut missed = Vec::new();
    for seed in 0..FUNCTIONS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let (smooth, z) = Smooth::random(&mut rng);
        let [j, c] = smooth.entry(&z, &mut rng);
        let (q, m) = (z.ncols(), smooth.outcomes.len());
        let square = q.min(m);
        let damage = move |block: &mut Vec<f64>| match seed % 4 {
            0 => block[j * m + c] = 0.0,
            1 => block[j * m + c] *= 2.0,
            2 if square > 1 => {
                for c in 0..square {
                    (0..c).for_each(|j| block.swap(j * m + c, c * m + j));
                }
            }
            _ => block[j * m + c] *= -1.0,
        };
        let found = wrong(&check(&smooth.example(GIVEN[seed / 4 % 3], damage), &z));
        if found != ["simulator: jvp", "simulator: vjp", "simulator: block"] {
            missed.push((seed, found));
        }
    }
    assert!(missed.is_empty(), "{} of {FUNCTIONS} missed: {missed:#?}", missed.len());
}

#[test]
fn the_step_fits_the_size_of_the_control() {
    for z in [0.0, 1e-12, 1.0, 1e4, 1e8, 1e12] {
        let control = Mat::from_fn(1, 1, |_, _| z);
        let comparisons = check(&Example::square(1.0), &control);
        assert!(wrong(&comparisons).is_empty(), "{z}: {comparisons:#?}");
        if z != 0.0 {
            let found = wrong(&check(&Example::square(1.0 + 1e-5), &control));
            assert_eq!(found, ["simulator: jvp", "simulator: vjp", "simulator: block"], "{z}");
        }
    }
    let all = Mat::from_fn(4, 1, |s, _| [1.0, 1e4, 1e8, 1e12][s]);
    assert!(wrong(&check(&Example::square(1.0), &all)).is_empty());
    assert_eq!(wrong(&check(&Example::square(1.01), &all)).len(), 3);
}

#[test]
fn what_stays_the_same_up_to_round_off_raises_no_alarm() {
    let conserved = |z: &[f64]| {
        let (s, x) = (z[0] + z[1], z[0]);
        vec![s.sin().powi(2) + s.cos().powi(2), (x + 100.0) - x - 100.0, x / 3.0 * 3.0 - x, s]
    };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..50 {
        let control = Mat::from_fn(8, 2, |_, _| rng.random::<f64>() + 0.1);
        let block = |_: &[f64]| [[0.0, 0.0, 0.0, 1.0]; 2].concat();
        let comparisons = check(&Example::new([2, 4], conserved, block), &control);
        assert!(wrong(&comparisons).is_empty(), "{comparisons:#?}");
        let block = |_: &[f64]| [[0.0, 0.0, 1e-3, 1.0], [0.0, 0.0, 0.0, 1.0]].concat();
        assert_eq!(wrong(&check(&Example::new([2, 4], conserved, block), &control)).len(), 3);
    }
}

#[test]
fn a_function_that_depends_on_earlier_calls_is_found_out() {
    let couple = |given: Given, flaw: Flaw| {
        let example = Example::new(
            [2, 2],
            |z| vec![z[0] * z[0] + 1.0, z[0] * z[1] + 2.0],
            |z| vec![2.0 * z[0], z[1], 0.0, z[0]],
        );
        let control = Mat::from_fn(6, 2, |s, j| 0.4 + s as f64 - 0.3 * j as f64);
        wrong(&check(&Example { given, flaw, ..example }, &control))
    };
    for given in GIVEN {
        assert!(couple(given, Flaw::None).is_empty());
        let own = match given {
            Given::Jvp => "simulator: jvp, called again",
            Given::Vjp => "simulator: vjp, called again",
            Given::Block => "simulator: block, called again",
        };
        assert!(couple(given, Flaw::DerivativeAdds).contains(&own), "{given:?}");
        assert!(couple(given, Flaw::OutcomeAdds).contains(&"simulator: outcome, called again"), "{given:?}");
        assert!(couple(given, Flaw::ChunkMean).contains(&"simulator: in other chunks"), "{given:?}");
        assert_eq!(couple(given, Flaw::OldTape), ["simulator: with a used tape"], "{given:?}");
    }
    assert!(couple(Given::Block, Flaw::SkipsZeros).contains(&"simulator: block, called again"));
}

#[test]
fn at_a_kink_what_lies_between_the_two_sides_is_right() {
    let at = |z: f64, slope: f64| {
        let example = Example::new([1, 1], |z| vec![z[0].max(0.0)], move |_| vec![slope]);
        let comparisons = check(&example, &Mat::from_fn(3, 1, |s, _| if s == 0 { z } else { 1e3 * z }));
        (wrong(&comparisons).len(), comparisons[..3].iter().filter(|c| c.kink).count())
    };
    for (slope, verdict) in [(0.0, (0, 3)), (0.5, (0, 0)), (1.0, (0, 3)), (1.1, (3, 0)), (-0.1, (3, 0))] {
        assert_eq!(at(0.0, slope), verdict, "{slope}");
    }
    // Not at the kink, however near.
    assert_eq!(at(1e-13, 1.0), (0, 0));
    assert_eq!(at(1e-13, 0.0), (3, 0));
    let floor = Example::new([1, 1], |z| vec![z[0].floor()], |_| vec![0.0]);
    let comparisons = check(&floor, &Mat::from_fn(1, 1, |_, _| 2.0));
    assert!(comparisons[0].resolution > 1.0 && !comparisons[0].kink, "a jump has no derivative");
}

#[test]
fn a_simulator_that_fails_at_large_steps_is_checked_with_small_ones() {
    let log = |slip: f64| {
        let example =
            Example::new([1, 1], |z| vec![(z[0] - 0.999).ln()], move |z| vec![slip / (z[0] - 0.999)]);
        wrong(&check(&example, &Mat::from_fn(2, 1, |_, _| 1.0)))
    };
    assert!(log(1.0).is_empty());
    assert_eq!(log(1.0001).len(), 3);
}

#[test]
fn what_cannot_be_checked_is_refused_in_a_sentence() {
    let says = |example: &dyn Simulator, control: Mat<f64>, words: &str| {
        let none = Mat::zeros(control.nrows(), 0);
        let error = check::simulator(example, none.as_ref(), control.as_ref(), 1).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let square = Example::square(1.0);
    says(&square, Mat::zeros(0, 1), "the controls: expected 1 sample or more, found 0");
    says(&square, Mat::zeros(3, 2), "the controls: expected 1 columns, found 2");
    let nan = Mat::from_fn(2, 1, |s, _| if s == 1 { f64::NAN } else { 1.0 });
    says(&square, nan, "of sample 1 failed: its outcome 0 is NaN; give controls at which it is finite");
    says(&Patterned, Mat::zeros(2, 1), "the simulator's pattern: expected 1 outcomes, found 3");
}

/// Names an outcome that it does not have.
struct Patterned;

impl Simulator for Patterned {
    fn controls(&self) -> usize {
        1
    }

    fn outcomes(&self) -> usize {
        1
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        outcome.copy_from(control);
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::jvp(|at, tangent, out| self.simulate(at.initial, tangent, out, None))
    }

    fn pattern(&self) -> Pattern {
        Pattern::Sparse(vec![vec![2]])
    }
}
