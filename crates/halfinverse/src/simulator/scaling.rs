//! Controls times constant factors: y_j = s_j·z_j, per sample.
//!
//! The smallest simulator that can be ill-conditioned: its singular values are the |s_j|. With all factors 1 it is no
//! simulator at all, and training is plain regression.
//!
//! Source of the two-factor example: Schnell, Holl, Thuerey, ICLR 2022, section 3.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Derivative, Pattern, Point, Setup, Simulator, SimulatorError, Tape};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut};

/// Settings of [`Scaling`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScalingSettings {
    /// The factors, one per control.
    pub factors: Vec<f64>,
}

impl Default for ScalingSettings {
    fn default() -> Self {
        Self { factors: vec![1.0] }
    }
}

impl Setup for ScalingSettings {
    const KIND: &'static str = "scaling";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        let usable = |factor: &f64| factor.is_finite() && *factor != 0.0;
        if self.factors.is_empty() || !self.factors.iter().all(usable) {
            let found = format!("{:?}", self.factors);
            return Err(SettingError::new("factors", found, "a list of numbers that are finite and not 0"));
        }
        Ok(Arc::new(Scaling::new(self.factors)))
    }
}

/// Settings of the paper's example: factors 1 and λ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToySettings {
    /// λ: 1 is well-conditioned, 0.01 is not.
    pub lambda: f64,
}

impl Default for ToySettings {
    fn default() -> Self {
        Self { lambda: 0.01 }
    }
}

impl Setup for ToySettings {
    const KIND: &'static str = "toy";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        if !(self.lambda.is_finite() && self.lambda != 0.0) {
            return Err(SettingError::new("lambda", self.lambda, "finite and not 0"));
        }
        Ok(Arc::new(Scaling::new(vec![1.0, self.lambda])))
    }
}

/// Settings of no simulator at all: y = z.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Components of control and outcome, from 1 to 65536.
    pub width: usize,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self { width: 1 }
    }
}

impl Setup for IdentitySettings {
    const KIND: &'static str = "identity";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        if self.width == 0 || self.width > 1 << 16 {
            return Err(SettingError::new("width", self.width, "from 1 to 65536"));
        }
        Ok(Arc::new(Scaling::new(vec![1.0; self.width])))
    }
}

/// Multiplication by a factor per component.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    factors: Vec<f64>,
}

impl Scaling {
    /// With the factors s, one per control.
    #[must_use]
    pub fn new(factors: Vec<f64>) -> Self {
        Self { factors }
    }

    /// The factors.
    #[must_use]
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    fn scale(&self, from: MatRef<'_, f64>, mut to: MatMut<'_, f64>) {
        for (j, factor) in self.factors.iter().enumerate() {
            for (to, from) in column_mut(to.rb_mut(), j).iter_mut().zip(column(from, j)) {
                *to = factor * from;
            }
        }
    }
}

impl Simulator for Scaling {
    fn controls(&self) -> usize {
        self.factors.len()
    }

    fn outcomes(&self) -> usize {
        self.factors.len()
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        self.scale(control, outcome);
        Ok(())
    }

    /// The map is linear and symmetric.
    fn derivative(&self) -> Derivative<'_> {
        let map = |_: Point<'_>, from: MatRef<'_, f64>, to: MatMut<'_, f64>| {
            self.scale(from, to);
            Ok(())
        };
        Derivative::jvp(map).and_vjp(map)
    }

    fn pattern(&self) -> Pattern {
        Pattern::Sparse((0..self.factors.len()).map(|j| vec![j]).collect())
    }
}
