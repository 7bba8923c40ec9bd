//! Adagrad: the gradient over the root of all its squares so far, component by component.
//!
//! s ← s + ∇²,  θ ← θ − η·∇/√(s + ε)
//!
//! Memory P. s starts at 0.1 and ε is 1e-7, as in TensorFlow and optax.
//!
//! Source: Duchi, Hazan, Singer, *Adaptive Subgradient Methods*, JMLR 12, 2011.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_memory;
use super::{Context, FirstOrder, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;
use crate::linear::columns::vectorized;

/// Settings of [`Adagrad`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdagradSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// The value that s starts at.
    pub initial_accumulator: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdagradSettings {
    fn default() -> Self {
        Self { learning_rate: 0.01, initial_accumulator: 0.1, epsilon: 1e-7 }
    }
}

impl Setup for AdagradSettings {
    const NAME: &'static str = "adagrad";
    const ABOUT: &'static str = "the gradient over the root of all its squares so far";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Adagrad::new(self)?)))
    }
}

/// Adagrad with its sums of squares.
#[derive(Debug, Clone)]
pub struct Adagrad {
    settings: AdagradSettings,
    squares: Vec<f64>,
}

impl Adagrad {
    /// With these settings.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or the start is negative or not finite.
    pub fn new(settings: AdagradSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_positive("epsilon", settings.epsilon)?;
        let initial = settings.initial_accumulator;
        if !(initial >= 0.0 && initial.is_finite()) {
            return Err(SettingError::new("initial_accumulator", initial, "0 or positive, and finite"));
        }
        Ok(Self { settings, squares: Vec::new() })
    }
}

impl Rule for Adagrad {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        check_memory(&mut self.squares, self.settings.initial_accumulator, gradient);
        let (squares, epsilon) = (&mut self.squares, self.settings.epsilon);
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
