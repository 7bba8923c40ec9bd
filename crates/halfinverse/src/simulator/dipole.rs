//! A quantum state in a box, steered by the strength of a dipole field.
//!
//! iψ′ = (−∂² + u(t)·x)ψ on [0, length], ψ = 0 at the walls; second differences on the interior points xⱼ = j·dx,
//! dx = length/(points + 1); Crank–Nicolson in time, u constant within a step, all units dimensionless:
//!
//! (I + i dt/2 H)ψ⁺ = (I − i dt/2 H)ψ
//!
//! | symbol | shape | what |
//! |---|---|---|
//! | y₀, y | 2·points | ψ at the start and after the last step, per grid point real and imaginary part |
//! | z | steps | the field u of each step |
//!
//! With w = (I + i dt/2 H)⁻¹ψ a step is ψ⁺ = 2w − ψ: one tridiagonal solve, and Σ|ψ|² is kept to round-off. H is
//! symmetric, so the transposed step is the same step: a cotangent λ goes back by ω = (I + i dt/2 H)⁻¹λ, λ ← 2ω − λ,
//! and since ψ + ψ⁺ = 2w the derivative with respect to u is −i dt Σⱼ xⱼ ωⱼ wⱼ. That is the exact derivative of the
//! discrete scheme. The final state depends on ψ complex-linearly, so one complex sweep per grid point serves the
//! rows of its real and of its imaginary part.
//!
//! Crank–Nicolson steps are stable with every dt, so no setting makes a simulation grow.
//!
//! The pivots of the elimination and w are recorded: 4·points·steps numbers per sample. A forward pass costs about
//! 40·points·steps operations per sample, a sweep about 30·points·steps.
//!
//! Source: the quantum dipole problem of Schnell, Holl, Thuerey, ICLR 2022, and its published constants; Crank,
//! Nicolson, 1947.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::lanes::{Complex, Lanes, WIDTH, combine, load, scale, store};
use super::{Derivative, Point, Setup, Simulator, SimulatorError, Tape};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// Constants of the box and its discretization; the default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DipoleSettings {
    /// Number of interior grid points.
    pub points: usize,
    /// Length of the box.
    pub length: f64,
    /// Length of a time step.
    pub dt: f64,
    /// Number of time steps, and of control values.
    pub steps: usize,
    /// Which eigenstate of the box without field the state starts in, from 1.
    pub initial_state: usize,
    /// Which eigenstates the targets are combined from, from 1.
    pub target_states: Vec<usize>,
}

impl Default for DipoleSettings {
    fn default() -> Self {
        Self { points: 14, length: 2.0, dt: 0.05, steps: 384, initial_state: 1, target_states: vec![2, 3] }
    }
}

/// The state in its box; the [module](self) has its equations.
#[derive(Debug, Clone, PartialEq)]
pub struct Dipole {
    settings: DipoleSettings,
}

