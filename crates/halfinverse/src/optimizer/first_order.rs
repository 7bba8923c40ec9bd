//! Optimizers that need nothing but the gradient: one sweep forward, one back, and a rule.

use super::{Memory, Optimizer, StepReport, descend};
use crate::columns::dot;
use crate::error::{SettingError, StepError};
use crate::model::Problem;

/// What makes a direction of a gradient.
pub trait Rule: Send {
    /// Learning rate η.
    fn learning_rate(&self) -> f64;

    /// Replaces the gradient at θ by the direction Δ of θ ← θ − η·Δ.
    fn direct(&mut self, theta: &[f64], gradient: &mut [f64]);

    /// Saves the rule's memory, or takes it back.
    fn visit(&mut self, _memory: &mut Memory) {}
}

/// The optimizer that a rule makes.
///
/// # Example
/// ```
/// use halfinverse::optimizer::{Adam, FirstOrder, Optimizer};
/// let adam: Box<dyn Optimizer> = Box::new(FirstOrder::new(Adam::new(3e-4, 0.9, 0.999, 1e-7)?));
/// # Ok::<(), halfinverse::SettingError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FirstOrder<R> {
    rule: R,
    gradient: Vec<f64>,
}

impl<R: Rule> FirstOrder<R> {
    /// With this rule.
    #[must_use]
    pub fn new(rule: R) -> Self {
        Self { rule, gradient: Vec::new() }
    }
}

impl<R: Rule> Optimizer for FirstOrder<R> {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        let loss = problem.gradient(theta, &mut self.gradient)?;
        check_gradient(&self.gradient)?;
        self.rule.direct(theta, &mut self.gradient);
        let learning_rate = self.rule.learning_rate();
        let update_norm = descend(theta, &self.gradient, learning_rate)?;
        Ok(StepReport { loss, update_norm, learning_rate, ..StepReport::default() })
    }

    fn visit(&mut self, _: &Problem, memory: &mut Memory) {
        self.rule.visit(memory);
    }
}

/// Keeps out of a rule's memory what would stay in it for good: NaN, and what overflows when it is squared.
pub(super) fn check_gradient(gradient: &[f64]) -> Result<(), StepError> {
    if dot(gradient, gradient).is_finite() {
        return Ok(());
    }
    // NaN sorts above all numbers.
    let worst = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let (index, &value) = worst.unwrap_or((0, &f64::NAN));
    Err(StepError::GradientNotFinite { index, value })
}

/// A decay rate or momentum, from 0 to below 1.
pub(super) fn check_fraction(key: &str, value: f64) -> Result<(), SettingError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(SettingError::new(key, value, "at least 0 and below 1"))
}

/// A number that divides.
pub(super) fn check_positive(key: &str, value: f64) -> Result<(), SettingError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(SettingError::new(key, value, "positive and finite"))
}
