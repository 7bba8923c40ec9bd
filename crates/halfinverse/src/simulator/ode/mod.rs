//! Ordinary differential equations x′ = f(x, u, t), controlled by u, with exact derivatives of the discrete scheme.
//!
//! The time has N intervals of so many steps of length h. A control is constant within an interval. The outcome is y =
//! g(x, u, t) at the end of the last interval, or of each.
//!
//! | symbol | shape | what |
//! |---|---|---|
//! | y₀ | n, less the states that start at a fixed value | initial state |
//! | z | N·p | the p controls of the first interval, of the second, … |
//! | y | m, or N·m | what is observed, of the first interval, of the second, … |
//!
//! f and g come from texts in a task file ([`EquationsSettings`]), or from a function in Rust ([`RightHandSide`]). Both
//! become one graph of operations, of which the partial derivatives are made symbolically; values and derivatives share
//! their subexpressions. A graph is evaluated for 32 samples at a time, operation by operation.
//!
//! **Derivatives.** A forward pass records the partial derivatives at each stage of each step. `jvp` and `vjp` are
//! linear sweeps over the record, forwards and backwards, exact to round-off. The record holds (stages · changing
//! partial derivatives of f) numbers for each step and sample, and n² more with the implicit method.
//!
//! A state that becomes NaN or infinite passes through to the outcome; an implicit step that Newton's method does not
//! find is an error that names its sample.

mod derivative;
mod equations;
mod formulas;
mod forward;
mod method;
mod trace;

use std::cell::RefCell;

use faer::{Mat, MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::expression::{Graph, NodeId};
use super::{Derivative, Pattern, Simulator, SimulatorError, Tape, Trajectory};
use crate::error::SettingError;
use crate::linear::columns::vectorized;
pub use equations::EquationsSettings;
use formulas::Formulas;
pub use method::Method;
pub use trace::{RightHandSide, Scalar};

/// Samples that are simulated together, and where there are few.
const WIDE: usize = 32;
const NARROW: usize = 8;
/// Steps of the longest simulation.
const MOST_STEPS: usize = 100_000;

/// When the outcome is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObserveAt {
    /// At the end of the last interval.
    #[default]
    End,
    /// At the end of each interval.
    Intervals,
}

/// How long a control stays what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// For an interval: N values of each control.
    #[default]
    Interval,
    /// For the whole time: one value of each, such as a constant of the equations that is to be found.
    Whole,
}

/// Steps in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeGrid {
    /// Length h of a step.
    pub dt: f64,
    /// Number N of intervals.
    pub intervals: usize,
    /// Steps of an interval.
    pub steps: usize,
    /// How a step is made.
    pub method: Method,
    /// When the outcome is taken.
    pub observe_at: ObserveAt,
    /// How long a control stays what it is.
    pub hold: Hold,
}

impl Default for TimeGrid {
    fn default() -> Self {
        let (method, observe_at, hold) = (Method::Rk4, ObserveAt::End, Hold::Interval);
        Self { dt: 0.05, intervals: 20, steps: 1, method, observe_at, hold }
    }
}

impl TimeGrid {
    fn check(&self) -> Result<(), SettingError> {
        SettingError::check_positive("dt", self.dt)?;
        for (key, count) in [("intervals", self.intervals), ("steps", self.steps)] {
            if count == 0 || count > MOST_STEPS {
                return Err(SettingError::new(key, count, format!("from 1 to {MOST_STEPS}")));
            }
        }
        if self.intervals * self.steps > MOST_STEPS {
            let expected = format!("at most {}, {MOST_STEPS} steps in all", MOST_STEPS / self.intervals);
            return Err(SettingError::new("steps", self.steps, expected));
        }
        Ok(())
    }
}

/// Equations with their nodes: variables are the states, then the controls, then the time.
struct System {
    graph: Graph,
    slopes: Vec<NodeId>,
    observed: Vec<NodeId>,
    controls: usize,
    /// What a state starts at, where it is not part of the initial state.
    starts: Vec<Option<f64>>,
}

/// A system of ordinary differential equations as a simulator; the [module](self) has its equations.
#[derive(Debug, Clone)]
pub struct Ode {
    states: usize,
    controls: usize,
    slopes: Formulas,
    observe: Formulas,
    grid: TimeGrid,
    starts: Vec<Option<f64>>,
    /// Which states Verlet's method takes for positions.
    positions: Vec<bool>,
}

