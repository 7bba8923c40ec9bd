//! The heavy ball: m ← μm + ∇,  θ ← θ − η·m.
//!
//! Memory P.
//!
//! Source: Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964; μ = 0.9 as is customary.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_memory;
use super::{Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;

/// Settings of [`Momentum`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MomentumSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Momentum μ.
    pub momentum: f64,
}

impl Default for MomentumSettings {
    fn default() -> Self {
        Self { learning_rate: 0.01, momentum: 0.9 }
    }
}

impl Setup for MomentumSettings {
    const NAME: &'static str = "momentum";
    const ABOUT: &'static str = "gradient descent with momentum";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Momentum::new(self)?)))
    }
}

/// Gradient descent with momentum.
#[derive(Debug, Clone)]
pub struct Momentum {
    settings: MomentumSettings,
    velocity: Vec<f64>,
}

impl Momentum {
    /// With these settings.
    ///
    /// # Errors
    /// When η is not positive and finite, or μ outside \[0, 1).
    pub fn new(settings: MomentumSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_fraction("momentum", settings.momentum)?;
        Ok(Self { settings, velocity: Vec::new() })
    }

    /// m ← μm + ∇.
    pub(super) fn accumulate(&mut self, gradient: &[f64]) {
        check_memory(&mut self.velocity, 0.0, gradient);
        for (m, g) in self.velocity.iter_mut().zip(gradient) {
            *m = self.settings.momentum * *m + *g;
        }
    }

    /// μ and m.
    pub(super) fn motion(&self) -> (f64, &[f64]) {
        (self.settings.momentum, &self.velocity)
    }
}

impl Rule for Momentum {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.accumulate(gradient);
        gradient.copy_from_slice(&self.velocity);
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.velocity, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let velocity: Vec<f64> = state.read()?;
        StateError::check_length("velocity", &velocity, parameters)?;
        self.velocity = velocity;
        Ok(())
    }
}
