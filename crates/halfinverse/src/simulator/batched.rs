//! A simulator over a whole mini-batch: fixed chunks of samples, in turn or on several threads.
//!
//! The chunks do not depend on the number of threads and no sum runs across them, so neither do the results.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use rayon::prelude::*;

use super::{Point, Simulator, SimulatorError, Tape};

/// The tapes of one mini-batch, a chunk each, and how many threads share the chunks.
#[derive(Debug)]
pub(crate) struct Batched {
    threads: usize,
    tapes: Vec<Tape>,
}

impl Batched {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, tapes: Vec::new() }
    }

    /// y from z; keeps tapes for the derivatives if `recording`.
    pub(crate) fn simulate(
        &mut self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        recording: bool,
    ) -> Result<(), SimulatorError> {
        let size = chunk(simulator, control.nrows());
        self.tapes.resize_with(control.nrows().div_ceil(size), Tape::default);
        let run = |i: usize, outcome: MatMut<'_, f64>, tape: &mut Tape| {
            let (initial, control) = (rows(initial, (i, size)), rows(control, (i, size)));
            simulator.simulate(initial, control, outcome, recording.then_some(tape))
        };
        each_chunk(self.threads, size, outcome, &mut self.tapes, run)
    }

    /// ẏ from ż where there is `jvp`, at the arguments of the last recording `simulate`.
    pub(crate) fn jvp(
        &mut self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        tangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        let derivative = simulator.derivative();
        self.derive(simulator, (initial, control), out, |at, part, out| {
            derivative.apply(at, rows(tangent, part), out)
        })
    }

    /// z̄ from ȳ, at the arguments of the last recording `simulate`.
    pub(crate) fn vjp(
        &mut self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        cotangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        let derivative = simulator.derivative();
        self.derive(simulator, (initial, control), out, |at, part, out| {
            derivative.apply_transpose(simulator, at, rows(cotangent, part), out)
        })
    }

    /// ∂y/∂z, at the arguments of the last recording `simulate`.
    pub(crate) fn block(
        &mut self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        let derivative = simulator.derivative();
        self.derive(simulator, (initial, control), out, |at, _, out| {
            derivative.fill_block(simulator, at, out)
        })
    }

    /// A derivative chunk by chunk; `of` is given the chunk's point, and which chunk of what size it is.
    fn derive(
        &mut self,
        simulator: &dyn Simulator,
        (initial, control): (MatRef<'_, f64>, MatRef<'_, f64>),
        out: MatMut<'_, f64>,
        of: impl Fn(Point<'_>, (usize, usize), MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync,
    ) -> Result<(), SimulatorError> {
        let size = chunk(simulator, control.nrows());
        let run = |i: usize, out: MatMut<'_, f64>, tape: &mut Tape| {
            let part = (i, size);
            of(Point { initial: rows(initial, part), control: rows(control, part), tape }, part, out)
        };
        each_chunk(self.threads, size, out, &mut self.tapes, run)
    }
}

/// Samples of a chunk.
fn chunk(simulator: &dyn Simulator, samples: usize) -> usize {
    simulator.chunk().unwrap_or(samples).max(1)
}

/// Runs every chunk; errors name their sample by its position in the mini-batch.
fn each_chunk(
    threads: usize,
    size: usize,
    mut out: MatMut<'_, f64>,
    tapes: &mut [Tape],
    run: impl Fn(usize, MatMut<'_, f64>, &mut Tape) -> Result<(), SimulatorError> + Sync,
) -> Result<(), SimulatorError> {
    let run = |i: usize, out: MatMut<'_, f64>, tape: &mut Tape| {
        run(i, out, tape)
            .map_err(|error| SimulatorError { sample: error.sample.map(|s| i * size + s), ..error })
    };
    if threads > 1 && tapes.len() > 1 {
        let chunks = out.par_row_chunks_mut(size).zip(tapes);
        chunks.enumerate().try_for_each(|(i, (out, tape))| run(i, out, tape))
    } else {
        tapes.iter_mut().enumerate().try_for_each(|(i, tape)| run(i, rows_mut(out.rb_mut(), i, size), tape))
    }
}

/// The samples of chunk `i`.
fn rows(matrix: MatRef<'_, f64>, (i, size): (usize, usize)) -> MatRef<'_, f64> {
    let start = i * size;
    matrix.subrows(start, size.min(matrix.nrows() - start))
}

fn rows_mut(matrix: MatMut<'_, f64>, i: usize, size: usize) -> MatMut<'_, f64> {
    let start = i * size;
    let count = size.min(matrix.nrows() - start);
    matrix.subrows_mut(start, count)
}
