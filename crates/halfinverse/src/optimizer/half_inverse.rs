//! Half-inverse gradients, and their relatives with another filter: θ ← θ − η·V φ(Σ) Uᵀ g for J = U Σ Vᵀ.
//!
//! φ(σ) = σ^−½ is the half-inverse, φ(σ) = σ^−1 Gauss–Newton. The mean over the mini-batch enters g before the
//! inversion and J is not scaled, so the filter decides how the batch size acts on the step.
//!
//! Costs one simulation with its blocks ∂y/∂z, and one spectral update.
//!
//! Source: Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022.

use super::{Optimizer, StepReport, check_learning_rate, descend};
use crate::error::{SettingError, StepError};
use crate::model::Problem;
use crate::spectral::{Filter, Options, Shape, Spectral};

/// The spectral step with a fixed filter.
#[derive(Debug, Clone)]
pub struct HalfInverse {
    learning_rate: f64,
    filter: Filter,
    spectral: Spectral,
    delta: Vec<f64>,
}

impl HalfInverse {
    /// With learning rate η and the filter φ.
    ///
    /// # Errors
    /// When η is not positive and finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::optimizer::HalfInverse;
    /// use halfinverse::spectral::{Filter, Options, Solver};
    /// let options = Options { solver: Solver::Krylov { vectors: 16 }, ..Options::default() };
    /// let optimizer = HalfInverse::new(1.0, Filter::power(0.5, 1e-6)?, options)?;
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(learning_rate: f64, filter: Filter, options: Options) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        Ok(Self { learning_rate, filter, spectral: Spectral::new(options), delta: Vec::new() })
    }
}

impl Optimizer for HalfInverse {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.delta.resize(theta.len(), 0.0);
        let mut at = problem.linearize(theta)?;
        let report =
            self.spectral.update(&mut at.jacobian, at.outcome_gradient, &self.filter, &mut self.delta)?;
        let loss = at.loss;
        let update_norm = descend(theta, &self.delta, self.learning_rate)?;
        let kappa = match self.filter.shape() {
            Shape::Power { kappa } => Some(kappa),
            Shape::Damped { .. } => None,
        };
        Ok(StepReport {
            loss,
            update_norm,
            learning_rate: self.learning_rate,
            kappa,
            spectral: Some(report),
            ..StepReport::default()
        })
    }
}