impl Dipole {
    /// A box with the given constants.
    ///
    /// # Errors
    /// When a count is 0 or beyond its bound, a length not positive and finite, or a named eigenstate not on the grid.
    ///
    /// # Example
    /// ```
    /// use halfinverse::simulator::{Dipole, DipoleSettings, Simulator};
    /// let dipole = Dipole::new(DipoleSettings::default())?;
    /// assert_eq!((dipole.controls(), dipole.outcomes()), (384, 28));
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: DipoleSettings) -> Result<Self, SettingError> {
        for (key, count, most) in [("points", settings.points, 4096), ("steps", settings.steps, 100_000)] {
            if count == 0 || count > most {
                return Err(SettingError::new(key, count, format!("from 1 to {most}")));
            }
        }
        for (key, length) in [("length", settings.length), ("dt", settings.dt)] {
            if !(length > 0.0 && length.is_finite()) {
                return Err(SettingError::new(key, length, "positive and finite"));
            }
        }
        let on_grid = |state: usize| (1..=settings.points).contains(&state);
        let expected = format!("from 1 to the number of grid points, points = {}", settings.points);
        if !on_grid(settings.initial_state) {
            return Err(SettingError::new("initial_state", settings.initial_state, expected));
        }
        let targets = &settings.target_states;
        if targets.is_empty() || !targets.iter().all(|&state| on_grid(state)) {
            let expected = format!("a list of eigenstates, each {expected}");
            return Err(SettingError::new("target_states", format!("{targets:?}"), expected));
        }
        Ok(Self { settings })
    }

    /// The constants.
    #[must_use]
    pub fn settings(&self) -> &DipoleSettings {
        &self.settings
    }

    /// Eigenstate `n` (from 1) of the box without field, real and of length 1.
    #[must_use]
    pub fn eigenstate(&self, n: usize) -> Vec<f64> {
        let intervals = (self.settings.points + 1) as f64;
        let phase = |j: usize| std::f64::consts::PI * (n * j) as f64 / intervals;
        (1..=self.settings.points).map(|j| (2.0 / intervals).sqrt() * phase(j).sin()).collect()
    }

    /// ψ of the first sample at every time, steps + 1 of them, each as real and imaginary parts by grid point.
    #[must_use]
    pub fn trajectory(&self, initial: MatRef<'_, f64>, control: MatRef<'_, f64>) -> Vec<Vec<f64>> {
        let mut states = vec![(0..self.outcomes()).map(|c| initial[(0, c)]).collect()];
        let mut psi = self.load_state(initial, 0);
        let mut room = vec![[Complex::default(); 2]; self.settings.points];
        for step in 0..self.settings.steps {
            self.step(load(column(control, step), 0), &mut psi, &mut room);
            states.push(psi.iter().flat_map(|psi| [psi.re[0], psi.im[0]]).collect());
        }
        states
    }

    /// dt/2 and the off-diagonal entry γ of dt/2·H.
    fn half_step(&self) -> (f64, f64, f64) {
        let dx = self.settings.length / (self.settings.points + 1) as f64;
        let half = 0.5 * self.settings.dt;
        (half, dx, -half / (dx * dx))
    }

    fn load_state(&self, state: MatRef<'_, f64>, start: usize) -> Vec<Complex> {
        let part = |c: usize| load(column(state, c), start);
        (0..self.settings.points).map(|j| Complex { re: part(2 * j), im: part(2 * j + 1) }).collect()
    }

    /// One step of ψ under u; leaves pivots' inverses and w in `record`, one pair per grid point.
    #[inline(always)]
    fn step(&self, u: Lanes, psi: &mut [Complex], record: &mut [[Complex; 2]]) {
        let (half, dx, gamma) = self.half_step();
        let mut before = Complex::default();
        for (j, pair) in record.iter_mut().enumerate() {
            // The diagonal 1 + i·half·(2/dx² + u·x), less (iγ)² over the pivot before.
            let potential = scale(half * (j + 1) as f64 * dx, u);
            let mut pivot = Complex { re: [1.0; WIDTH], im: combine([-2.0 * gamma; WIDTH], 1.0, potential) };
            pivot.re = combine(pivot.re, gamma * gamma, before.re);
            pivot.im = combine(pivot.im, gamma * gamma, before.im);
            before = pivot.inverse();
            pair[0] = before;
        }
        solve(gamma, psi, record);
        for (psi, pair) in psi.iter_mut().zip(&*record) {
            *psi = pair[1].doubled_minus(*psi);
        }
    }

    #[inline(always)]
    fn forward_in(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        record: &mut [f64],
    ) {
        let n = self.settings.points;
        let mut room = vec![[Complex::default(); 2]; n];
        let mut record = record.chunks_exact_mut(4 * n * WIDTH);
        for start in (0..control.nrows()).step_by(WIDTH) {
            let mut psi = self.load_state(initial, start);
            for step in 0..self.settings.steps {
                self.step(load(column(control, step), start), &mut psi, &mut room);
                if let Some(record) = record.next() {
                    pack(&room, record);
                }
            }
            for (j, psi) in psi.iter().enumerate() {
                store(psi.re, column_mut(outcome.rb_mut(), 2 * j), start);
                store(psi.im, column_mut(outcome.rb_mut(), 2 * j + 1), start);
            }
        }
    }

    /// Reverse sweep of the group's cotangent λ; `emit` gets λᵀ∂ψ/∂u of each step.
    #[inline(always)]
    fn reverse(&self, lambda: &mut [Complex], record: &[f64], mut emit: impl FnMut(usize, Complex)) {
        let (_, dx, gamma) = self.half_step();
        let n = self.settings.points;
        let mut room = vec![[Complex::default(); 2]; n];
        for (step, record) in record.chunks_exact(4 * n * WIDTH).enumerate().rev() {
            let (parts, _) = record.as_chunks::<WIDTH>();
            for (pair, parts) in room.iter_mut().zip(parts.chunks_exact(4)) {
                pair[0] = Complex { re: parts[0], im: parts[1] };
            }
            solve(gamma, lambda, &mut room);
            let mut sum = Complex::default();
            for (j, (pair, parts)) in room.iter().zip(parts.chunks_exact(4)).enumerate() {
                let product = pair[1].times(Complex { re: parts[2], im: parts[3] });
                sum = sum.plus_imaginary(-self.settings.dt * (j + 1) as f64 * dx, product);
            }
            emit(step, sum);
            for (lambda, pair) in lambda.iter_mut().zip(&room) {
                *lambda = pair[1].doubled_minus(*lambda);
            }
        }
    }

    /// The record of the group of samples at `start`.
    fn record_of<'a>(&self, at: &Point<'a>, start: usize) -> &'a [f64] {
        let length = self.tape_len(WIDTH);
        &at.tape.numbers()[start / WIDTH * length..][..length]
    }
}

