//! Objectives: the loss L(y, target) of a sample, its gradient g = ∂L/∂y, and its curvature.

mod cauchy;
mod cross_entropy;
mod huber;
mod over_outcomes;
mod overlap;
mod relative_error;
mod squared_error;

use std::sync::Arc;

use faer::{MatMut, MatRef};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use cauchy::{Cauchy, CauchySettings};
pub use cross_entropy::{CrossEntropy, CrossEntropySettings, probabilities};
pub use huber::{Huber, HuberSettings};
pub use over_outcomes::{OutcomeLoss, Weighted};
pub use overlap::{Overlap, OverlapSettings};
pub use relative_error::{RelativeError, RelativeErrorSettings};
pub use squared_error::{SquaredError, SquaredErrorSettings};

use crate::error::{SettingError, ShapeError};

/// Settings of an objective, by which a task file makes it. The type's own defaults stand for what a file leaves out.
///
/// One line in the [registry](crate::task::Registry) makes it known by its kind.
pub trait Setup: Serialize + DeserializeOwned + Default + schemars::JsonSchema {
    /// Its name in task files: `objective.kind`.
    const KIND: &'static str;

    /// The objective.
    ///
    /// # Errors
    /// The first setting that is out of range, by its own name.
    fn build(self) -> Result<Arc<dyn Objective>, SettingError>;
}

/// How the losses of the samples become the loss L of a mini-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Their mean: g carries 1/b.
    #[default]
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

    /// The reduced loss over the mean of the samples' losses.
    #[must_use]
    pub fn weight(self, samples: usize) -> f64 {
        match self {
            Self::Mean => 1.0,
            Self::Sum => samples as f64,
        }
    }
}

/// From outcome and target (b × m each) to h (b × m).
pub type PerOutcome<'a> = dyn Fn(MatRef<'_, f64>, MatRef<'_, f64>, MatMut<'_, f64>) + 'a;

/// h of the Gauss–Newton model L(y + δ) ≈ L + g·δ + ½ Σ h_c δ_c² of a sample's loss: what makes g/h a residual,
/// whatever factor the loss has.
pub enum Curvature<'a> {
    /// The same for every sample and outcome.
    Uniform(f64),
    /// Its own for each: from outcome and target (b × m each) to h (b × m), at least 0, and above 0 wherever g is not
    /// 0.
    PerOutcome(Box<PerOutcome<'a>>),
    /// As [`Self::PerOutcome`] for a loss that does not change where all outcomes of a sample are shifted alike, so
    /// that its g sums to 0: ½ δᵀHδ with H = diag(h) − h hᵀ/Σh in place of ½ Σ h_c δ_c².
    Centred(Box<PerOutcome<'a>>),
}

/// The loss of each sample, with its gradient with respect to the outcome. A loss that is a sum over outcomes is given
/// in two lines by [`OutcomeLoss`].
///
/// # Example
/// The square of the squared distance, which is no sum over outcomes:
/// ```
/// use faer::{MatMut, MatRef};
/// use halfinverse::objective::{Curvature, Objective};
/// struct FourthPower;
/// impl FourthPower {
///     fn square(y: MatRef<'_, f64>, target: MatRef<'_, f64>, s: usize) -> f64 {
///         (0..y.ncols()).map(|c| (y[(s, c)] - target[(s, c)]).powi(2)).sum()
///     }
/// }
/// impl Objective for FourthPower {
///     fn losses(
///         &self,
///         y: MatRef<'_, f64>,
///         target: MatRef<'_, f64>,
///         losses: &mut [f64],
///         mut gradient: Option<MatMut<'_, f64>>,
///     ) {
///         for (s, loss) in losses.iter_mut().enumerate() {
///             let square = Self::square(y, target, s);
///             *loss = square.powi(2);
///             if let Some(gradient) = &mut gradient {
///                 for c in 0..y.ncols() {
///                     gradient[(s, c)] = 4.0 * square * (y[(s, c)] - target[(s, c)]);
///                 }
///             }
///         }
///     }
///     fn curvature(&self) -> Curvature<'_> {
///         Curvature::PerOutcome(Box::new(|y, target, mut h| {
///             for s in 0..y.nrows() {
///                 let square = Self::square(y, target, s);
///                 (0..y.ncols()).for_each(|c| h[(s, c)] = 4.0 * square);
///             }
///         }))
///     }
/// }
/// ```
pub trait Objective: Send + Sync {
    /// The loss of each sample into `losses` (b), for y and target (b × m each); overwrites `gradient` (b × m) with
    /// ∂L/∂y of each sample's loss where there is one.
    fn losses(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        losses: &mut [f64],
        gradient: Option<MatMut<'_, f64>>,
    );

    /// h of one sample's loss.
    fn curvature(&self) -> Curvature<'_>;

    /// Refuses a number of outcome components that the objective cannot use.
    ///
    /// # Errors
    /// With the nearest number that it can.
    fn check(&self, outcomes: usize) -> Result<(), ShapeError> {
        let _ = outcomes;
        Ok(())
    }
}
