//! A simulator's derivatives against differences of its outcomes, and its results against those of other calls.

use std::ops::Range;

use faer::{Mat, MatMut, MatRef};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Comparison;
use super::reference::{Direction, Reference, directions, groups};
use crate::error::ShapeError;
use crate::linear::columns::{from_rows, to_rows};
use crate::simulator::{
    Batched, Derivative, Pattern, Simulator, SimulatorError, Tape, block_cotangent, block_tangent,
};

/// A simulator at the given initial states and controls (a few samples are enough).
///
/// `jvp`, `vjp` and `block` are compared with differences. Each function is called again, to write over NaN, and must
/// give the same; so must all of them one sample at a time, in chunks of three, and with tapes that were used for
/// other samples.
///
/// Costs 6 to 16 simulations per direction, of which there are at most eight, and some twenty more with derivatives.
///
/// # Errors
/// When the simulator fails, its outcome is not finite, or shapes do not fit.
pub fn simulator(
    simulator: &dyn Simulator,
    initial: MatRef<'_, f64>,
    control: MatRef<'_, f64>,
    seed: u64,
) -> Result<Vec<Comparison>, SimulatorError> {
    check_shapes(simulator, initial, control).map_err(|error| SimulatorError::new(error.to_string()))?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (b, m) = (control.nrows(), simulator.outcomes());
    let size = simulator.chunk().unwrap_or(b).clamp(1, b);
    let chunks = |size| Chunks { simulator, size };
    let simulate = |control: MatRef<'_, f64>| {
        let mut outcome = Mat::zeros(b, m);
        let mut batched = Batched::new(1);
        batched.simulate(&chunks(size), initial, control, outcome.as_mut(), false)?;
        Ok::<_, SimulatorError>(rows(outcome.as_ref()))
    };
    let outcome = simulate(control)?;
    if let Some(i) = outcome.iter().position(|y| !y.is_finite()) {
        let reason = format!("its outcome {} is {}; give controls at which it is finite", i % m, outcome[i]);
        return Err(SimulatorError::of_sample(i / m, reason));
    }
    let directions = directions(control, &mut rng);
    let shifted = |t: f64, of: &Direction| simulate(of.moved(control, t).as_ref());
    let tangents = Reference::measure(["control", "outcome"], &directions, m, &outcome, shifted)?;
    let cotangent = tangents.cotangent(&mut rng);
    let groups = groups(m);
    let cotangents = tangents.combine(&groups, &cotangent);

    let inputs = Inputs { initial, control, directions: &directions, groups: &groups, cotangent: &cotangent };
    let first = inputs.call(&chunks(size), &mut Batched::new(1), 0.0)?;
    let again = inputs.call(&chunks(size), &mut Batched::new(1), f64::NAN)?;
    let compare = |names: [&'static str; 4], other: &Results| {
        [
            tangents.compare_outcomes(names[0], &outcome, &other.outcome),
            tangents.expecting(&first.by_jvp).compare(names[1], &other.by_jvp),
            cotangents.expecting(&first.by_vjp).compare(names[2], &other.by_vjp),
            tangents.expecting(&first.by_block).compare(names[3], &other.by_block),
        ]
    };
    let mut comparisons = vec![
        tangents.compare("simulator: jvp", &first.by_jvp),
        cotangents.compare("simulator: vjp", &first.by_vjp),
        tangents.compare("simulator: block", &first.by_block),
    ];
    comparisons.extend(compare(AGAIN, &again));
    let mut in_chunks = Vec::new();
    for size in [1, 3.min(size)] {
        in_chunks.extend(compare([CHUNKS; 4], &inputs.call(&chunks(size), &mut Batched::new(1), 0.0)?));
    }
    let mut used = Batched::new(1);
    let (backwards, mut unused) =
        (|matrix: MatRef<'_, f64>| matrix.reverse_rows().to_owned(), Mat::zeros(b, m));
    let (turned, moved) = (backwards(initial), backwards(control));
    used.simulate(&chunks(size), turned.as_ref(), moved.as_ref(), unused.as_mut(), true)?;
    let with_used = compare([TAPE; 4], &inputs.call(&chunks(size), &mut used, 0.0)?);
    comparisons.extend([worst(in_chunks), worst(with_used.into())].into_iter().flatten());
    Ok(comparisons)
}

const AGAIN: [&str; 4] = [
    "simulator: outcome, called again",
    "simulator: jvp, called again",
    "simulator: vjp, called again",
    "simulator: block, called again",
];
const CHUNKS: &str = "simulator: in other chunks";
const TAPE: &str = "simulator: with a used tape";

