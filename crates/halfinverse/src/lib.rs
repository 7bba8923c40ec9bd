//! Train neural networks through physics simulators with half-inverse gradients.
//!
//! With J the Jacobian of simulator and network over a mini-batch and g = ∂L/∂y, the update is
//! Δθ = −η·V φ(Σ) Uᵀ g for J = U Σ Vᵀ. φ(σ) = σ^−½ gives half-inverse gradients, between gradient descent (σ) and
//! Gauss–Newton (σ^−1).

pub mod anatomy;
pub mod check;
mod columns;
mod error;
pub mod jacobian;
mod model;
pub mod network;
pub mod objective;
pub mod optimizer;
pub mod simulator;
pub mod spectral;
pub mod task;
pub mod training;

pub use error::{Culprit, SettingError, ShapeError, StepError};
pub use model::{Evaluator, Linearization, Model, Problem, Samples};

/// The README's example, run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
