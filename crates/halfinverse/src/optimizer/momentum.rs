//! The heavy ball: m ← μm + ∇,  θ ← θ − η·m.
//!
//! Memory P.
//!
//! Source: Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964; μ = 0.9 as is customary.

use super::first_order::check_fraction;
use super::{Memory, Rule, check_learning_rate};
use crate::error::SettingError;

/// Gradient descent with momentum.
#[derive(Debug, Clone)]
pub struct Momentum {
    learning_rate: f64,
    mu: f64,
    velocity: Vec<f64>,
}

impl Momentum {
    /// With learning rate η and momentum μ.
    ///
    /// # Errors
    /// When η is not positive and finite, or μ outside \[0, 1).
    pub fn new(learning_rate: f64, momentum: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_fraction("optimizer.momentum", momentum)?;
        Ok(Self { learning_rate, mu: momentum, velocity: Vec::new() })
    }
}

impl Momentum {
    /// m ← μm + ∇.
    pub(super) fn accumulate(&mut self, gradient: &[f64]) {
        self.velocity.resize(gradient.len(), 0.0);
        for (m, g) in self.velocity.iter_mut().zip(gradient) {
            *m = self.mu * *m + *g;
        }
    }

    /// μ and m.
    pub(super) fn motion(&self) -> (f64, &[f64]) {
        (self.mu, &self.velocity)
    }
}

impl Rule for Momentum {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.accumulate(gradient);
        gradient.copy_from_slice(&self.velocity);
    }

    fn visit(&mut self, memory: &mut Memory) {
        memory.parameters("velocity", &mut self.velocity);
    }
}
