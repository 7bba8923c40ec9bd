//! RMSprop: the gradient over the root of a running mean of its squares, component by component.
//!
//! v ← ρv + (1−ρ)∇²,  θ ← θ − η·∇/√(v + ε)
//!
//! Memory P. ρ = 0.9 is the source's, ε = 1e-8 and its place under the root optax's.
//!
//! Source: Tieleman, Hinton, *Lecture 6.5: rmsprop*, Coursera, 2012.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_memory;
use super::{Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;
use crate::linear::columns::vectorized;

/// Settings of [`Rmsprop`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RmspropSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Decay rate ρ.
    pub decay: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for RmspropSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, decay: 0.9, epsilon: 1e-8 }
    }
}

impl Setup for RmspropSettings {
    const NAME: &'static str = "rmsprop";
    const ABOUT: &'static str = "the gradient over the root of a running mean of its squares";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Rmsprop::new(self)?)))
    }
}

/// RMSprop with its running mean.
#[derive(Debug, Clone)]
pub struct Rmsprop {
    settings: RmspropSettings,
    squares: Vec<f64>,
}

impl Rmsprop {
    /// With these settings.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or ρ outside \[0, 1).
    pub fn new(settings: RmspropSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_fraction("decay", settings.decay)?;
        SettingError::check_positive("epsilon", settings.epsilon)?;
        Ok(Self { settings, squares: Vec::new() })
    }
}

impl Rule for Rmsprop {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        check_memory(&mut self.squares, 0.0, gradient);
        let (squares, decay, epsilon) = (&mut self.squares, self.settings.decay, self.settings.epsilon);
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

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.squares, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let squares: Vec<f64> = state.read()?;
        StateError::check_length("squares", &squares, parameters)?;
        self.squares = squares;
        Ok(())
    }
}
