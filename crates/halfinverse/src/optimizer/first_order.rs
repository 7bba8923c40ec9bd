//! Optimizers that need nothing but the gradient: one sweep forward, one back, and a rule.

use std::io::Write;

use super::retreat::{Attempt, Retreat};
use super::{Notice, Optimizer, State, StateError, StepReport, descend};
use crate::fault::StepError;
use crate::linear::vectors::norm;
use crate::problem::{FactorShape, Problem};

/// What makes a direction of a gradient.
pub trait Rule: Send {
    /// Learning rate η.
    fn learning_rate(&self) -> f64;

    /// Is shown the problem before each gradient, for a rule that needs to know more of it.
    ///
    /// # Errors
    /// When the problem lacks what the rule needs.
    fn prepare(&mut self, problem: &mut dyn Problem) -> Result<(), StepError> {
        let _ = problem;
        Ok(())
    }

    /// Replaces the gradient at θ by the direction Δ of θ ← θ − η·Δ.
    fn direct(&mut self, theta: &[f64], gradient: &mut [f64]);

    /// As [`Optimizer::save_to`].
    ///
    /// # Errors
    /// As there.
    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let _ = out;
        Ok(())
    }

    /// As [`Optimizer::restore`].
    ///
    /// # Errors
    /// As there.
    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let _ = parameters;
        if *state == State::default() { Ok(()) } else { Err(StateError::refused("memory")) }
    }
}

/// The optimizer that a rule makes.
///
/// # Example
/// ```
/// use halfinverse::optimizer::{Adam, AdamSettings, FirstOrder, Optimizer};
/// let settings = AdamSettings { learning_rate: 3e-4, ..AdamSettings::default() };
/// let adam: Box<dyn Optimizer> = Box::new(FirstOrder::new(Adam::new(settings)?));
/// # Ok::<(), halfinverse::SettingError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FirstOrder<R> {
    rule: R,
    retreat: Retreat,
    gradient: Vec<f64>,
}

impl<R: Rule> FirstOrder<R> {
    /// With this rule.
    #[must_use]
    pub fn new(rule: R) -> Self {
        Self { rule, retreat: Retreat::default(), gradient: Vec::new() }
    }
}

impl<R: Rule> Attempt for FirstOrder<R> {
    fn retreat(&mut self) -> &mut Retreat {
        &mut self.retreat
    }

    fn attempt(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.rule.prepare(problem)?;
        self.gradient.resize(theta.len(), 0.0);
        let weight = problem.weight();
        let loss = problem.gradient(theta, &mut self.gradient)? / weight;
        let gradient_norm = check_gradient(&self.gradient)? / weight;
        self.rule.direct(theta, &mut self.gradient);
        let learning_rate = self.rule.learning_rate();
        let update_norm = descend(theta, &self.gradient, learning_rate, &mut self.retreat)?;
        Ok(StepReport {
            loss,
            update_norm,
            // A rule that only takes its first gradient in has made no use of η.
            learning_rate: (update_norm > 0.0).then_some(learning_rate),
            gradient_norm: Some(gradient_norm),
            notice: if gradient_norm == 0.0 { Notice::stationary(loss) } else { None },
            ..StepReport::default()
        })
    }
}

impl<R: Rule> Optimizer for FirstOrder<R> {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.step_or_take_back(problem, theta)
    }

    fn save(&self) -> State {
        State::written(&|out| self.save_to(out))
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        save_both(&self.rule, &self.retreat, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (rule, retreat): (State, Retreat) = state.read()?;
        retreat.check(parameters)?;
        self.rule.restore(&rule, parameters)?;
        self.retreat = retreat;
        Ok(())
    }
}

/// Writes a rule's memory and θ before the last step, to be read as (State, Retreat).
pub(super) fn save_both(rule: &impl Rule, retreat: &Retreat, out: &mut dyn Write) -> std::io::Result<()> {
    State::write_within(&|out| rule.save_to(out), out)?;
    State::write(retreat, out)
}

/// Keeps out of a rule's memory what would stay in it for good: NaN, and what overflows when it is squared.
/// Returns the gradient's length.
pub(super) fn check_gradient(gradient: &[f64]) -> Result<f64, StepError> {
    let length = norm(gradient);
    if (length * length).is_finite() {
        return Ok(length);
    }
    // NaN sorts above all numbers.
    let worst = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let (index, &value) = worst.unwrap_or((0, &f64::NAN));
    Err(StepError::GradientNotFinite { index, value })
}

/// The layers of a problem as matrices, for a rule that works on these.
pub(super) fn layers(
    problem: &mut dyn Problem,
    optimizer: &'static str,
) -> Result<Vec<FactorShape>, StepError> {
    let needs = "layers with weight matrices";
    let layered = problem.layered().ok_or(StepError::Unsupported { optimizer, needs })?;
    Ok(layered.factors())
}

/// Grows a rule's memory to the gradient's length at the first step; θ keeps its length after that.
pub(super) fn check_memory(memory: &mut Vec<f64>, start: f64, gradient: &[f64]) {
    if memory.len() != gradient.len() {
        memory.clear();
        memory.resize(gradient.len(), start);
    }
}
