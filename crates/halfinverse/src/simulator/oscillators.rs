//! N masses in a row, coupled by linear and cubic springs, the last one driven by the control.
//!
//! x″ᵢ = −xᵢ + Fᵢ₊½ − Fᵢ₋½ (+ gain·u(t) for the last mass), with the bond force F = k·d + c·d³ at d = xᵢ₊₁ − xᵢ;
//! the ends are free. Classical fourth-order Runge–Kutta, u constant within a step; all units are dimensionless.
//!
//! | symbol | shape | what |
//! |---|---|---|
//! | y₀, y | 2N | state (x₁..x_N, v₁..v_N) at the start and after the last step |
//! | z | steps | the control u of each step |
//!
//! The derivatives are those of the discrete scheme, to round-off: the forward pass records the tangent stiffness
//! k + 3c·d² of every bond at the four stages of every step, and the reverse sweep is linear in it. For a batch of b
//! samples a forward pass costs about 60·N·steps·b operations, a cotangent sweep about 50·N·steps·b; the record holds
//! 4(N−1)·steps numbers per sample.
//!
//! **Stability.** The fastest oscillation of a chain whose bonds have the stiffness s > 0 has ω² = 1 + 4s·cos²(π/2N). A Runge–Kutta
//! step multiplies its squared amplitude by 1 − (ω·dt)⁶/72 + (ω·dt)⁸/576, which is at most 1 while ω·dt ≤ 2√2.
//! [`Simulator::instability`] takes s = k + 3c, the tangent stiffness of bonds stretched by 1: about what initial states on
//! [0, 1) make of them. Runs of the default pair begin to fail there (k = 252 trains, 255 does not; the limit is 252).
//!
//! Source: the two-oscillator problem of Schnell, Holl, Thuerey, ICLR 2022, and its published constants.

use std::f64::consts::{PI, SQRT_2};
use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::lanes::{Lanes, WIDTH, combine, load, scale, store};
use super::{Derivative, Point, Setup, Simulator, SimulatorError, Tape};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// Constants of the chain; the default is the paper's pair of masses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OscillatorsSettings {
    /// Number of masses N.
    pub masses: usize,
    /// Linear coupling k of neighbours.
    pub linear_coupling: f64,
    /// Cubic coupling c of neighbours.
    pub cubic_coupling: f64,
    /// Factor of the control in the last mass's acceleration.
    pub control_gain: f64,
    /// Length of a time step.
    pub dt: f64,
    /// Number of time steps, and of control values.
    pub steps: usize,
}

impl Default for OscillatorsSettings {
    fn default() -> Self {
        Self { masses: 2, linear_coupling: 0.0, cubic_coupling: 1.0, control_gain: 3.0, dt: 0.125, steps: 96 }
    }
}

/// The chain of oscillators; the [module](self) has its equations.
#[derive(Debug, Clone, PartialEq)]
pub struct Oscillators {
    settings: OscillatorsSettings,
}

/// States of one sample over time, the first one at t = 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// Times, steps + 1 of them.
    pub times: Vec<f64>,
    /// State (x₁..x_N, v₁..v_N) at each time.
    pub states: Vec<Vec<f64>>,
}

