//! L = factor · Σ w_c ρ(r_c²) per sample, with r = y − t and ρ(r²) = r² where |r| ≤ δ, else 2δ|r| − δ²: the squared error
//! near the target, and beyond δ a pull of constant size, so that an outlier pulls no harder than an error of δ.
//! Convex.
//!
//! Gauss–Newton's h is 2·factor·ρ′, the weight of iteratively reweighted least squares, and not the second derivative
//! 2·factor·(ρ′ + 2r²ρ″): that is 0 beyond δ, where g is not. The parabola of curvature h touches the loss at r and
//! at −r and lies nowhere below it (ρ is concave), so a step that minimizes it does not raise the loss of a linear
//! model.
//!
//! Source: Huber, *Robust Estimation of a Location Parameter*, Ann. Math. Statist. 35(1), 1964; h as in Triggs,
//! McLauchlan, Hartley, Fitzgibbon, *Bundle Adjustment: A Modern Synthesis*, 2000, and as Ceres has it where its
//! second-order correction is left out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Objective, OutcomeLoss, Setup, Weighted};
use crate::error::SettingError;

/// Settings of [`Huber`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HuberSettings {
    /// The residual δ up to which errors count squared.
    pub scale: f64,
    /// Factor of the loss.
    pub factor: f64,
    /// Weight of each outcome; all are 1 where the list is empty.
    pub weights: Vec<f64>,
}

impl Default for HuberSettings {
    fn default() -> Self {
        Self { scale: 1.0, factor: 1.0, weights: Vec::new() }
    }
}

impl Setup for HuberSettings {
    const KIND: &'static str = "huber";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        Ok(Arc::new(Weighted::new(Huber::new(self.scale, self.factor)?, self.weights)?))
    }
}

/// Squared error that grows only linearly beyond a residual of δ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Huber {
    scale: f64,
    factor: f64,
}

impl Huber {
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

impl OutcomeLoss for Huber {
    fn value(&self, y: f64, t: f64) -> f64 {
        let size = (y - t).abs();
        let rho = if size <= self.scale { size * size } else { self.scale * (2.0 * size - self.scale) };
        self.factor * rho
    }

    fn h(&self, y: f64, t: f64) -> f64 {
        let size = (y - t).abs();
        let slope = if size <= self.scale { 1.0 } else { self.scale / size };
        2.0 * self.factor * slope
    }
}
