//! L = Σ w_c ℓ(y_c, t_c) per sample: losses that are sums over outcomes, each with a weight w_c of its own.
//!
//! ℓ is given by its value and by h, the curvature of the parabola that touches it at r = y − t and at −r, so that
//! ∂ℓ/∂y = h·r: iteratively reweighted least squares. g/h is then the residual r itself, whatever ℓ is.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::{Curvature, Objective};
use crate::error::{SettingError, ShapeError};
use crate::linear::columns::{column, column_mut};

/// The loss ℓ(y, t) of one outcome; the sum over outcomes is an [`Objective`].
pub trait OutcomeLoss: Send + Sync {
    /// ℓ.
    fn value(&self, outcome: f64, target: f64) -> f64;

    /// h, at least 0, with ∂ℓ/∂y = h·(y − t).
    fn h(&self, outcome: f64, target: f64) -> f64;

    /// h, where it is the same for all outcomes and targets.
    fn constant_h(&self) -> Option<f64> {
        None
    }
}

impl<L: OutcomeLoss> Objective for L {
    fn losses(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        losses: &mut [f64],
        gradient: Option<MatMut<'_, f64>>,
    ) {
        sum(self, &[], (outcome, target), losses, gradient);
    }

    fn curvature(&self) -> Curvature<'_> {
        curvature(self, &[])
    }
}

/// A loss whose outcomes have weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<L> {
    loss: L,
    /// w, m of them; none where all are 1.
    weights: Vec<f64>,
}

impl<L: OutcomeLoss> Weighted<L> {
    /// Σ w_c ℓ(y_c, t_c), with a weight for each outcome, or with none, where all are 1.
    ///
    /// # Errors
    /// When a weight is negative or not finite, or all are 0. That there are as many as outcomes is checked when the
    /// objective meets a simulator.
    ///
    /// # Example
    /// An outcome that counts a hundredfold:
    /// ```
    /// use halfinverse::objective::{Objective, SquaredError, Weighted};
    /// let objective = Weighted::new(SquaredError { factor: 1.0 }, vec![100.0, 1.0])?;
    /// assert!(objective.check(2).is_ok() && objective.check(3).is_err());
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(loss: L, weights: Vec<f64>) -> Result<Self, SettingError> {
        for (c, &weight) in weights.iter().enumerate() {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(SettingError::new(&format!("weights.{c}"), weight, "positive or 0, and finite"));
            }
        }
        if !weights.is_empty() && weights.iter().all(|&weight| weight == 0.0) {
            let expected = "a list with a weight above 0, or an empty one";
            return Err(SettingError::new("weights", format!("{weights:?}"), expected));
        }
        Ok(Self { loss, weights })
    }
}

impl<L: OutcomeLoss> Objective for Weighted<L> {
    fn losses(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        losses: &mut [f64],
        gradient: Option<MatMut<'_, f64>>,
    ) {
        sum(&self.loss, &self.weights, (outcome, target), losses, gradient);
    }

    fn curvature(&self) -> Curvature<'_> {
        curvature(&self.loss, &self.weights)
    }

    fn check(&self, outcomes: usize) -> Result<(), ShapeError> {
        let expected = if self.weights.is_empty() { 0 } else { outcomes };
        ShapeError::check("the objective", "weights", expected, self.weights.len())
    }
}

/// w_c.
fn weight(weights: &[f64], c: usize) -> f64 {
    weights.get(c).copied().unwrap_or(1.0)
}

fn sum<L: OutcomeLoss>(
    loss: &L,
    weights: &[f64],
    (outcome, target): (MatRef<'_, f64>, MatRef<'_, f64>),
    losses: &mut [f64],
    mut gradient: Option<MatMut<'_, f64>>,
) {
    losses.fill(0.0);
    for c in 0..outcome.ncols() {
        let w = weight(weights, c);
        let pairs = column(outcome, c).iter().zip(column(target, c));
        for (sum, (&y, &t)) in losses.iter_mut().zip(pairs.clone()) {
            *sum += w * loss.value(y, t);
        }
        if let Some(gradient) = &mut gradient {
            for (g, (&y, &t)) in column_mut(gradient.rb_mut(), c).iter_mut().zip(pairs) {
                *g = w * loss.h(y, t) * (y - t);
            }
        }
    }
}

fn curvature<'a, L: OutcomeLoss>(loss: &'a L, weights: &'a [f64]) -> Curvature<'a> {
    let first = weight(weights, 0);
    if let (Some(h), true) = (loss.constant_h(), weights.iter().all(|&w| w == first)) {
        return Curvature::Uniform(first * h);
    }
    Curvature::PerOutcome(Box::new(move |outcome, target, mut h| {
        for c in 0..outcome.ncols() {
            let w = weight(weights, c);
            let pairs = column(outcome, c).iter().zip(column(target, c));
            for (h, (&y, &t)) in column_mut(h.rb_mut(), c).iter_mut().zip(pairs) {
                *h = w * loss.h(y, t);
            }
        }
    }))
}