impl Oscillators {
    /// A chain with the given constants.
    ///
    /// # Errors
    /// When there is no mass or no step, the time step is not positive, or a constant is not finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::simulator::{Oscillators, OscillatorsSettings, Simulator};
    /// let pair = Oscillators::new(OscillatorsSettings::default())?;
    /// assert_eq!((pair.controls(), pair.outcomes()), (96, 4));
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: OscillatorsSettings) -> Result<Self, SettingError> {
        for (key, count, most) in [("masses", settings.masses, 10_000), ("steps", settings.steps, 100_000)] {
            if count == 0 || count > most {
                return Err(SettingError::new(key, count, format!("from 1 to {most}")));
            }
        }
        if !(settings.dt > 0.0 && settings.dt.is_finite()) {
            return Err(SettingError::new("dt", settings.dt, "positive and finite"));
        }
        for (key, value) in [
            ("linear_coupling", settings.linear_coupling),
            ("cubic_coupling", settings.cubic_coupling),
            ("control_gain", settings.control_gain),
        ] {
            if !value.is_finite() {
                return Err(SettingError::new(key, value, "finite"));
            }
        }
        Ok(Self { settings })
    }

    /// The constants.
    #[must_use]
    pub fn settings(&self) -> &OscillatorsSettings {
        &self.settings
    }

    /// All states of the first sample in `initial` under its control.
    #[must_use]
    pub fn trajectory(&self, initial: MatRef<'_, f64>, control: MatRef<'_, f64>) -> Trajectory {
        let n = self.settings.masses;
        let mut states = vec![(0..2 * n).map(|i| initial[(0, i)]).collect()];
        self.march(
            Stages::new(vec![[0.0; WIDTH]; n]),
            initial.subrows(0, 1),
            control.subrows(0, 1),
            0,
            &mut [],
            |x, v| states.push(x.iter().chain(v).map(|lanes| lanes[0]).collect()),
        );
        let times = (0..states.len()).map(|i| i as f64 * self.settings.dt).collect();
        Trajectory { times, states }
    }

    /// Bonds × stages × steps: the record's length per group of samples.
    fn stiffnesses(&self) -> usize {
        4 * (self.settings.masses - 1) * self.settings.steps
    }

    /// Runge–Kutta over all steps for the group of samples at `start`; `after_step` sees every new state.
    #[inline(always)]
    fn march<M: Masses>(
        &self,
        stages: Stages<M>,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        start: usize,
        record: &mut [Lanes],
        mut after_step: impl FnMut(&[Lanes], &[Lanes]),
    ) -> Stages<M> {
        let Stages { mut x, mut v, mut position, mut velocity, mut acceleration, mut sum_x, mut sum_v } =
            stages;
        let n = x.as_ref().len();
        let dt = self.settings.dt;
        for i in 0..n {
            x.as_mut()[i] = load(column(initial, i), start);
            v.as_mut()[i] = load(column(initial, n + i), start);
        }
        let mut stiffness = record.chunks_exact_mut((n - 1).max(1));
        for step in 0..self.settings.steps {
            let push = scale(self.settings.control_gain, load(column(control, step), start));
            for (stage, weight) in WEIGHTS.into_iter().enumerate() {
                for i in 0..n {
                    if stage == 0 {
                        position.as_mut()[i] = x.as_ref()[i];
                        velocity.as_mut()[i] = v.as_ref()[i];
                        sum_x.as_mut()[i] = [0.0; WIDTH];
                        sum_v.as_mut()[i] = [0.0; WIDTH];
                    } else {
                        let ahead = OFFSETS[stage] * dt;
                        position.as_mut()[i] = combine(x.as_ref()[i], ahead, velocity.as_ref()[i]);
                        velocity.as_mut()[i] = combine(v.as_ref()[i], ahead, acceleration.as_ref()[i]);
                    }
                }
                let bonds = stiffness.next().unwrap_or_default();
                self.accelerate(position.as_ref(), push, acceleration.as_mut(), bonds);
                for i in 0..n {
                    sum_x.as_mut()[i] = combine(sum_x.as_ref()[i], weight, velocity.as_ref()[i]);
                    sum_v.as_mut()[i] = combine(sum_v.as_ref()[i], weight, acceleration.as_ref()[i]);
                }
            }
            for i in 0..n {
                x.as_mut()[i] = combine(x.as_ref()[i], dt / 6.0, sum_x.as_ref()[i]);
                v.as_mut()[i] = combine(v.as_ref()[i], dt / 6.0, sum_v.as_ref()[i]);
            }
            after_step(x.as_ref(), v.as_ref());
        }
        Stages { x, v, position, velocity, acceleration, sum_x, sum_v }
    }

    /// Accelerations at `x`; the bonds' tangent stiffness goes to `stiffness` unless that is empty.
    #[inline(always)]
    fn accelerate(&self, x: &[Lanes], push: Lanes, acceleration: &mut [Lanes], stiffness: &mut [Lanes]) {
        let (k, c) = (self.settings.linear_coupling, self.settings.cubic_coupling);
        let n = x.len();
        for i in 0..n {
            acceleration[i] = scale(-1.0, x[i]);
        }
        for l in 0..WIDTH {
            acceleration[n - 1][l] += push[l];
        }
        for i in 1..n {
            for l in 0..WIDTH {
                let d = x[i][l] - x[i - 1][l];
                let force = d * (k + c * (d * d));
                acceleration[i - 1][l] += force;
                acceleration[i][l] -= force;
            }
            if let Some(bond) = stiffness.get_mut(i - 1) {
                for l in 0..WIDTH {
                    let d = x[i][l] - x[i - 1][l];
                    bond[l] = k + 3.0 * c * (d * d);
                }
            }
        }
    }

    /// Reverse sweep from the cotangent of the final state in `stages.x`, `stages.v`; `emit` gets ū of each step.
    #[inline(always)]
    fn reverse<M: Masses>(
        &self,
        stages: Stages<M>,
        record: &[Lanes],
        mut emit: impl FnMut(usize, Lanes),
    ) -> Stages<M> {
        // position, velocity: cotangent of the stage's state; acceleration, sum_v: of its slope (x and v parts).
        let Stages { mut x, mut v, mut position, mut velocity, mut acceleration, mut sum_x, mut sum_v } =
            stages;
        let n = x.as_ref().len();
        let dt = self.settings.dt;
        let bonds = n - 1;
        for step in (0..self.settings.steps).rev() {
            let mut push = [0.0; WIDTH];
            for i in 0..n {
                sum_x.as_mut()[i] = x.as_ref()[i];
                acceleration.as_mut()[i] = v.as_ref()[i];
            }
            for stage in (0..4).rev() {
                let weight = WEIGHTS[stage] * dt / 6.0;
                for i in 0..n {
                    let (mut slope_x, mut slope_v) =
                        (scale(weight, x.as_ref()[i]), scale(weight, v.as_ref()[i]));
                    if stage < 3 {
                        let ahead = OFFSETS[stage + 1] * dt;
                        slope_x = combine(slope_x, ahead, position.as_ref()[i]);
                        slope_v = combine(slope_v, ahead, velocity.as_ref()[i]);
                    }
                    // (x, v)′ = (v, F(x)), transposed: the slope's x part belongs to v.
                    velocity.as_mut()[i] = slope_x;
                    sum_v.as_mut()[i] = slope_v;
                }
                for l in 0..WIDTH {
                    push[l] += sum_v.as_ref()[n - 1][l];
                }
                let start = (4 * step + stage) * bonds;
                transpose_forces(sum_v.as_ref(), &record[start..start + bonds], position.as_mut());
                for i in 0..n {
                    sum_x.as_mut()[i] = combine(sum_x.as_ref()[i], 1.0, position.as_ref()[i]);
                    acceleration.as_mut()[i] = combine(acceleration.as_ref()[i], 1.0, velocity.as_ref()[i]);
                }
            }
            for i in 0..n {
                x.as_mut()[i] = sum_x.as_ref()[i];
                v.as_mut()[i] = acceleration.as_ref()[i];
            }
            emit(step, scale(self.settings.control_gain, push));
        }
        Stages { x, v, position, velocity, acceleration, sum_x, sum_v }
    }

    #[inline(always)]
    fn forward_in<M: Masses>(
        &self,
        mut stages: Stages<M>,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        record: &mut [f64],
    ) {
        let n = self.settings.masses;
        let (record, _) = record.as_chunks_mut::<WIDTH>();
        let mut records = record.chunks_exact_mut(self.stiffnesses().max(1));
        for start in (0..control.nrows()).step_by(WIDTH) {
            stages =
                self.march(stages, initial, control, start, records.next().unwrap_or_default(), |_, _| ());
            for i in 0..n {
                store(stages.x.as_ref()[i], column_mut(outcome.rb_mut(), i), start);
                store(stages.v.as_ref()[i], column_mut(outcome.rb_mut(), n + i), start);
            }
        }
    }

    /// One reverse sweep per entry of `sweeps`: `(group start, cotangent of component i, where ū of a step goes)`.
    #[inline(always)]
    fn sweep_in<M: Masses>(
        &self,
        mut stages: Stages<M>,
        at: Point<'_>,
        mut out: MatMut<'_, f64>,
        cotangent: &Cotangent<'_>,
    ) {
        let n = self.settings.masses;
        let m = 2 * n;
        let (record, _) = at.tape.numbers().as_chunks::<WIDTH>();
        let length = self.stiffnesses();
        for (group, start) in (0..at.control.nrows()).step_by(WIDTH).enumerate() {
            let record = &record[group * length..(group + 1) * length];
            match *cotangent {
                Cotangent::Given(cotangent) => {
                    for i in 0..n {
                        stages.x.as_mut()[i] = load(column(cotangent, i), start);
                        stages.v.as_mut()[i] = load(column(cotangent, n + i), start);
                    }
                    stages = self
                        .reverse(stages, record, |step, u| store(u, column_mut(out.rb_mut(), step), start));
                }
                Cotangent::EveryUnitVector => {
                    for c in 0..m {
                        for i in 0..n {
                            stages.x.as_mut()[i] = [f64::from(u8::from(c == i)); WIDTH];
                            stages.v.as_mut()[i] = [f64::from(u8::from(c == n + i)); WIDTH];
                        }
                        stages = self.reverse(stages, record, |step, u| {
                            store(u, column_mut(out.rb_mut(), step * m + c), start);
                        });
                    }
                }
            }
        }
    }

    fn sweep(&self, at: Point<'_>, out: MatMut<'_, f64>, cotangent: &Cotangent<'_>) {
        vectorized(
            #[inline(always)]
            || match self.settings.masses {
                1 => self.sweep_in(Stages::new([[0.0; WIDTH]; 1]), at, out, cotangent),
                2 => self.sweep_in(Stages::new([[0.0; WIDTH]; 2]), at, out, cotangent),
                n => self.sweep_in(Stages::new(vec![[0.0; WIDTH]; n]), at, out, cotangent),
            },
        );
    }
}

