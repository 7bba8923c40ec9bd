//! Optimizers: from one mini-batch and θ to the next θ.

pub mod adadelta;
pub mod adagrad;
pub mod adam;
pub mod adamw;
pub mod auto;
pub mod first_order;
pub mod half_inverse;
pub mod kron;
pub mod lbfgs;
pub mod levenberg_marquardt;
pub mod memory;
pub mod momentum;
pub mod nesterov;
pub mod rmsprop;
pub mod scale_invariant;
pub mod sgd;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamw::AdamW;
pub use auto::Auto;
pub use first_order::{FirstOrder, Rule};
pub use half_inverse::HalfInverse;
pub use kron::Kron;
pub use lbfgs::Lbfgs;
pub use levenberg_marquardt::LevenbergMarquardt;
pub use memory::Memory;
pub use momentum::Momentum;
pub use nesterov::Nesterov;
pub use rmsprop::Rmsprop;
pub use scale_invariant::ScaleInvariant;
pub use sgd::Sgd;

use crate::columns::norm;
use crate::error::{SettingError, StepError};
use crate::model::Problem;
use crate::spectral::Report;

/// One step of an optimizer, as it was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepReport {
    /// Loss of the mini-batch before the step.
    pub loss: f64,
    /// |Δθ|, learning rate included.
    pub update_norm: f64,
    /// Learning rate η.
    pub learning_rate: f64,
    /// Exponent κ, where there is one.
    pub kappa: Option<f64>,
    /// Damping λ, where there is one.
    pub lambda: Option<f64>,
    /// Which of several ways to step was taken, where there are several.
    pub way: Option<&'static str>,
    /// Whether the step was taken back, and θ is as it was.
    pub rejected: bool,
    /// Of the spectral step, where there is one.
    pub spectral: Option<Report>,
}

/// An optimizer with its memory.
pub trait Optimizer: Send {
    /// Makes one step; on an error θ is as it was.
    ///
    /// # Errors
    /// When loss, derivatives or update are not finite, or the simulator or the spectral step fails.
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError>;

    /// Saves what the next step depends on besides θ, or takes it back; nothing for an optimizer without memory.
    fn visit(&mut self, _problem: &Problem, _memory: &mut Memory) {}
}

/// θ ← θ − η·Δ; returns |η·Δ|. θ is left alone if Δ is not finite.
fn descend(theta: &mut [f64], delta: &[f64], learning_rate: f64) -> Result<f64, StepError> {
    let norm = learning_rate * norm(delta);
    if !norm.is_finite() {
        return Err(update_not_finite(delta));
    }
    for (theta, delta) in theta.iter_mut().zip(delta) {
        *theta -= learning_rate * delta;
    }
    Ok(norm)
}

fn update_not_finite(delta: &[f64]) -> StepError {
    let bad = delta.iter().enumerate().find(|(_, d)| !d.is_finite());
    let (index, &value) = bad.unwrap_or((0, &f64::INFINITY));
    StepError::UpdateNotFinite { index, value }
}

fn check_learning_rate(learning_rate: f64) -> Result<(), SettingError> {
    if learning_rate > 0.0 && learning_rate.is_finite() {
        return Ok(());
    }
    Err(SettingError::new("optimizer.learning_rate", learning_rate, "positive and finite"))
}
