//! Products with the derivative of the discrete scheme, from the record of a forward pass.
//!
//! With Kᵢ = Jᵢ·Ẋᵢ + Bᵢ·u̇ the tangent of an explicit step is the step itself; its transpose, from x̄⁺ and from the
//! last stage to the first, is k̄ᵢ = h·bᵢ·x̄⁺ + h Σ_{j>i} aⱼᵢ X̄ⱼ, X̄ᵢ = Jᵢᵀ k̄ᵢ, ū += Bᵢᵀ k̄ᵢ, and x̄ = x̄⁺ + Σ X̄ᵢ.
//! For the implicit midpoint rule the implicit function theorem gives M Ẋ = ẋ + h/2·B u̇, ẋ⁺ = 2Ẋ − ẋ; transposed λ =
//! 2M⁻ᵀ x̄⁺, x̄ = λ − x̄⁺, ū += h/2·Bᵀ λ.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::method::Table;
use super::{Hold, Ode};
use crate::linear::columns::{column, column_mut};
use crate::simulator::Point;
use crate::simulator::lanes::{add_scaled, load, store};

/// What a sweep over W samples is made with.
struct Work<const W: usize> {
    /// ẋ or x̄.
    state: Vec<[f64; W]>,
    /// Ẋ and u̇ of a stage.
    stage: Vec<[f64; W]>,
    /// ū of an interval.
    pushed: Vec<[f64; W]>,
    /// A row for each stage: Kᵢ or X̄ᵢ.
    stages: Vec<[f64; W]>,
    /// k̄ of a stage, λ, or the right-hand side of M Ẋ = r.
    slope: Vec<[f64; W]>,
    outcome: Vec<[f64; W]>,
}

impl Ode {
    fn sweep_work<const W: usize>(&self) -> Work<W> {
        let zeros = |count: usize| vec![[0.0; W]; count];
        let n = self.states;
        Work {
            state: zeros(n),
            stage: zeros(n + self.controls),
            pushed: zeros(self.controls),
            stages: zeros(n * self.grid.method.stages()),
            slope: zeros(n),
            outcome: zeros(self.observe.count()),
        }
    }