/// What a reverse sweep starts from.
enum Cotangent<'a> {
    Given(MatRef<'a, f64>),
    EveryUnitVector,
}

impl Setup for OscillatorsSettings {
    const KIND: &'static str = "oscillators";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(Oscillators::new(self)?))
    }
}

impl Simulator for Oscillators {
    fn controls(&self) -> usize {
        self.settings.steps
    }

    fn outcomes(&self) -> usize {
        2 * self.settings.masses
    }

    fn initials(&self) -> usize {
        2 * self.settings.masses
    }

    fn tape_len(&self, samples: usize) -> usize {
        samples.div_ceil(WIDTH) * WIDTH * self.stiffnesses()
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
            || match self.settings.masses {
                1 => self.forward_in(Stages::new([[0.0; WIDTH]; 1]), initial, control, outcome, record),
                2 => self.forward_in(Stages::new([[0.0; WIDTH]; 2]), initial, control, outcome, record),
                n => self.forward_in(Stages::new(vec![[0.0; WIDTH]; n]), initial, control, outcome, record),
            },
        );
        Ok(())
    }

    fn instability(&self) -> Option<String> {
        let OscillatorsSettings { masses, linear_coupling, cubic_coupling, dt, .. } = self.settings;
        let (stretched, sum) = if cubic_coupling > 0.0 {
            ("with its springs stretched by 1 ", " + 3·cubic_coupling")
        } else {
            ("", "")
        };
        let stiffness = (linear_coupling + 3.0 * cubic_coupling.max(0.0)).clamp(0.0, f64::MAX);
        let bending = 2.0 * libm::cos(PI / (2.0 * masses as f64));
        let omega = 1.0_f64.hypot(bending * stiffness.sqrt());
        if omega * dt <= REACH {
            return None;
        }
        let most_dt = down(REACH / omega);
        let fastest = REACH / dt;
        // A mass alone has ω = 1.
        let or = if masses > 1 && fastest > 1.0 {
            let most = down((fastest - 1.0) / bending * ((fastest + 1.0) / bending));
            format!(", or linear_coupling{sum} at most {most}")
        } else {
            String::new()
        };
        Some(format!(
            "{stretched}the chain's fastest oscillation has ω·dt = {:.4}, beyond {REACH:.4}, up to which Runge–Kutta steps are stable: simulator.dt must be at most {most_dt}{or}",
            omega * dt
        ))
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, cotangent, out| {
            self.sweep(at, out, &Cotangent::Given(cotangent));
            Ok(())
        })
        .and_block(|at, out| {
            self.sweep(at, out, &Cotangent::EveryUnitVector);
            Ok(())
        })
    }
}

