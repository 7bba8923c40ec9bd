//! Stiff ordinary differential equations x′ = f(x, u, t) as simulators for [`halfinverse`], solved by [`diffsol`].
//!
//! The right-hand side is the one that [`halfinverse::simulator::Ode`] takes: a [`RightHandSide`], generic over its
//! numbers. diffsol's backward differentiation formulas choose steps and orders by the tolerances, so that a reaction
//! that is over in a millisecond and one that takes days stand in the same equations.
//!
//! | symbol | shape | what |
//! |---|---|---|
//! | x₀ | n, or none | initial state, where [`Schedule::start`] is empty |
//! | z | N·p, or p | the p controls of the first interval, of the second, …; or one value of each ([`Hold::Whole`]) |
//! | y | N·m, or m | what is observed at the end of each interval, or of the last ([`ObserveAt::End`]) |
//!
//! **Derivatives** are diffsol's forward sensitivities, from f's own by dual numbers. Each interval has those of its end
//! with respect to its control and its start, p + n of them, and an adjoint or a tangent goes from one interval to the
//! next by two small products. Memory: N·(m + n)·(p + n) numbers for each sample. A right-hand side of more than some
//! tens of states wants an adjoint of its own, and sparse matrices; this crate has dense ones.
//!
//! **What `check` means here.** diffsol differentiates the steps that it has taken, with their lengths and orders held
//! fixed. The outcome itself, as a function of the control, also changes where another step is chosen, by some of the
//! tolerance: it is not smooth below that. So derivatives are exact for the equations to about the tolerance, and a
//! difference quotient sees the jumps between choices of steps. `hig check` and
//! [`halfinverse::simulator_tests!`] ask for 1e-6. Robertson's kinetics passes them with a relative tolerance of 1e-12;
//! with 1e-11 and 1e-10 it misses them by a third at most, in some cases. Check with 1e-12. Training needs no more than
//! 1e-6: derivatives are then off by about as much as the outcome is.
//!
//! Steps are the same with derivatives and without, unless the linear solves for these fail; then the outcome may differ
//! by some of the tolerance.
//!
//! # Example
//! ```
//! use halfinverse::faer::Mat;
//! use halfinverse::simulator::{RightHandSide, Scalar, Simulator};
//! use halfinverse_diffsol::{Schedule, Stiff};
//!
//! /// x′ = −1000 (x − cos t) + u: what is fast is over after a few milliseconds.
//! struct Fast;
//! impl RightHandSide for Fast {
//!     fn states(&self) -> usize {
//!         1
//!     }
//!     fn controls(&self) -> usize {
//!         1
//!     }
//!     fn rhs<S: Scalar>(&self, x: &[S], u: &[S], t: S, out: &mut [S]) {
//!         out[0] = (x[0] - t.cos()) * -1000.0 + u[0];
//!     }
//! }
//!
//! let fast = Stiff::new(Fast, Schedule { relative: 1e-10, absolute: vec![1e-10], ..Schedule::ends([1.0, 2.0]) })?;
//! let (initial, control) = (Mat::full(1, 1, 0.0), Mat::full(1, 2, 3.0));
//! let mut y = Mat::zeros(1, 2);
//! fast.simulate(initial.as_ref(), control.as_ref(), y.as_mut(), None)?;
//! assert!((y[(0, 0)] - (1.0f64.cos() + 3e-3 + 1e-3 * 1.0f64.sin())).abs() < 1e-6);
//! let checks = halfinverse::check::simulator(&fast, initial.as_ref(), control.as_ref(), 1)?;
//! assert!(checks.iter().all(halfinverse::check::Comparison::right));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod along;
mod dual;
mod leg;

pub use diffsol;
use halfinverse::SettingError;
use halfinverse::faer::{MatMut, MatRef};
use halfinverse::simulator::{
    Derivative, Hold, ObserveAt, Pattern, Point, RightHandSide, Simulator, SimulatorError, Tape, Trajectory,
};

use along::Along;
use leg::Leg;

/// Intervals of time, and how exactly they are solved.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The initial state of all samples, or nothing where each has its own.
    pub start: Vec<f64>,
    /// The ends of the N intervals, ascending; the first one begins at 0.
    pub times: Vec<f64>,
    /// How long a control stays what it is.
    pub hold: Hold,
    /// When the outcome is taken.
    pub observe_at: ObserveAt,
    /// Error of a step that is allowed, relative to each state.
    pub relative: f64,
    /// What is allowed besides: one number for all states, or one for each.
    pub absolute: Vec<f64>,
}

