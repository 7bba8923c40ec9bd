//! Gradient descent on mini-batches: θ ← θ − η·∇.
//!
//! No memory.
//!
//! Source: Robbins, Monro, *A Stochastic Approximation Method*, Ann. Math. Stat. 22, 1951.

use super::{Rule, check_learning_rate};
use crate::error::SettingError;

/// Stochastic gradient descent.
#[derive(Debug, Clone)]
pub struct Sgd {
    learning_rate: f64,
}

impl Sgd {
    /// With learning rate η.
    ///
    /// # Errors
    /// When η is not positive and finite.
    pub fn new(learning_rate: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        Ok(Self { learning_rate })
    }
}

impl Rule for Sgd {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], _: &mut [f64]) {}
}