impl Ode {
    /// The simulator of a right-hand side in Rust.
    ///
    /// # Errors
    /// When the time step is not positive, there are no or too many steps, there is no state or control, or the
    /// equations do not have the form that the method needs.
    ///
    /// # Example
    /// ```
    /// use halfinverse::faer::Mat;
    /// use halfinverse::simulator::{Ode, RightHandSide, Scalar, TimeGrid};
    /// /// φ″ = −sin φ + u: a pendulum with a torque.
    /// struct Pendulum;
    /// impl RightHandSide for Pendulum {
    ///     fn states(&self) -> usize {
    ///         2
    ///     }
    ///     fn controls(&self) -> usize {
    ///         1
    ///     }
    ///     fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _t: S, out: &mut [S]) {
    ///         out[0] = x[1];
    ///         out[1] = u[0] - x[0].sin();
    ///     }
    /// }
    /// let pendulum = Ode::new(&Pendulum, TimeGrid { dt: 0.1, intervals: 5, ..TimeGrid::default() })?;
    /// let (initial, control) = (Mat::full(2, 2, 0.5), Mat::full(2, 5, 0.1));
    /// let checks = halfinverse::check::simulator(&pendulum, initial.as_ref(), control.as_ref(), 1)?;
    /// assert!(checks.iter().all(halfinverse::check::Comparison::right));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<R: RightHandSide>(rhs: &R, grid: TimeGrid) -> Result<Self, SettingError> {
        let (n, p, m) = (rhs.states(), rhs.controls(), rhs.observed());
        let graph = RefCell::new(Graph::default());
        let variables: Vec<trace::Traced<'_>> = (0..=n + p)
            .map(|i| {
                let id = graph.borrow_mut().variable(i);
                trace::Traced::Node(&graph, id)
            })
            .collect();
        let (state, rest) = variables.split_at(n);
        let (control, time) = (&rest[..p], rest[p]);
        // What an author forgets to write is NaN, and shows.
        let (mut slopes, mut observed) = (vec![f64::NAN.into(); n], vec![f64::NAN.into(); m]);
        rhs.rhs(state, control, time, &mut slopes);
        rhs.observe(state, control, time, &mut observed);
        let nodes = |all: Vec<trace::Traced<'_>>| all.iter().map(|one| one.node(&graph)).collect::<Vec<_>>();
        let (slopes, observed) = (nodes(slopes), nodes(observed));
        drop(variables);
        let system =
            System { graph: graph.into_inner(), slopes, observed, controls: p, starts: vec![None; n] };
        Self::of(system, grid)
    }

    fn of(system: System, grid: TimeGrid) -> Result<Self, SettingError> {
        let System { mut graph, slopes, observed, controls, starts } = system;
        grid.check()?;
        let states = slopes.len();
        for (what, count) in [("states", states), ("controls", controls), ("observed", observed.len())] {
            if count == 0 {
                return Err(SettingError::new(what, count, "at least 1"));
            }
        }
        let variables = states + controls;
        let formulas = Formulas::new(&mut graph, &slopes, variables);
        let positions = if grid.method == Method::Verlet {
            positions(&graph, &slopes, &formulas).map_err(|reason| SettingError::misfit("method", reason))?
        } else {
            vec![false; states]
        };
        let observe = Formulas::new(&mut graph, &observed, variables);
        Ok(Self { states, controls, slopes: formulas, observe, grid, starts, positions })
    }

    /// The steps in time.
    #[must_use]
    pub fn grid(&self) -> &TimeGrid {
        &self.grid
    }

    /// All states of the first sample in `initial` under its control, step by step.
    ///
    /// # Errors
    /// When an implicit step cannot be found.
    pub fn trajectory(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
    ) -> Result<Trajectory, SimulatorError> {
        let mut start = vec![[0.0; NARROW]; self.states];
        let mut drawn = 0;
        for (state, fixed) in start.iter_mut().zip(&self.starts) {
            state[0] = fixed.unwrap_or_else(|| {
                drawn += 1;
                initial[(0, drawn - 1)]
            });
        }
        let first = |state: &[[f64; NARROW]]| state.iter().map(|lanes| lanes[0]).collect::<Vec<_>>();
        let mut states = vec![first(&start)];
        let mut outcome = Mat::zeros(1, self.outcomes());
        let (initial, control) = (initial.subrows(0, 1), control.subrows(0, 1));
        self.forward::<NARROW>(initial, control, outcome.as_mut(), &mut [], |state| {
            states.push(first(state));
        })?;
        let times = (0..states.len()).map(|i| i as f64 * self.grid.dt).collect();
        Ok(Trajectory { times, states })
    }

    /// Which observation is made at the end of an interval.
    #[inline(always)]
    fn observation(&self, interval: usize) -> Option<usize> {
        match self.grid.observe_at {
            ObserveAt::Intervals => Some(interval),
            ObserveAt::End => (interval + 1 == self.grid.intervals).then_some(0),
        }
    }

    /// Where the value of control c in an interval is among all.
    #[inline(always)]
    fn control_column(&self, interval: usize, c: usize) -> usize {
        match self.grid.hold {
            Hold::Interval => interval * self.controls + c,
            Hold::Whole => c,
        }
    }

    fn observations(&self) -> usize {
        match self.grid.observe_at {
            ObserveAt::Intervals => self.grid.intervals,
            ObserveAt::End => 1,
        }
    }

    /// Numbers that a step records for a sample.
    fn step_len(&self) -> usize {
        let inverse = if self.grid.method.table().is_none() { self.states * self.states } else { 0 };
        self.grid.method.stages() * self.slopes.partials().recorded() + inverse
    }

    fn steps_len(&self) -> usize {
        self.grid.intervals * self.grid.steps * self.step_len()
    }

    fn record_len(&self) -> usize {
        self.steps_len() + self.observations() * self.observe.partials().recorded()
    }
}

