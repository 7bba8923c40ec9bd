//! AdamW: Adam, with weights that decay beside the gradient instead of through it.
//!
//! θ ← θ − η·(m̂/(√v̂ + ε) + λθ), m̂ and v̂ as in [Adam](super::adam).
//!
//! Memory 2P. λ = 1e-4 is optax's; biases decay as weights do.
//!
//! Source: Loshchilov, Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::{Adam, AdamSettings, Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;

/// Settings of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Decay rate β₁ of the mean gradient.
    pub beta1: f64,
    /// Decay rate β₂ of its square.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, weight_decay: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }
    }
}

impl Setup for AdamWSettings {
    const NAME: &'static str = "adamw";
    const ABOUT: &'static str = "adam, with weights that decay beside the gradient";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(AdamW::new(self)?)))
    }
}

/// Adam with decoupled weight decay.
#[derive(Debug, Clone)]
pub struct AdamW {
    adam: Adam,
    weight_decay: f64,
}

impl AdamW {
    /// With these settings.
    ///
    /// # Errors
    /// As [`Adam::new`], and when λ is negative or not finite.
    pub fn new(settings: AdamWSettings) -> Result<Self, SettingError> {
        let AdamWSettings { learning_rate, weight_decay, beta1, beta2, epsilon } = settings;
        let adam = Adam::new(AdamSettings { learning_rate, beta1, beta2, epsilon })?;
        SettingError::check_decay("weight_decay", weight_decay)?;
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

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.adam.save_to(out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        self.adam.restore(state, parameters)
    }
}
