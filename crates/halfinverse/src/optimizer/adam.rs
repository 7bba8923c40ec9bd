//! Adam: the gradient over a running estimate of its size, component by component.
//!
//! m ← β₁m + (1−β₁)∇,  v ← β₂v + (1−β₂)∇²,  θ ← θ − η·m̂/(√v̂ + ε),  with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
//!
//! One sweep forward and one back; memory 2P. β₁ = 0.9 and β₂ = 0.999 are the source's, ε = 1e-7 TensorFlow's, which
//! the paper's code uses.
//!
//! Source: Kingma, Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_memory;
use super::{Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;
use crate::linear::columns::vectorized;

/// Settings of [`Adam`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Decay rate β₁ of the mean gradient.
    pub beta1: f64,
    /// Decay rate β₂ of its square.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }
    }
}

impl Setup for AdamSettings {
    const NAME: &'static str = "adam";
    const ABOUT: &'static str = "the gradient over a running estimate of its size";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Adam::new(self)?)))
    }
}

/// Adam with its moments.
#[derive(Debug, Clone)]
pub struct Adam {
    settings: AdamSettings,
    moments: Moments,
}

/// Running means.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Moments {
    pub(super) steps: u32,
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
}

impl Adam {
    /// With these settings.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or a decay rate is outside \[0, 1).
    pub fn new(settings: AdamSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_fraction("beta1", settings.beta1)?;
        SettingError::check_fraction("beta2", settings.beta2)?;
        SettingError::check_positive("epsilon", settings.epsilon)?;
        Ok(Self { settings, moments: Moments::default() })
    }

    /// The means, for an optimizer that changes the basis that they are in.
    pub(super) fn moments_mut(&mut self) -> &mut Moments {
        &mut self.moments
    }
}

impl Rule for Adam {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        let Moments { steps, first, second } = &mut self.moments;
        check_memory(first, 0.0, gradient);
        check_memory(second, 0.0, gradient);
        *steps = steps.saturating_add(1);
        let exponent = i32::try_from(*steps).unwrap_or(i32::MAX);
        let AdamSettings { beta1, beta2, epsilon, .. } = self.settings;
        let (correct1, correct2) = (1.0 - beta1.powi(exponent), 1.0 - beta2.powi(exponent));
        let inverse2 = 1.0 / correct2;
        vectorized(
            #[inline(always)]
            || {
                for ((m, v), g) in first.iter_mut().zip(second).zip(gradient) {
                    *m = beta1 * *m + (1.0 - beta1) * *g;
                    *v = beta2 * *v + (1.0 - beta2) * *g * *g;
                    *g = *m / (correct1 * ((*v * inverse2).sqrt() + epsilon));
                }
            },
        );
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.moments, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let moments: Moments = state.read()?;
        StateError::check_length("first moment", &moments.first, parameters)?;
        StateError::check_length("second moment", &moments.second, moments.first.len())?;
        self.moments = moments;
        Ok(())
    }
}