impl Schedule {
    /// Intervals that end at these times: controls of their own, outcomes at each end, tolerances of 1e-8, an initial
    /// state for each sample.
    #[must_use]
    pub fn ends(times: impl Into<Vec<f64>>) -> Self {
        let (hold, observe_at) = (Hold::Interval, ObserveAt::Intervals);
        Self {
            start: Vec::new(),
            times: times.into(),
            hold,
            observe_at,
            relative: 1e-8,
            absolute: vec![1e-8],
        }
    }

    fn check(&self, states: usize) -> Result<(), SettingError> {
        let mut before = 0.0;
        for &time in &self.times {
            if !(time > before && time.is_finite()) {
                return Err(SettingError::new("times", time, format!("above {before}, and finite")));
            }
            before = time;
        }
        if self.times.is_empty() {
            return Err(SettingError::new("times", "[]", "the end of one interval or more"));
        }
        if !(self.relative > 0.0 && self.relative < 1.0) {
            return Err(SettingError::new("relative", self.relative, "above 0, below 1"));
        }
        if let Some(&wrong) = self.absolute.iter().find(|&&one| !(one > 0.0 && one.is_finite())) {
            return Err(SettingError::new("absolute", wrong, "above 0, and finite"));
        }
        for (key, count, other) in [("absolute", self.absolute.len(), 1), ("start", self.start.len(), 0)] {
            if count != other && count != states {
                return Err(SettingError::new(
                    key,
                    format!("{count} numbers"),
                    format!("{other} of them, or {states}"),
                ));
            }
        }
        if let Some(&wrong) = self.start.iter().find(|one| !one.is_finite()) {
            return Err(SettingError::new("start", wrong, "finite"));
        }
        Ok(())
    }
}

/// Equations that diffsol solves; the [crate] has what they are.
#[derive(Debug, Clone)]
pub struct Stiff<R> {
    rhs: R,
    schedule: Schedule,
}

impl<R: RightHandSide + Send + Sync> Stiff<R> {
    /// The simulator of a right-hand side.
    ///
    /// # Errors
    /// When times do not ascend, a tolerance is not positive, or there is no state, control or observation.
    pub fn new(rhs: R, schedule: Schedule) -> Result<Self, SettingError> {
        let counts = [("states", rhs.states()), ("controls", rhs.controls()), ("observed", rhs.observed())];
        for (what, count) in counts {
            if count == 0 {
                return Err(SettingError::new(what, count, "at least 1"));
            }
        }
        schedule.check(rhs.states())?;
        Ok(Self { rhs, schedule })
    }

    /// Times and tolerances.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// All states of the first sample in `initial` under its control, at its start and at so many times of each
    /// interval.
    ///
    /// # Errors
    /// When diffsol finds no solution.
    pub fn trajectory(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        each: usize,
    ) -> Result<Trajectory, SimulatorError> {
        let mut found = Trajectory { times: vec![0.0], states: vec![self.start_of(initial, 0)] };
        let from = std::iter::once(0.0).chain(self.schedule.times.iter().copied());
        for (i, (from, &to)) in from.zip(&self.schedule.times).enumerate() {
            let times: Vec<f64> =
                (1..=each.max(1)).map(|k| from + (to - from) * k as f64 / each.max(1) as f64).collect();
            let start = found.states[found.states.len() - 1].clone();
            let u = self.control_of(i, &row(control, 0)).to_vec();
            self.leg(from, &times, &u, &start)
                .solve(false, |passed| found.states.push(passed.state.to_vec()))
                .map_err(|error| SimulatorError::of_sample(0, error.to_string()))?;
            found.times.extend(times);
        }
        Ok(found)
    }

    fn start_of(&self, initial: MatRef<'_, f64>, s: usize) -> Vec<f64> {
        if self.schedule.start.is_empty() { row(initial, s) } else { self.schedule.start.clone() }
    }

    fn leg<'a>(&'a self, from: f64, times: &'a [f64], control: &'a [f64], start: &'a [f64]) -> Leg<'a, R> {
        let Schedule { relative, ref absolute, .. } = self.schedule;
        Leg { rhs: &self.rhs, from, times, control, start, relative, absolute, carried: self.carried() > 0 }
    }

