//! Nesterov's momentum: m ← μm + ∇,  θ ← θ − η·(∇ + μm), the gradient looked up where the momentum leads.
//!
//! Memory P.
//!
//! Source: Nesterov, *A method of solving a convex programming problem with convergence rate O(1/k²)*, 1983; in this
//! form Sutskever, Martens, Dahl, Hinton, ICML 2013.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::{Context, FirstOrder, Momentum, MomentumSettings, Optimizer, Rule, Setup, State, StateError};
use crate::error::SettingError;

/// Settings of [`Nesterov`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NesterovSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Momentum μ.
    pub momentum: f64,
}

impl Default for NesterovSettings {
    fn default() -> Self {
        Self { learning_rate: 0.01, momentum: 0.9 }
    }
}

impl Setup for NesterovSettings {
    const NAME: &'static str = "nesterov";
    const ABOUT: &'static str = "gradient descent with momentum that looks ahead";
    const STREAMS: bool = true;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Nesterov::new(self)?)))
    }
}

/// Gradient descent with Nesterov's momentum.
#[derive(Debug, Clone)]
pub struct Nesterov {
    ball: Momentum,
}

impl Nesterov {
    /// With these settings.
    ///
    /// # Errors
    /// As [`Momentum::new`].
    pub fn new(settings: NesterovSettings) -> Result<Self, SettingError> {
        let NesterovSettings { learning_rate, momentum } = settings;
        Ok(Self { ball: Momentum::new(MomentumSettings { learning_rate, momentum })? })
    }
}

impl Rule for Nesterov {
    fn learning_rate(&self) -> f64 {
        self.ball.learning_rate()
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.ball.accumulate(gradient);
        let (mu, velocity) = self.ball.motion();
        for (g, m) in gradient.iter_mut().zip(velocity) {
            *g += mu * m;
        }
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.ball.save_to(out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        self.ball.restore(state, parameters)
    }
}
