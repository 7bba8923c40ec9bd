//! Gradient descent on mini-batches: θ ← θ − η·∇.
//!
//! No memory.
//!
//! Source: Robbins, Monro, *A Stochastic Approximation Method*, Ann. Math. Stat. 22, 1951.

use serde::{Deserialize, Serialize};

use super::{Context, FirstOrder, Optimizer, Rule, Setup};
use crate::error::SettingError;

/// Settings of [`Sgd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SgdSettings {
    /// Learning rate η.
    pub learning_rate: f64,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self { learning_rate: 0.01 }
    }
}

impl Setup for SgdSettings {
    const NAME: &'static str = "sgd";
    const ABOUT: &'static str = "gradient descent";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Sgd::new(self)?)))
    }
}

/// Gradient descent.
#[derive(Debug, Clone)]
pub struct Sgd {
    settings: SgdSettings,
}

impl Sgd {
    /// With these settings.
    ///
    /// # Errors
    /// When η is not positive and finite.
    pub fn new(settings: SgdSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        Ok(Self { settings })
    }
}

impl Rule for Sgd {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], _: &mut [f64]) {}
}
