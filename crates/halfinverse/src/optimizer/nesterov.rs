//! Nesterov's momentum: m ← μm + ∇,  θ ← θ − η·(∇ + μm), the gradient looked up where the momentum leads.
//!
//! Memory P.
//!
//! Source: Nesterov, *A method of solving a convex programming problem with convergence rate O(1/k²)*, 1983; in this
//! form Sutskever, Martens, Dahl, Hinton, ICML 2013.

use super::first_order::check_fraction;
use super::{Rule, check_learning_rate};
use crate::error::SettingError;

/// Gradient descent with Nesterov's momentum.
#[derive(Debug, Clone)]
pub struct Nesterov {
    learning_rate: f64,
    mu: f64,
    velocity: Vec<f64>,
}

impl Nesterov {
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

impl Rule for Nesterov {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.velocity.resize(gradient.len(), 0.0);
        for (m, g) in self.velocity.iter_mut().zip(gradient) {
            *m = self.mu * *m + *g;
            *g += self.mu * *m;
        }
    }

    fn state(&self) -> Vec<(&'static str, Vec<f64>)> {
        vec![("velocity", self.velocity.clone())]
    }
}