/// The states that are positions, where the equations have the form x′ = v, v′ = f(x, u, t).
fn positions(graph: &Graph, slopes: &[NodeId], formulas: &Formulas) -> Result<Vec<bool>, String> {
    let n = slopes.len();
    let velocity_of = |d: usize| graph.as_variable(slopes[d]).filter(|&v| v < n && v != d);
    let mut positions = vec![false; n];
    let mut velocities = vec![false; n];
    for d in 0..n {
        // A velocity may have the equation v′ = x: what decides is whether its own state is another's velocity.
        if let Some(v) = velocity_of(d).filter(|_| !velocities[d]) {
            (positions[d], velocities[v]) = (true, true);
        }
    }
    let form = "verlet needs equations of the form x' = v, v' = f(x, u, t)";
    if let Some(d) = (0..n).find(|&d| positions[d] == velocities[d]) {
        return Err(format!("{form}, and equation {d} has no partner"));
    }
    let depends = |d: usize| formulas.partials().row(d).iter().any(|e| e.column < n && velocities[e.column]);
    match (0..n).find(|&d| velocities[d] && depends(d)) {
        Some(d) => Err(format!("{form}, and equation {d} depends on a velocity")),
        None => Ok(positions),
    }
}

impl Simulator for Ode {
    fn controls(&self) -> usize {
        match self.grid.hold {
            Hold::Interval => self.grid.intervals * self.controls,
            Hold::Whole => self.controls,
        }
    }

    fn outcomes(&self) -> usize {
        self.observations() * self.observe.count()
    }

    fn initials(&self) -> usize {
        self.starts.iter().filter(|fixed| fixed.is_none()).count()
    }

    fn tape_len(&self, samples: usize) -> usize {
        let width = if samples > NARROW { WIDE } else { NARROW };
        samples.div_ceil(width) * width * self.record_len()
    }

    fn chunk(&self) -> Option<usize> {
        Some(WIDE)
    }

    fn pattern(&self) -> Pattern {
        let observed = self.observe.count();
        match (self.grid.observe_at, self.grid.hold) {
            (ObserveAt::End, _) | (_, Hold::Whole) => Pattern::Full,
            // No outcome depends on a later control.
            (ObserveAt::Intervals, Hold::Interval) => Pattern::Sparse(
                (0..self.controls())
                    .map(|control| (control / self.controls * observed..self.outcomes()).collect())
                    .collect(),
            ),
        }
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        let samples = control.nrows();
        let record = tape.map_or(&mut [][..], |tape| tape.numbers_mut(self.tape_len(samples)));
        vectorized(
            #[inline(always)]
            || {
                if samples > NARROW {
                    self.forward::<WIDE>(initial, control, outcome, record, |_| ())
                } else {
                    self.forward::<NARROW>(initial, control, outcome, record, |_| ())
                }
            },
        )
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, cotangent, out| {
            vectorized(
                #[inline(always)]
                || {
                    if cotangent.nrows() > NARROW {
                        self.reverse::<WIDE>(at, cotangent, out);
                    } else {
                        self.reverse::<NARROW>(at, cotangent, out);
                    }
                },
            );
            Ok(())
        })
        .and_jvp(|at, tangent, out| {
            vectorized(
                #[inline(always)]
                || {
                    if tangent.nrows() > NARROW {
                        self.tangent::<WIDE>(at, tangent, out);
                    } else {
                        self.tangent::<NARROW>(at, tangent, out);
                    }
                },
            );
            Ok(())
        })
    }
}