    /// States whose derivatives pass from an interval to the next.
    fn carried(&self) -> usize {
        if self.schedule.hold == Hold::Interval { self.rhs.states() } else { 0 }
    }

    /// Where the controls of an interval begin among all.
    fn control_offset(&self, interval: usize) -> usize {
        if self.schedule.hold == Hold::Interval { interval * self.rhs.controls() } else { 0 }
    }

    fn control_of<'a>(&self, interval: usize, control: &'a [f64]) -> &'a [f64] {
        &control[self.control_offset(interval)..][..self.rhs.controls()]
    }

    /// Which observation is made at the end of an interval.
    fn observation(&self, interval: usize) -> Option<usize> {
        match self.schedule.observe_at {
            ObserveAt::Intervals => Some(interval),
            ObserveAt::End => (interval + 1 == self.schedule.times.len()).then_some(0),
        }
    }

    /// Numbers that an interval records: m + carried rows, of what is observed and of the state at its end; p + carried
    /// columns.
    fn record_len(&self) -> usize {
        (self.rhs.observed() + self.carried()) * (self.rhs.controls() + self.carried())
    }

    /// One sample: its outcome, and where there is a record, the derivatives of each interval.
    fn sample(
        &self,
        initial: &[f64],
        control: &[f64],
        outcome: &mut [f64],
        record: &mut [f64],
    ) -> Result<(), String> {
        let times = &self.schedule.times;
        let legs = if self.schedule.hold == Hold::Interval { 1 } else { times.len() };
        let mut state = initial.to_vec();
        let along = Along::new(&self.rhs);
        for (first, times) in (0..).step_by(legs).zip(times.chunks(legs)) {
            let from = if first == 0 { 0.0 } else { self.schedule.times[first - 1] };
            let u = self.control_of(first, control);
            let start = state.clone();
            self.leg(from, times, u, &start)
                .solve(!record.is_empty(), |passed| {
                    let (interval, t) = (first + passed.time, times[passed.time]);
                    state.copy_from_slice(passed.state);
                    if let Some(observation) = self.observation(interval) {
                        let m = self.rhs.observed();
                        self.rhs.observe(&state, u, t, &mut outcome[observation * m..][..m]);
                    }
                    if !record.is_empty() {
                        let record = &mut record[interval * self.record_len()..][..self.record_len()];
                        self.record(&along, interval, u, passed, record);
                    }
                })
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The derivatives of what is observed and of the state at the end of an interval, row by row.
    fn record(
        &self,
        along: &Along<'_, R>,
        interval: usize,
        u: &[f64],
        passed: &leg::Passed<'_>,
        record: &mut [f64],
    ) {
        let (n, p, m, carried) =
            (self.rhs.states(), self.rhs.controls(), self.rhs.observed(), self.carried());
        let (width, t) = (p + carried, self.schedule.times[interval]);
        let (mut du, mut dy) = (vec![0.0; p], vec![0.0; m]);
        record.fill(0.0);
        for (j, dx) in passed.slopes.chunks_exact(n).enumerate() {
            if self.observation(interval).is_some() {
                du.fill(0.0);
                du.iter_mut().skip(j).take(1).for_each(|du| *du = 1.0);
                along.observe([passed.state, dx], [u, &du], t, &mut dy);
                dy.iter().enumerate().for_each(|(c, dy)| record[c * width + j] = *dy);
            }
            dx.iter().take(carried).enumerate().for_each(|(i, dx)| record[(m + i) * width + j] = *dx);
        }
    }

    /// ẏ of a sample from ż.
    fn tangent(&self, record: &[f64], tangent: &[f64], out: &mut [f64]) {
        let (p, m, carried) = (self.rhs.controls(), self.rhs.observed(), self.carried());
        let width = p + carried;
        let mut moved = vec![0.0; width];
        for (interval, record) in record.chunks_exact(self.record_len()).enumerate() {
            moved[..p].copy_from_slice(self.control_of(interval, tangent));
            let products: Vec<f64> = record.chunks_exact(width).map(|row| dot(row, &moved)).collect();
            if let Some(observation) = self.observation(interval) {
                out[observation * m..][..m].copy_from_slice(&products[..m]);
            }
            moved[p..].copy_from_slice(&products[m..]);
        }
    }

    /// z̄ of a sample from ȳ.
    fn cotangent(&self, record: &[f64], cotangent: &[f64], out: &mut [f64]) {
        let (p, m, carried) = (self.rhs.controls(), self.rhs.observed(), self.carried());
        let width = p + carried;
        let mut back = vec![0.0; m + carried];
        out.fill(0.0);
        for (interval, record) in record.chunks_exact(self.record_len()).enumerate().rev() {
            match self.observation(interval) {
                Some(observation) => back[..m].copy_from_slice(&cotangent[observation * m..][..m]),
                None => back[..m].fill(0.0),
            }
            let mut sums = vec![0.0; width];
            for (row, back) in record.chunks_exact(width).zip(&back) {
                sums.iter_mut().zip(row).for_each(|(sum, slope)| *sum += slope * back);
            }
            let offset = self.control_offset(interval);
            out[offset..][..p].iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
            back[m..].copy_from_slice(&sums[p..]);
        }
    }

    /// A linear map of each sample by its record.
    fn each_sample(
        &self,
        at: Point<'_>,
        from: MatRef<'_, f64>,
        mut to: MatMut<'_, f64>,
        map: impl Fn(&[f64], &[f64], &mut [f64]),
    ) -> Result<(), SimulatorError> {
        let length = self.tape_len(1);
        let mut out = vec![0.0; to.ncols()];
        for s in 0..from.nrows() {
            let Some(record) = at.tape.numbers().get(s * length..(s + 1) * length) else {
                return Err(SimulatorError::of_sample(s, "nothing was kept for its derivative"));
            };
            map(record, &row(from, s), &mut out);
            (0..out.len()).for_each(|j| to[(s, j)] = out[j]);
        }
        Ok(())
    }
}

impl<R: RightHandSide + Send + Sync> Simulator for Stiff<R> {
    fn controls(&self) -> usize {
        let held = if self.schedule.hold == Hold::Interval { self.schedule.times.len() } else { 1 };
        held * self.rhs.controls()
    }

    fn outcomes(&self) -> usize {
        let observations =
            if self.schedule.observe_at == ObserveAt::Intervals { self.schedule.times.len() } else { 1 };
        observations * self.rhs.observed()
    }

    fn initials(&self) -> usize {
        if self.schedule.start.is_empty() { self.rhs.states() } else { 0 }
    }

    fn tape_len(&self, samples: usize) -> usize {
        samples * self.schedule.times.len() * self.record_len()
    }

    /// A sample takes as long as a whole mini-batch of other simulators.
    fn chunk(&self) -> Option<usize> {
        Some(4)
    }

    fn pattern(&self) -> Pattern {
        let (p, m) = (self.rhs.controls(), self.rhs.observed());
        match (self.schedule.observe_at, self.schedule.hold) {
            (ObserveAt::End, _) | (_, Hold::Whole) => Pattern::Full,
            // No outcome depends on a later control.
            (ObserveAt::Intervals, Hold::Interval) => Pattern::Sparse(
                (0..self.controls()).map(|j| (j / p * m..self.outcomes()).collect()).collect(),
            ),
        }
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        let length = self.tape_len(1);
        let records = tape.map_or(&mut [][..], |tape| tape.numbers_mut(self.tape_len(control.nrows())));
        let mut y = vec![0.0; self.outcomes()];
        for s in 0..control.nrows() {
            let record = if records.is_empty() { &mut [][..] } else { &mut records[s * length..][..length] };
            let (x, z) = (self.start_of(initial, s), row(control, s));
            if x.iter().chain(&z).all(|value| value.is_finite()) {
                self.sample(&x, &z, &mut y, record).map_err(|reason| SimulatorError::of_sample(s, reason))?;
            } else {
                y.fill(f64::NAN);
                record.fill(f64::NAN);
            }
            (0..y.len()).for_each(|c| outcome[(s, c)] = y[c]);
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, from, to| {
            self.each_sample(at, from, to, |r, from, to| self.cotangent(r, from, to))
        })
        .and_jvp(|at, from, to| self.each_sample(at, from, to, |r, from, to| self.tangent(r, from, to)))
    }
}

fn row(matrix: MatRef<'_, f64>, s: usize) -> Vec<f64> {
    (0..matrix.ncols()).map(|j| matrix[(s, j)]).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
