//! Gradient descent on mini-batches: θ ← θ − η·Jᵀg.
//!
//! One sweep forward and one back; no memory.

use super::{Optimizer, StepReport, check_learning_rate, descend};
use crate::error::{SettingError, StepError};
use crate::model::Problem;

/// Stochastic gradient descent.
#[derive(Debug, Clone)]
pub struct Sgd {
    learning_rate: f64,
    gradient: Vec<f64>,
}

impl Sgd {
    /// With learning rate η.
    ///
    /// # Errors
    /// When η is not positive and finite.
    pub fn new(learning_rate: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        Ok(Self { learning_rate, gradient: Vec::new() })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        let loss = problem.gradient(theta, &mut self.gradient)?;
        let update_norm = descend(theta, &self.gradient, self.learning_rate)?;
        Ok(StepReport { loss, update_norm, learning_rate: self.learning_rate, kappa: None, spectral: None })
    }
}
