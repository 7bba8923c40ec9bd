//! Adadelta: RMSprop whose numerator is a running mean of the squares of its own updates, so that units agree.
//!
//! v ← ρv + (1−ρ)∇²,  Δ = √(d + ε)/√(v + ε)·∇,  d ← ρd + (1−ρ)Δ²,  θ ← θ − η·Δ
//!
//! Memory 2P. ρ = 0.9 and ε = 1e-6 are optax's; the source has η = 1.
//!
//! Source: Zeiler, *ADADELTA: An Adaptive Learning Rate Method*, arXiv 1212.5701, 2012.

use super::first_order::{check_fraction, check_positive};
use super::{Memory, Rule, check_learning_rate};
use crate::columns::vectorized;
use crate::error::SettingError;

/// Adadelta with its two running means.
#[derive(Debug, Clone)]
pub struct Adadelta {
    learning_rate: f64,
    decay: f64,
    epsilon: f64,
    squares: Vec<f64>,
    updates: Vec<f64>,
}

impl Adadelta {
    /// With learning rate η, decay rate ρ, and ε.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or ρ outside \[0, 1).
    pub fn new(learning_rate: f64, decay: f64, epsilon: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_fraction("optimizer.decay", decay)?;
        check_positive("optimizer.epsilon", epsilon)?;
        Ok(Self { learning_rate, decay, epsilon, squares: Vec::new(), updates: Vec::new() })
    }
}

impl Rule for Adadelta {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.squares.resize(gradient.len(), 0.0);
        self.updates.resize(gradient.len(), 0.0);
        let (squares, updates) = (&mut self.squares, &mut self.updates);
        let (decay, epsilon) = (self.decay, self.epsilon);
        vectorized(
            #[inline(always)]
            || {
                for ((v, d), g) in squares.iter_mut().zip(updates).zip(gradient) {
                    *v = decay * *v + (1.0 - decay) * *g * *g;
                    *g *= ((*d + epsilon) / (*v + epsilon)).sqrt();
                    *d = decay * *d + (1.0 - decay) * *g * *g;
                }
            },
        );
    }

    fn visit(&mut self, memory: &mut Memory) {
        memory.parameters("squares", &mut self.squares);
        memory.parameters("updates", &mut self.updates);
    }
}
