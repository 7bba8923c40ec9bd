//! L = factor · Σ (y − t)² per sample.

use std::sync::Arc;

use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Curvature, Objective, Setup, sum_over_outcomes};
use crate::error::SettingError;

/// Settings of [`SquaredError`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SquaredErrorSettings {
    /// Factor of the squared distance.
    pub factor: f64,
}

impl Default for SquaredErrorSettings {
    fn default() -> Self {
        Self { factor: 1.0 }
    }
}

impl Setup for SquaredErrorSettings {
    const KIND: &'static str = "squared-error";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        SettingError::check_positive("factor", self.factor)?;
        Ok(Arc::new(SquaredError { factor: self.factor }))
    }
}

/// Weighted squared distance of the outcome from its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquaredError {
    /// Factor of the squared distance: 1, or ½.
    pub factor: f64,
}

impl Objective for SquaredError {
    /// Exact: the loss is quadratic in y.
    fn curvature(&self) -> Curvature<'_> {
        Curvature::Uniform(2.0 * self.factor)
    }

    fn sum(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        gradient: Option<MatMut<'_, f64>>,
    ) -> f64 {
        let slope = |y, t| 2.0 * self.factor * (y - t);
        self.factor * sum_over_outcomes(outcome, target, gradient, |y, t| (y - t) * (y - t), slope)
    }
}
