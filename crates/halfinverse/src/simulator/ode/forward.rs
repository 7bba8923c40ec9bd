//! From an initial state to the outcome, with a record for the derivatives.
//!
//! The record of W samples: for each step the partial derivatives of the slopes at each stage (and M⁻¹ of the implicit
//! midpoint rule, M = 1 − h/2·∂f/∂x), then those of the observed quantities at each observation.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::Ode;
use super::method::{Table, solve};
use crate::linear::columns::{column, column_mut};
use crate::simulator::SimulatorError;
use crate::simulator::lanes::{add_scaled, load, store};

/// Newton's iterations of an implicit step. From the state before, two or three do for a step that resolves the
/// solution.
const MOST_ITERATIONS: usize = 30;
/// A correction this small, relative to the state, was the last: convergence is quadratic.
const SMALL: f64 = 1e-11;

/// What the steps of W samples are made with.
struct Work<const W: usize> {
    /// The slopes' slots, with a stage's state and the control in front.
    slots: Vec<[f64; W]>,
    /// The same of what is observed.
    observed: Vec<[f64; W]>,
    state: Vec<[f64; W]>,
    /// One for each stage.
    slopes: Vec<[f64; W]>,
    /// Partial derivatives of a stage, where they are not recorded.
    partials: Vec<[f64; W]>,
    outcome: Vec<[f64; W]>,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

/// An implicit step that Newton's method did not find.
struct NoStep {
    lane: usize,
}

impl Ode {
    /// Records where there is room for it. `after_step` sees every new state.
    #[inline(always)]
    pub(super) fn forward<const W: usize>(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        record: &mut [f64],
        mut after_step: impl FnMut(&[[f64; W]]),
    ) -> Result<(), SimulatorError> {
        let recording = !record.is_empty();
        let mut work = self.work::<W>(recording);
        let (record, _) = record.as_chunks_mut::<W>();
        let mut records = record.chunks_exact_mut(self.record_len().max(1));
        let dt = self.grid.dt;
        for start in (0..control.nrows()).step_by(W) {
            let record = records.next().unwrap_or_default();
            let (of_steps, of_observations) =
                record.split_at_mut(if recording { self.steps_len() } else { 0 });
            let mut of_steps = of_steps.chunks_exact_mut(self.step_len().max(1));
            let mut of_observations =
                of_observations.chunks_exact_mut(self.observe.partials().recorded().max(1));
            self.begin(&mut work, initial, start);
            for interval in 0..self.grid.intervals {
                self.take_control(&mut work, control, start, interval);
                for step in interval * self.grid.steps..(interval + 1) * self.grid.steps {
                    let (t, record) = (step as f64 * dt, of_steps.next().unwrap_or_default());
                    if let Some(table) = self.grid.method.table() {
                        self.explicit_step(table, t, recording, &mut work, record);
                    } else {
                        let count = W.min(control.nrows() - start);
                        self.implicit_step(t, count, &mut work, record).map_err(|NoStep { lane }| {
                            let reason = format!(
                                "Newton's method finds no implicit step from t = {t}; take a smaller simulator.dt"
                            );
                            SimulatorError::of_sample(start + lane, reason)
                        })?;
                    }
                    after_step(&work.state);
                }
                if let Some(observation) = self.observation(interval) {
                    let record = of_observations.next().unwrap_or_default();
                    let t = ((interval + 1) * self.grid.steps) as f64 * dt;
                    work.observed[..self.states].copy_from_slice(&work.state);
                    self.observe.evaluate(recording, t, &mut work.observed, &mut work.outcome, record);
                    let first = observation * work.outcome.len();
                    for (c, &value) in work.outcome.iter().enumerate() {
                        store(value, column_mut(outcome.rb_mut(), first + c), start);
                    }
                }
            }
        }
        Ok(())
    }

    fn work<const W: usize>(&self, recording: bool) -> Work<W> {
        let (n, implicit) = (self.states, self.grid.method.table().is_none());
        Work {
            slots: self.slopes.slots(recording || implicit),
            observed: self.observe.slots(recording),
            state: vec![[0.0; W]; n],
            slopes: vec![[0.0; W]; n * self.grid.method.stages()],
            partials: vec![[0.0; W]; if implicit { self.slopes.partials().recorded() } else { 0 }],
            outcome: vec![[0.0; W]; self.observe.count()],
            matrix: vec![0.0; if implicit { n * n } else { 0 }],
            right: vec![0.0; if implicit { n * n } else { 0 }],
        }
    }

    #[inline(always)]
    fn begin<const W: usize>(&self, work: &mut Work<W>, initial: MatRef<'_, f64>, start: usize) {
        let mut drawn = 0;
        for (state, fixed) in work.state.iter_mut().zip(&self.starts) {
            *state = if let Some(value) = *fixed {
                [value; W]
            } else {
                drawn += 1;
                load(column(initial, drawn - 1), start)
            };
        }
    }