/// ω·dt up to which the scheme is stable.
const REACH: f64 = 2.0 * SQRT_2;

/// A bound to three digits, rounded so that who takes it stays within it.
fn down(bound: f64) -> f64 {
    let scale = 10.0_f64.powf(2.0 - bound.log10().floor());
    (bound * scale).floor() / scale
}

/// Weights of the four slopes, in sixths of a step.
const WEIGHTS: [f64; 4] = [1.0, 2.0, 2.0, 1.0];
/// How far each stage lies ahead of the step's start, in steps.
const OFFSETS: [f64; 4] = [0.0, 0.5, 0.5, 1.0];

/// One vector of samples per mass: an array where the number of masses is known to the compiler, which then keeps
/// the state in registers, and a `Vec` elsewhere.
trait Masses: Clone + AsRef<[Lanes]> + AsMut<[Lanes]> {}
impl<T: Clone + AsRef<[Lanes]> + AsMut<[Lanes]>> Masses for T {}

/// State and stage values of one group of samples.
struct Stages<M> {
    x: M,
    v: M,
    position: M,
    velocity: M,
    acceleration: M,
    sum_x: M,
    sum_v: M,
}

impl<M: Masses> Stages<M> {
    #[inline(always)]
    fn new(zeros: M) -> Self {
        Self {
            x: zeros.clone(),
            v: zeros.clone(),
            position: zeros.clone(),
            velocity: zeros.clone(),
            acceleration: zeros.clone(),
            sum_x: zeros.clone(),
            sum_v: zeros,
        }
    }
}

/// out = K a, with K = ∂F/∂x, which is symmetric.
#[inline(always)]
fn transpose_forces(a: &[Lanes], stiffness: &[Lanes], out: &mut [Lanes]) {
    for i in 0..a.len() {
        out[i] = scale(-1.0, a[i]);
    }
    for i in 1..a.len() {
        for l in 0..WIDTH {
            let pull = stiffness[i - 1][l] * (a[i][l] - a[i - 1][l]);
            out[i - 1][l] += pull;
            out[i][l] -= pull;
        }
    }
}
