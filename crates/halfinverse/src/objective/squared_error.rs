//! L = factor · Σ w_c (y_c − t_c)² per sample. The Gauss–Newton model is exact: the loss is quadratic in y.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Objective, OutcomeLoss, Setup, Weighted};
use crate::error::SettingError;

/// Settings of [`SquaredError`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SquaredErrorSettings {
    /// Factor of the squared distance.
    pub factor: f64,
    /// Weight of each outcome; all are 1 where the list is empty.
    pub weights: Vec<f64>,
}

impl Default for SquaredErrorSettings {
    fn default() -> Self {
        Self { factor: 1.0, weights: Vec::new() }
    }
}

impl Setup for SquaredErrorSettings {
    const KIND: &'static str = "squared-error";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        SettingError::check_positive("factor", self.factor)?;
        Ok(Arc::new(Weighted::new(SquaredError { factor: self.factor }, self.weights)?))
    }
}

/// Squared distance of the outcome from its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquaredError {
    /// Factor of the squared distance: 1, or ½.
    pub factor: f64,
}

impl OutcomeLoss for SquaredError {
    fn value(&self, y: f64, t: f64) -> f64 {
        self.factor * ((y - t) * (y - t))
    }

    fn h(&self, _: f64, _: f64) -> f64 {
        2.0 * self.factor
    }

    fn constant_h(&self) -> Option<f64> {
        Some(2.0 * self.factor)
    }
}