    #[inline(always)]
    fn take_control<const W: usize>(
        &self,
        work: &mut Work<W>,
        control: MatRef<'_, f64>,
        start: usize,
        interval: usize,
    ) {
        for c in 0..self.controls {
            let lanes = load(column(control, self.control_column(interval, c)), start);
            work.slots[self.states + c] = lanes;
            work.observed[self.states + c] = lanes;
        }
    }

    #[inline(always)]
    fn explicit_step<const W: usize>(
        &self,
        table: &Table,
        t: f64,
        derive: bool,
        work: &mut Work<W>,
        record: &mut [[f64; W]],
    ) {
        let (n, dt) = (self.states, self.grid.dt);
        let recorded = self.slopes.partials().recorded();
        for (i, a) in table.a.iter().enumerate() {
            for d in 0..n {
                work.slots[d] = work.state[d];
                for (j, &a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
                    add_scaled(&mut work.slots[d], dt * a, &work.slopes[j * n + d]);
                }
            }
            let partials = if derive { &mut record[i * recorded..][..recorded] } else { &mut [][..] };
            let slopes = &mut work.slopes[i * n..][..n];
            self.slopes.evaluate(derive, t + table.c[i] * dt, &mut work.slots, slopes, partials);
        }
        for d in 0..n {
            let weights = self.weights(table, d);
            for (i, &b) in weights.iter().enumerate().filter(|(_, b)| **b != 0.0) {
                add_scaled(&mut work.state[d], dt * b, &work.slopes[i * n + d]);
            }
        }
    }

    /// Weights of a component.
    #[inline(always)]
    pub(super) fn weights(&self, table: &Table, component: usize) -> &'static [f64] {
        if self.positions[component] { table.b } else { table.b_other }
    }

    /// X = x + h/2·f(X, u, t + h/2), x⁺ = 2X − x, in the first `count` samples; a sample that has converged is left
    /// alone, so that none depends on its neighbours. NaN counts as converged and passes through.
    #[inline(always)]
    fn implicit_step<const W: usize>(
        &self,
        t: f64,
        count: usize,
        work: &mut Work<W>,
        record: &mut [[f64; W]],
    ) -> Result<(), NoStep> {
        let (n, half) = (self.states, 0.5 * self.grid.dt);
        let mut open = [false; W];
        open[..count].fill(true);
        work.slots[..n].copy_from_slice(&work.state);
        for _ in 0..MOST_ITERATIONS {
            self.slopes.evaluate(true, t + half, &mut work.slots, &mut work.slopes, &mut work.partials);
            for lane in 0..count {
                open[lane] = open[lane] && self.correct(work, lane);
            }
            if open == [false; W] {
                break;
            }
        }
        if let Some(lane) = open.iter().position(|&open| open) {
            return Err(NoStep { lane });
        }
        if !record.is_empty() {
            let (partials, inverse) = record.split_at_mut(work.partials.len());
            self.slopes.evaluate(true, t + half, &mut work.slots, &mut work.slopes, partials);
            for lane in 0..count {
                self.fill_matrix(&mut work.matrix, partials, lane);
                work.right.fill(0.0);
                work.right.iter_mut().step_by(n + 1).for_each(|entry| *entry = 1.0);
                solve(&mut work.matrix, &mut work.right, n);
                inverse.iter_mut().zip(&work.right).for_each(|(out, &entry)| out[lane] = entry);
            }
        }
        for d in 0..n {
            for l in 0..W {
                work.state[d][l] = 2.0 * work.slots[d][l] - work.state[d][l];
            }
        }
        Ok(())
    }

    /// One correction by Newton's method in one sample; whether another is needed.
    fn correct<const W: usize>(&self, work: &mut Work<W>, lane: usize) -> bool {
        let (n, half) = (self.states, 0.5 * self.grid.dt);
        self.fill_matrix(&mut work.matrix, &work.partials, lane);
        let right = &mut work.right[..n];
        for d in 0..n {
            right[d] = work.state[d][lane] + half * work.slopes[d][lane] - work.slots[d][lane];
        }
        solve(&mut work.matrix, right, n);
        let (mut largest, mut size, mut finite) = (0.0_f64, 0.0_f64, true);
        for d in 0..n {
            work.slots[d][lane] += right[d];
            largest = largest.max(right[d].abs());
            size = size.max(work.slots[d][lane].abs());
            finite &= work.slots[d][lane].is_finite();
        }
        finite && largest > SMALL * size
    }

    /// M = 1 − h/2·∂f/∂x of one sample.
    fn fill_matrix<const W: usize>(&self, matrix: &mut [f64], partials: &[[f64; W]], lane: usize) {
        let (n, half) = (self.states, 0.5 * self.grid.dt);
        matrix.fill(0.0);
        for row in 0..n {
            matrix[row * n + row] = 1.0;
            for entry in self.slopes.partials().row(row).iter().filter(|entry| entry.column < n) {
                matrix[row * n + entry.column] -= half * entry.value(partials, lane);
            }
        }
    }
}
