//! A solution by diffsol: from a state on, under a control that does not change, with its derivatives.

use diffsol::{
    DiffsolError, NalgebraContext, NalgebraLU, NalgebraMat, NalgebraVec, OdeBuilder, OdeEquations,
    OdeSolverMethod, OdeSolverStopReason, Vector, VectorCommon,
};
use halfinverse::simulator::RightHandSide;

use crate::along::Along;

/// Steps of the longest leg.
const MOST_STEPS: usize = 100_000;
/// The shortest step, in units of the last time.
const SHORTEST: f64 = 1e-24;
/// What the linear solves of derivatives may leave, relative to these: little more than round-off. They iterate with the
/// factors that Newton's method has.
const DERIVATIVE: f64 = 1e-13;

/// From `start` at the time `from` to the last of `times`.
pub(crate) struct Leg<'a, R> {
    pub(crate) rhs: &'a R,
    pub(crate) from: f64,
    pub(crate) times: &'a [f64],
    /// The p controls.
    pub(crate) control: &'a [f64],
    /// The n states.
    pub(crate) start: &'a [f64],
    pub(crate) relative: f64,
    pub(crate) absolute: &'a [f64],
    /// Whether derivatives are taken with respect to `start` too.
    pub(crate) carried: bool,
}

/// A state, and its derivatives: those with respect to each control, then to each state in `start`, n numbers each; none
/// where none were asked for.
pub(crate) struct Passed<'a> {
    pub(crate) time: usize,
    pub(crate) state: &'a [f64],
    pub(crate) slopes: &'a [f64],
}

impl<R: RightHandSide> Leg<'_, R> {
    /// Calls `visit` at each of the times. The steps are the same with `slopes` and without: only the state's error
    /// chooses them.
    pub(crate) fn solve(&self, slopes: bool, visit: impl FnMut(&Passed<'_>)) -> Result<(), DiffsolError> {
        let (p, n) = (self.control.len(), self.start.len());
        let along = Along::new(self.rhs);
        let unmoved = vec![0.0; n.max(p)];
        let carried = if self.carried { self.start } else { &[] };
        let mut problem = OdeBuilder::<NalgebraMat<f64>>::new()
            .t0(self.from)
            .rtol(self.relative)
            .atol(self.absolute.iter().copied())
            .p(self.control.iter().chain(carried).copied())
            .rhs_sens_implicit(
                |x: &[f64], z: &[f64], t, out: &mut [f64]| self.rhs.rhs(x, &z[..p], t, out),
                |x: &[f64], z: &[f64], t, v: &[f64], out: &mut [f64]| {
                    along.rhs([x, v], [&z[..p], &unmoved], t, out);
                },
                |x: &[f64], z: &[f64], t, v: &[f64], out: &mut [f64]| {
                    along.rhs([x, &unmoved], [&z[..p], v], t, out);
                },
            )
            .init_sens(
                |_: &[f64], _, out: &mut [f64]| out.copy_from_slice(self.start),
                |_: &[f64], _, v: &[f64], out: &mut [f64]| {
                    out.fill(0.0);
                    out[..v.len() - p].copy_from_slice(&v[p..]);
                },
                n,
            )
            .build()?;
        problem.ode_options.derivative_solve_tolerance = (DERIVATIVE / self.relative).clamp(1e-6, 0.2);
        problem.ode_options.derivative_solve_max_iter = 100;
        // They are counted over all steps; a step that fails again and again ends by its length.
        problem.ode_options.max_nonlinear_solver_failures = MOST_STEPS;
        // In whatever unit the time is, first steps are short.
        problem.ode_options.min_timestep = SHORTEST * self.times.last().unwrap_or(&1.0);
        if slopes {
            self.pass(problem.bdf_sens::<NalgebraLU<f64>>()?, |solver, at| solver.interpolate_sens(at), visit)
        } else {
            let none = NalgebraVec::from_element(0, 0.0, NalgebraContext::default());
            self.pass(problem.bdf::<NalgebraLU<f64>>()?, |_, _| Ok(none.clone()), visit)
        }
    }

    /// Steps to the last time, and calls `visit` at each; `slopes_at` has the derivatives.
    fn pass<'b, E: OdeEquations<T = f64, V = NalgebraVec<f64>> + 'b, S: OdeSolverMethod<'b, E>>(
        &self,
        mut solver: S,
        slopes_at: impl Fn(&S, f64) -> Result<NalgebraVec<f64>, DiffsolError>,
        mut visit: impl FnMut(&Passed<'_>),
    ) -> Result<(), DiffsolError> {
        let mut waiting = self.times.iter().enumerate().peekable();
        solver.set_stop_time(*self.times.last().unwrap_or(&self.from))?;
        for _ in 0..MOST_STEPS {
            let ended = !matches!(solver.step()?, OdeSolverStopReason::InternalTimestep);
            let now = solver.state().t;
            if solver.state().y.inner().iter().any(|x| !x.is_finite()) {
                return Err(DiffsolError::Other(format!("the state is not finite at the time {now}")));
            }
            // The last step ends at the last time up to round-off.
            while let Some((time, at)) = waiting.next_if(|(_, at)| ended || **at <= now) {
                let at = at.min(now);
                let (state, slopes) = (solver.interpolate(at)?, slopes_at(&solver, at)?);
                visit(&Passed { time, state: state.inner().as_slice(), slopes: slopes.inner().as_slice() });
            }
            if ended {
                return Ok(());
            }
        }
        Err(DiffsolError::Other(format!("more than {MOST_STEPS} steps to the time {}", solver.state().t)))
    }
}
