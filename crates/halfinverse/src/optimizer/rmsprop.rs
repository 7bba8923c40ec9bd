//! RMSprop: the gradient over the root of a running mean of its squares, component by component.
//!
//! v ← ρv + (1−ρ)∇²,  θ ← θ − η·∇/√(v + ε)
//!
//! Memory P. ρ = 0.9 is the source's, ε = 1e-8 and its place under the root optax's.
//!
//! Source: Tieleman, Hinton, *Lecture 6.5: rmsprop*, Coursera, 2012.

use super::first_order::{check_fraction, check_positive};
use super::{Memory, Rule, check_learning_rate};
use crate::columns::vectorized;
use crate::error::SettingError;

/// RMSprop with its running mean.
#[derive(Debug, Clone)]
pub struct Rmsprop {
    learning_rate: f64,
    decay: f64,
    epsilon: f64,
    squares: Vec<f64>,
}

impl Rmsprop {
    /// With learning rate η, decay rate ρ, and ε.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or ρ outside \[0, 1).
    pub fn new(learning_rate: f64, decay: f64, epsilon: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_fraction("optimizer.decay", decay)?;
        check_positive("optimizer.epsilon", epsilon)?;
        Ok(Self { learning_rate, decay, epsilon, squares: Vec::new() })
    }
}

impl Rule for Rmsprop {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.squares.resize(gradient.len(), 0.0);
        let (squares, decay, epsilon) = (&mut self.squares, self.decay, self.epsilon);
        vectorized(
            #[inline(always)]
            || {
                for (v, g) in squares.iter_mut().zip(gradient) {
                    *v = decay * *v + (1.0 - decay) * *g * *g;
                    *g /= (*v + epsilon).sqrt();
                }
            },
        );
    }

    fn visit(&mut self, memory: &mut Memory) {
        memory.parameters("squares", &mut self.squares);
    }
}