    /// ẏ from u̇.
    #[inline(always)]
    pub(super) fn tangent<const W: usize>(
        &self,
        at: Point<'_>,
        tangent: MatRef<'_, f64>,
        mut out: MatMut<'_, f64>,
    ) {
        let (n, length) = (self.states, self.record_len());
        let (record, _) = at.tape.numbers().as_chunks::<W>();
        let mut work = self.sweep_work::<W>();
        for (group, start) in (0..tangent.nrows()).step_by(W).enumerate() {
            let record = &record[group * length..][..length];
            work.state.fill([0.0; W]);
            for interval in 0..self.grid.intervals {
                for c in 0..self.controls {
                    work.stage[n + c] = load(column(tangent, self.control_column(interval, c)), start);
                }
                for step in interval * self.grid.steps..(interval + 1) * self.grid.steps {
                    let record = &record[step * self.step_len()..][..self.step_len()];
                    match self.grid.method.table() {
                        Some(table) => self.explicit_tangent(table, &mut work, record),
                        None => self.implicit_tangent(&mut work, record),
                    }
                }
                if let Some(observation) = self.observation(interval) {
                    let record = self.observation_record(record, observation);
                    work.stage[..n].copy_from_slice(&work.state);
                    self.observe.partials().apply(record, &work.stage, &mut work.outcome);
                    let first = observation * self.observe.count();
                    for (c, &value) in work.outcome.iter().enumerate() {
                        store(value, column_mut(out.rb_mut(), first + c), start);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn explicit_tangent<const W: usize>(&self, table: &Table, work: &mut Work<W>, record: &[[f64; W]]) {
        let (n, dt) = (self.states, self.grid.dt);
        let recorded = self.slopes.partials().recorded();
        for (i, a) in table.a.iter().enumerate() {
            for d in 0..n {
                work.stage[d] = work.state[d];
                for (j, &a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
                    add_scaled(&mut work.stage[d], dt * a, &work.stages[j * n + d]);
                }
            }
            let partials = &record[i * recorded..][..recorded];
            self.slopes.partials().apply(partials, &work.stage, &mut work.stages[i * n..][..n]);
        }
        for d in 0..n {
            for (i, &b) in self.weights(table, d).iter().enumerate().filter(|(_, b)| **b != 0.0) {
                add_scaled(&mut work.state[d], dt * b, &work.stages[i * n + d]);
            }
        }
    }

    #[inline(always)]
    fn implicit_tangent<const W: usize>(&self, work: &mut Work<W>, record: &[[f64; W]]) {
        let (n, half) = (self.states, 0.5 * self.grid.dt);
        let (partials, inverse) = record.split_at(self.slopes.partials().recorded());
        work.stage[..n].fill([0.0; W]);
        self.slopes.partials().apply(partials, &work.stage, &mut work.stages);
        for d in 0..n {
            work.slope[d] = work.state[d];
            add_scaled(&mut work.slope[d], half, &work.stages[d]);
        }
        for row in 0..n {
            for l in 0..W {
                let middle: f64 = (0..n).map(|d| inverse[row * n + d][l] * work.slope[d][l]).sum();
                work.state[row][l] = 2.0 * middle - work.state[row][l];
            }
        }
    }

    /// ū from ȳ.
    #[inline(always)]
    pub(super) fn reverse<const W: usize>(
        &self,
        at: Point<'_>,
        cotangent: MatRef<'_, f64>,
        mut out: MatMut<'_, f64>,
    ) {
        let (n, length) = (self.states, self.record_len());
        let (record, _) = at.tape.numbers().as_chunks::<W>();
        let mut work = self.sweep_work::<W>();
        for (group, start) in (0..cotangent.nrows()).step_by(W).enumerate() {
            let record = &record[group * length..][..length];
            work.state.fill([0.0; W]);
            work.pushed.fill([0.0; W]);
            for interval in (0..self.grid.intervals).rev() {
                if self.grid.hold == Hold::Interval {
                    work.pushed.fill([0.0; W]);
                }
                if let Some(observation) = self.observation(interval) {
                    let record = self.observation_record(record, observation);
                    let first = observation * self.observe.count();
                    for (c, value) in work.outcome.iter_mut().enumerate() {
                        *value = load(column(cotangent, first + c), start);
                    }
                    let (partials, p) = (self.observe.partials(), self.controls);
                    partials.add_transpose(0..n, record, &work.outcome, &mut work.state);
                    partials.add_transpose(n..n + p, record, &work.outcome, &mut work.pushed);
                }
                for step in (interval * self.grid.steps..(interval + 1) * self.grid.steps).rev() {
                    let record = &record[step * self.step_len()..][..self.step_len()];
                    match self.grid.method.table() {
                        Some(table) => self.explicit_reverse(table, &mut work, record),
                        None => self.implicit_reverse(&mut work, record),
                    }
                }
                for c in 0..self.controls {
                    let column = column_mut(out.rb_mut(), self.control_column(interval, c));
                    store(work.pushed[c], column, start);
                }
            }
        }
    }

    #[inline(always)]
    fn explicit_reverse<const W: usize>(&self, table: &Table, work: &mut Work<W>, record: &[[f64; W]]) {
        let (n, dt) = (self.states, self.grid.dt);
        let recorded = self.slopes.partials().recorded();
        let stages = table.c.len();
        for i in (0..stages).rev() {
            for d in 0..n {
                let b = self.weights(table, d)[i];
                work.slope[d] = [0.0; W];
                add_scaled(&mut work.slope[d], dt * b, &work.state[d]);
                for j in (i + 1..stages).filter(|&j| table.a[j][i] != 0.0) {
                    add_scaled(&mut work.slope[d], dt * table.a[j][i], &work.stages[j * n + d]);
                }
            }
            let record = &record[i * recorded..][..recorded];
            let stage = &mut work.stages[i * n..][..n];
            stage.fill([0.0; W]);
            let partials = self.slopes.partials();
            partials.add_transpose(0..n, record, &work.slope, stage);
            partials.add_transpose(n..n + self.controls, record, &work.slope, &mut work.pushed);
        }
        for i in 0..stages {
            for d in 0..n {
                add_scaled(&mut work.state[d], 1.0, &work.stages[i * n + d]);
            }
        }
    }

    #[inline(always)]
    fn implicit_reverse<const W: usize>(&self, work: &mut Work<W>, record: &[[f64; W]]) {
        let (n, half) = (self.states, 0.5 * self.grid.dt);
        let (partials, inverse) = record.split_at(self.slopes.partials().recorded());
        for column in 0..n {
            for l in 0..W {
                let sum: f64 = (0..n).map(|d| inverse[d * n + column][l] * work.state[d][l]).sum();
                work.slope[column][l] = 2.0 * sum;
                work.stages[column][l] = 2.0 * half * sum;
            }
        }
        let controls = n..n + self.controls;
        self.slopes.partials().add_transpose(controls, partials, &work.stages, &mut work.pushed);
        for d in 0..n {
            for l in 0..W {
                work.state[d][l] = work.slope[d][l] - work.state[d][l];
            }
        }
    }

    /// The part of a record that belongs to an observation.
    fn observation_record<'r, const W: usize>(
        &self,
        record: &'r [[f64; W]],
        observation: usize,
    ) -> &'r [[f64; W]] {
        let recorded = self.observe.partials().recorded();
        &record[self.steps_len() + observation * recorded..][..recorded]
    }
}