/// w with (I + i dt/2 H)w = r by forward elimination and back substitution; pivots' inverses are in `room`.
#[inline(always)]
fn solve(gamma: f64, r: &[Complex], room: &mut [[Complex; 2]]) {
    let mut carried = Complex::default();
    for (pair, &r) in room.iter_mut().zip(r) {
        // y = r − iγ·y₋/pivot₋, kept as y/pivot.
        carried = r.plus_imaginary(-gamma, carried).times(pair[0]);
        pair[1] = carried;
    }
    let mut after = Complex::default();
    for pair in room.iter_mut().rev() {
        let correction = Complex::default().plus_imaginary(gamma, after).times(pair[0]);
        pair[1].re = combine(pair[1].re, -1.0, correction.re);
        pair[1].im = combine(pair[1].im, -1.0, correction.im);
        after = pair[1];
    }
}

/// Pivots' inverses and w, by grid point.
#[inline(always)]
fn pack(room: &[[Complex; 2]], record: &mut [f64]) {
    let (parts, _) = record.as_chunks_mut::<WIDTH>();
    for (pair, parts) in room.iter().zip(parts.chunks_exact_mut(4)) {
        [parts[0], parts[1], parts[2], parts[3]] = [pair[0].re, pair[0].im, pair[1].re, pair[1].im];
    }
}

impl Setup for DipoleSettings {
    const KIND: &'static str = "dipole";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(Dipole::new(self)?))
    }
}

impl Simulator for Dipole {
    fn controls(&self) -> usize {
        self.settings.steps
    }

    fn outcomes(&self) -> usize {
        2 * self.settings.points
    }

    fn initials(&self) -> usize {
        2 * self.settings.points
    }

    fn tape_len(&self, samples: usize) -> usize {
        samples.div_ceil(WIDTH) * WIDTH * 4 * self.settings.points * self.settings.steps
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        let record = tape.map_or(&mut [][..], |tape| tape.numbers_mut(self.tape_len(control.nrows())));
        vectorized(
            #[inline(always)]
            || self.forward_in(initial, control, outcome, record),
        );
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, cotangent, out| {
            self.pull(at, cotangent, out);
            Ok(())
        })
        .and_block(|at, out| {
            self.blocks(at, out);
            Ok(())
        })
    }
}

impl Dipole {
    /// z̄ (b × steps) from ȳ (b × 2·points).
    fn pull(&self, at: Point<'_>, cotangent: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        vectorized(
            #[inline(always)]
            || {
                for start in (0..at.control.nrows()).step_by(WIDTH) {
                    // ȳ·dy = Re(λᵀ dψ) for λ = ȳ_re − i ȳ_im.
                    let mut lambda = self.load_state(cotangent, start);
                    for lambda in &mut lambda {
                        lambda.im = scale(-1.0, lambda.im);
                    }
                    self.reverse(&mut lambda, self.record_of(&at, start), |step, sum| {
                        store(sum.re, column_mut(out.rb_mut(), step), start);
                    });
                }
            },
        );
    }

    /// ∂y/∂z, one complex sweep per grid point.
    fn blocks(&self, at: Point<'_>, mut out: MatMut<'_, f64>) {
        let m = self.outcomes();
        vectorized(
            #[inline(always)]
            || {
                for start in (0..at.control.nrows()).step_by(WIDTH) {
                    for j in 0..self.settings.points {
                        let mut lambda = vec![Complex::default(); self.settings.points];
                        lambda[j].re = [1.0; WIDTH];
                        self.reverse(&mut lambda, self.record_of(&at, start), |step, sum| {
                            store(sum.re, column_mut(out.rb_mut(), step * m + 2 * j), start);
                            store(sum.im, column_mut(out.rb_mut(), step * m + 2 * j + 1), start);
                        });
                    }
                }
            },
        );
    }
}
