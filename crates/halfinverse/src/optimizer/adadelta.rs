//! Adadelta: RMSprop whose numerator is a running mean of the squares of its own updates, so that units agree.
//!
//! v ← ρv + (1−ρ)∇²,  Δ = √(d + ε)/√(v + ε)·∇,  d ← ρd + (1−ρ)Δ²,  θ ← θ − η·Δ
//!
//! Memory 2P. ρ = 0.9 and ε = 1e-6 are optax's; the source has η = 1.
//!
//! Source: Zeiler, *ADADELTA: An Adaptive Learning Rate Method*, arXiv 1212.5701, 2012.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_memory;
use super::{Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;
use crate::linear::columns::vectorized;

/// Settings of [`Adadelta`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdadeltaSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Decay rate ρ.
    pub decay: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdadeltaSettings {
    fn default() -> Self {
        Self { learning_rate: 1.0, decay: 0.9, epsilon: 1e-6 }
    }
}

impl Setup for AdadeltaSettings {
    const NAME: &'static str = "adadelta";
    const ABOUT: &'static str = "rmsprop in units of its own updates";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Adadelta::new(self)?)))
    }
}

/// Adadelta with its two running means.
#[derive(Debug, Clone)]
pub struct Adadelta {
    settings: AdadeltaSettings,
    means: Means,
}

/// Running means.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Means {
    squares: Vec<f64>,
    updates: Vec<f64>,
}

impl Adadelta {
    /// With these settings.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or ρ outside \[0, 1).
    pub fn new(settings: AdadeltaSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_fraction("decay", settings.decay)?;
        SettingError::check_positive("epsilon", settings.epsilon)?;
        Ok(Self { settings, means: Means::default() })
    }
}

impl Rule for Adadelta {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        let Means { squares, updates } = &mut self.means;
        check_memory(squares, 0.0, gradient);
        check_memory(updates, 0.0, gradient);
        let AdadeltaSettings { decay, epsilon, .. } = self.settings;
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

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.means, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let means: Means = state.read()?;
        StateError::check_length("squares", &means.squares, parameters)?;
        StateError::check_length("updates", &means.updates, means.squares.len())?;
        self.means = means;
        Ok(())
    }
}
