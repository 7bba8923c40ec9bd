//! AdamW: Adam, with weights that decay beside the gradient instead of through it.
//!
//! θ ← θ − η·(m̂/(√v̂ + ε) + λθ), m̂ and v̂ as in [Adam](super::adam).
//!
//! Memory 2P. λ = 1e-4 is optax's; biases decay as weights do.
//!
//! Source: Loshchilov, Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019.

use super::{Adam, Memory, Rule};
use crate::error::SettingError;

/// Adam with decoupled weight decay.
#[derive(Debug, Clone)]
pub struct AdamW {
    adam: Adam,
    weight_decay: f64,
}

impl AdamW {
    /// Adam with weight decay λ.
    ///
    /// # Errors
    /// When λ is negative or not finite.
    pub fn new(adam: Adam, weight_decay: f64) -> Result<Self, SettingError> {
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(SettingError::new(
                "optimizer.weight_decay",
                weight_decay,
                "0 or positive, and finite",
            ));
        }
        Ok(Self { adam, weight_decay })
    }
}

impl Rule for AdamW {
    fn learning_rate(&self) -> f64 {
        self.adam.learning_rate()
    }

    fn direct(&mut self, theta: &[f64], gradient: &mut [f64]) {
        self.adam.direct(theta, gradient);
        for (g, theta) in gradient.iter_mut().zip(theta) {
            *g += self.weight_decay * theta;
        }
    }

    fn visit(&mut self, memory: &mut Memory) {
        self.adam.visit(memory);
    }
}