fn check_shapes(
    simulator: &dyn Simulator,
    initial: MatRef<'_, f64>,
    control: MatRef<'_, f64>,
) -> Result<(), ShapeError> {
    let b = control.nrows();
    ShapeError::check("the controls", "columns", simulator.controls(), control.ncols())?;
    ShapeError::check("the controls", "sample or more", 1, b.min(1))?;
    ShapeError::check("the initial states", "columns", simulator.initials(), initial.ncols())?;
    ShapeError::check("the initial states", "samples", b, initial.nrows())?;
    simulator.pattern().check(simulator.controls(), simulator.outcomes())
}

/// The simulator in chunks of another size.
struct Chunks<'a> {
    simulator: &'a dyn Simulator,
    size: usize,
}

impl Simulator for Chunks<'_> {
    fn controls(&self) -> usize {
        self.simulator.controls()
    }

    fn outcomes(&self) -> usize {
        self.simulator.outcomes()
    }

    fn initials(&self) -> usize {
        self.simulator.initials()
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        self.simulator.simulate(initial, control, outcome, tape)
    }

    fn derivative(&self) -> Derivative<'_> {
        self.simulator.derivative()
    }

    fn chunk(&self) -> Option<usize> {
        Some(self.size)
    }

    fn pattern(&self) -> Pattern {
        self.simulator.pattern()
    }
}

/// Where a simulator and its derivatives are called, and along what.
struct Inputs<'a> {
    initial: MatRef<'a, f64>,
    control: MatRef<'a, f64>,
    directions: &'a [Direction],
    groups: &'a [Range<usize>],
    cotangent: &'a [f64],
}

/// What they give: y, and along each direction J v in two ways, and (Jᵀu)·v for each group of outcomes.
struct Results {
    outcome: Vec<f64>,
    by_jvp: Vec<Vec<f64>>,
    by_block: Vec<Vec<f64>>,
    by_vjp: Vec<Vec<f64>>,
}

impl Inputs<'_> {
    /// Every output holds `before` when it is handed out.
    fn call(
        &self,
        simulator: &Chunks<'_>,
        batched: &mut Batched,
        before: f64,
    ) -> Result<Results, SimulatorError> {
        let (initial, control) = (self.initial, self.control);
        let (b, q, m) = (control.nrows(), simulator.controls(), simulator.outcomes());
        let filled = |columns: usize| Mat::from_fn(b, columns, |_, _| before);
        let mut outcome = filled(m);
        batched.simulate(simulator, initial, control, outcome.as_mut(), true)?;
        let mut block = vec![before; b * q * m];
        let blocks = MatMut::from_column_major_slice_mut(&mut block, b, q * m);
        batched.block(simulator, initial, control, blocks)?;
        let pattern = simulator.pattern();
        let (mut by_jvp, mut by_block) = (Vec::new(), Vec::new());
        // What is not given follows from the blocks.
        let (jvp, vjp) = simulator.derivative().given();
        for direction in self.directions {
            let v = direction.whole(q);
            let mut tangent = Mat::zeros(b, m);
            block_tangent(&block, &pattern, v.as_ref(), tangent.as_mut());
            by_block.push(rows(tangent.as_ref()));
            if jvp {
                tangent = filled(m);
                batched.jvp(simulator, initial, control, v.as_ref(), tangent.as_mut())?;
            }
            by_jvp.push(rows(tangent.as_ref()));
        }
        let mut by_vjp = vec![vec![0.0; b * self.groups.len()]; self.directions.len()];
        let mut u = Mat::zeros(b, m);
        for (g, group) in self.groups.iter().enumerate() {
            from_rows(self.cotangent, u.as_mut());
            (0..m).filter(|c| !group.contains(c)).for_each(|c| u.col_as_slice_mut(c).fill(0.0));
            let mut back = filled(q);
            if vjp {
                batched.vjp(simulator, initial, control, u.as_ref(), back.as_mut())?;
            } else {
                block_cotangent(&block, &pattern, u.as_ref(), back.as_mut());
            }
            for (direction, products) in self.directions.iter().zip(&mut by_vjp) {
                for (s, product) in direction.dots(back.as_ref()).into_iter().enumerate() {
                    products[s * self.groups.len() + g] = product;
                }
            }
        }
        Ok(Results { outcome: rows(outcome.as_ref()), by_jvp, by_block, by_vjp })
    }
}

/// A batch matrix, sample-major.
fn rows(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let mut rows = vec![0.0; matrix.nrows() * matrix.ncols()];
    to_rows(matrix, &mut rows);
    rows
}

/// The one of the largest error.
fn worst(comparisons: Vec<Comparison>) -> Option<Comparison> {
    comparisons.into_iter().max_by(|a, b| a.error.total_cmp(&b.error))
}
