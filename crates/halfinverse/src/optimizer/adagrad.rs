//! Adagrad: the gradient over the root of all its squares so far, component by component.
//!
//! s ← s + ∇²,  θ ← θ − η·∇/√(s + ε)
//!
//! Memory P. s starts at 0.1 and ε is 1e-7, as in TensorFlow and optax.
//!
//! Source: Duchi, Hazan, Singer, *Adaptive Subgradient Methods*, JMLR 12, 2011.

use super::first_order::check_positive;
use super::{Memory, Rule, check_learning_rate};
use crate::columns::vectorized;
use crate::error::SettingError;

/// Adagrad with its sums of squares.
#[derive(Debug, Clone)]
pub struct Adagrad {
    learning_rate: f64,
    initial: f64,
    epsilon: f64,
    squares: Vec<f64>,
}

impl Adagrad {
    /// With learning rate η, the value that s starts at, and ε.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or the start is negative or not finite.
    pub fn new(learning_rate: f64, initial: f64, epsilon: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_positive("optimizer.epsilon", epsilon)?;
        if !(initial >= 0.0 && initial.is_finite()) {
            return Err(SettingError::new(
                "optimizer.initial_accumulator",
                initial,
                "0 or positive, and finite",
            ));
        }
        Ok(Self { learning_rate, initial, epsilon, squares: Vec::new() })
    }
}

impl Rule for Adagrad {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.squares.resize(gradient.len(), self.initial);
        let (squares, epsilon) = (&mut self.squares, self.epsilon);
        vectorized(
            #[inline(always)]
            || {
                for (s, g) in squares.iter_mut().zip(gradient) {
                    *s += *g * *g;
                    *g /= (*s + epsilon).sqrt();
                }
            },
        );
    }

    fn visit(&mut self, memory: &mut Memory) {
        memory.parameters("squares", &mut self.squares);
    }
}
