//! L = factor · Σ (y − t)²/(t² + f²) per sample: squared errors relative to the targets, down to a floor f.
//!
//! The curvature 2·factor/(t² + f²) differs from outcome to outcome, so that the Gauss–Newton model is exact.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Curvature, Objective, Setup, sum_over_outcomes};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut};

/// Settings of [`RelativeError`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RelativeErrorSettings {
    /// Factor of the squares.
    pub factor: f64,
    /// The size f of targets below which errors count as absolute ones.
    pub floor: f64,
}

impl Default for RelativeErrorSettings {
    fn default() -> Self {
        Self { factor: 1.0, floor: 1e-3 }
    }
}

impl Setup for RelativeErrorSettings {
    const KIND: &'static str = "relative-error";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        Ok(Arc::new(RelativeError::new(self)?))
    }
}

/// Squared distance of the outcome from its target, relative to the target.
#[derive(Debug, Clone, PartialEq)]
pub struct RelativeError {
    settings: RelativeErrorSettings,
}

impl RelativeError {
    /// With these settings.
    ///
    /// # Errors
    /// When factor or floor is not positive and finite.
    pub fn new(settings: RelativeErrorSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("factor", settings.factor)?;
        SettingError::check_positive("floor", settings.floor)?;
        Ok(Self { settings })
    }

    /// ½h of one outcome.
    fn weight(&self, target: f64) -> f64 {
        let RelativeErrorSettings { factor, floor } = self.settings;
        factor / (target * target + floor * floor)
    }
}

impl Objective for RelativeError {
    fn sum(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        gradient: Option<MatMut<'_, f64>>,
    ) -> f64 {
        let loss = |y, t| self.weight(t) * (y - t) * (y - t);
        let slope = |y, t| 2.0 * self.weight(t) * (y - t);
        sum_over_outcomes(outcome, target, gradient, loss, slope)
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::PerOutcome(Box::new(|_, target, mut h| {
            for c in 0..target.ncols() {
                for (h, t) in column_mut(h.rb_mut(), c).iter_mut().zip(column(target, c)) {
                    *h = 2.0 * self.weight(*t);
                }
            }
        }))
    }
}
