//! Objectives L(y, target) of a mini-batch, and their gradient g = ∂L/∂y.

mod overlap;
mod squared_error;

use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

pub use overlap::Overlap;
pub use squared_error::SquaredError;

/// How the losses of the samples become the loss of a mini-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Their mean: g carries 1/b.
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// Factor of the sum over `samples`.
    #[must_use]
    pub fn factor(self, samples: usize) -> f64 {
        match self {
            Self::Mean => 1.0 / samples as f64,
            Self::Sum => 1.0,
        }
    }
}

/// A loss per sample, with its gradient with respect to the outcome.
pub trait Objective: Send + Sync {
    /// How samples are combined.
    fn reduction(&self) -> Reduction;

    /// h of the Gauss–Newton model L(y + δ) ≈ L + g·δ + ½h|δ|² of a sample's loss, reduction left out: what makes
    /// g/h a residual, whatever the loss's factor.
    fn curvature(&self) -> f64;

    /// Sum of the samples' losses for y and target (b × m each); writes its gradient (b × m) if asked to.
    fn sum(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        gradient: Option<MatMut<'_, f64>>,
    ) -> f64;
}
