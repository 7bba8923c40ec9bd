//! L = factor · Σ w_c ρ(r_c²) per sample, with r = y − t and ρ(r²) = δ² ln(1 + (r/δ)²): the squared error near the target;
//! beyond δ the pull falls with the distance, so that gross outliers hardly count. Not convex: start near, or from
//! weights trained with [`Huber`](super::Huber).
//!
//! Gauss–Newton's h is 2·factor·ρ′ = 2·factor/(1 + (r/δ)²), the weight of iteratively reweighted least squares, and not the
//! second derivative, which is negative beyond δ. The parabola of curvature h touches the loss at r and at −r and lies
//! nowhere below it (ρ is concave), so a step that minimizes it does not raise the loss of a linear model.
//!
//! Source: Triggs, McLauchlan, Hartley, Fitzgibbon, *Bundle Adjustment: A Modern Synthesis*, 2000; ρ as Ceres'
//! `CauchyLoss`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Objective, OutcomeLoss, Setup, Weighted};
use crate::error::SettingError;

/// Settings of [`Cauchy`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CauchySettings {
    /// The residual δ up to which errors count squared.
    pub scale: f64,
    /// Factor of the loss.
    pub factor: f64,
    /// Weight of each outcome; all are 1 where the list is empty.
    pub weights: Vec<f64>,
}

impl Default for CauchySettings {
    fn default() -> Self {
        Self { scale: 1.0, factor: 1.0, weights: Vec::new() }
    }
}

impl Setup for CauchySettings {
    const KIND: &'static str = "cauchy";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        Ok(Arc::new(Weighted::new(Cauchy::new(self.scale, self.factor)?, self.weights)?))
    }
}

/// Squared error that grows only like the logarithm beyond a residual of δ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cauchy {
    scale: f64,
    factor: f64,
}

impl Cauchy {
    /// With this δ and this factor.
    ///
    /// # Errors
    /// When one of them is not positive and finite.
    pub fn new(scale: f64, factor: f64) -> Result<Self, SettingError> {
        SettingError::check_positive("scale", scale)?;
        SettingError::check_positive("factor", factor)?;
        Ok(Self { scale, factor })
    }
}

impl OutcomeLoss for Cauchy {
    fn value(&self, y: f64, t: f64) -> f64 {
        let ratio = (y - t) / self.scale;
        self.factor * self.scale * self.scale * (ratio * ratio).ln_1p()
    }

    fn h(&self, y: f64, t: f64) -> f64 {
        let ratio = (y - t) / self.scale;
        2.0 * self.factor / (1.0 + ratio * ratio)
    }
}
