//! L = factor · Σ w_c (y_c − t_c)²/(t_c² + f²) per sample: squared errors relative to the targets, down to a floor f.
//!
//! The curvature 2·factor/(t² + f²) differs from outcome to outcome, so that the Gauss–Newton model is exact.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Objective, OutcomeLoss, Setup, Weighted};
use crate::error::SettingError;

/// Settings of [`RelativeError`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RelativeErrorSettings {
    /// Factor of the squares.
    pub factor: f64,
    /// The size f of targets below which errors count as absolute ones.
    pub floor: f64,
    /// Weight of each outcome; all are 1 where the list is empty.
    pub weights: Vec<f64>,
}

impl Default for RelativeErrorSettings {
    fn default() -> Self {
        Self { factor: 1.0, floor: 1e-3, weights: Vec::new() }
    }
}

impl Setup for RelativeErrorSettings {
    const KIND: &'static str = "relative-error";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        let Self { factor, floor, weights } = self;
        Ok(Arc::new(Weighted::new(RelativeError::new(factor, floor)?, weights)?))
    }
}

/// Squared distance of the outcome from its target, relative to the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeError {
    factor: f64,
    floor: f64,
}

impl RelativeError {
    /// With this factor of the squares, and errors that count as absolute ones where targets are below `floor`.
    ///
    /// # Errors
    /// When factor or floor is not positive and finite.
    pub fn new(factor: f64, floor: f64) -> Result<Self, SettingError> {
        SettingError::check_positive("factor", factor)?;
        SettingError::check_positive("floor", floor)?;
        Ok(Self { factor, floor })
    }

    /// ½h.
    fn weight(&self, t: f64) -> f64 {
        self.factor / (t * t + self.floor * self.floor)
    }
}

impl OutcomeLoss for RelativeError {
    fn value(&self, y: f64, t: f64) -> f64 {
        self.weight(t) * (y - t) * (y - t)
    }

    fn h(&self, _: f64, t: f64) -> f64 {
        2.0 * self.weight(t)
    }
}
