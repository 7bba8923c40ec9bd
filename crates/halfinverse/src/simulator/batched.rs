//! A simulator over a whole mini-batch: fixed chunks of samples, in turn or on several threads.
//!
//! The chunks do not depend on the number of threads and no sum runs across them, so neither do the results.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use rayon::prelude::*;

use super::{Point, Simulator, SimulatorError};

/// Samples per chunk: a multiple of every vector width, small enough for its record to stay in the cache.
const CHUNK: usize = 32;

/// The records of one mini-batch, a chunk each, and how many threads share the chunks.
#[derive(Debug, Clone)]
pub(crate) struct Batched {
    threads: usize,
    records: Vec<Vec<f64>>,
}

impl Batched {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, records: Vec::new() }
    }

    /// y from z; keeps the record for the derivatives if `recording`.
    pub(crate) fn forward(
        &mut self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        recording: bool,
    ) -> Result<(), SimulatorError> {
        self.records.resize_with(control.nrows().div_ceil(CHUNK), Vec::new);
        let run = |i: usize, outcome: MatMut<'_, f64>, record: &mut Vec<f64>| {
            let length = if recording { simulator.record_len(outcome.nrows()) } else { 0 };
            record.resize(length, 0.0);
            simulator.forward(rows(initial, i), rows(control, i), outcome, record)
        };
        if self.threads > 1 {
            let chunks = outcome.par_row_chunks_mut(CHUNK).zip(&mut self.records);
            chunks.enumerate().try_for_each(|(i, (outcome, record))| run(i, outcome, record))
        } else {
            let mut chunks = self.records.iter_mut().enumerate();
            chunks.try_for_each(|(i, record)| run(i, rows_mut(outcome.rb_mut(), i), record))
        }
    }

    /// z̄ from ȳ, at the arguments of the last recording `forward`.
    pub(crate) fn vjp(
        &self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        cotangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        self.each_chunk(out, |i, out| simulator.vjp(self.point(initial, control, i), rows(cotangent, i), out))
    }

    /// ∂y/∂z, at the arguments of the last recording `forward`.
    pub(crate) fn block(
        &self,
        simulator: &dyn Simulator,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        self.each_chunk(out, |i, out| simulator.block(self.point(initial, control, i), out))
    }

    fn point<'a>(&'a self, initial: MatRef<'a, f64>, control: MatRef<'a, f64>, i: usize) -> Point<'a> {
        Point { initial: rows(initial, i), control: rows(control, i), record: &self.records[i] }
    }

    fn each_chunk(
        &self,
        mut out: MatMut<'_, f64>,
        run: impl Fn(usize, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync,
    ) -> Result<(), SimulatorError> {
        if self.threads > 1 {
            out.par_row_chunks_mut(CHUNK).enumerate().try_for_each(|(i, out)| run(i, out))
        } else {
            (0..out.nrows().div_ceil(CHUNK)).try_for_each(|i| run(i, rows_mut(out.rb_mut(), i)))
        }
    }
}

/// The samples of chunk `i`.
fn rows(matrix: MatRef<'_, f64>, i: usize) -> MatRef<'_, f64> {
    let start = i * CHUNK;
    matrix.subrows(start, CHUNK.min(matrix.nrows() - start))
}

fn rows_mut(matrix: MatMut<'_, f64>, i: usize) -> MatMut<'_, f64> {
    let start = i * CHUNK;
    let count = CHUNK.min(matrix.nrows() - start);
    matrix.subrows_mut(start, count)
}
