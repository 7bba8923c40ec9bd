//! Train neural networks through physics simulators with half-inverse gradients.
//!
//! With J the Jacobian of simulator and network over a mini-batch and g = ∂L/∂y, the update is
//! Δθ = −η·V φ(Σ) Uᵀ g for J = U Σ Vᵀ. φ(σ) = σ^−½ gives half-inverse gradients, between gradient descent (σ) and
//! Gauss–Newton (σ^−1).

pub mod anatomy;
pub mod check;
mod error;
mod fault;
pub mod linear;
pub mod network;
pub mod objective;
pub mod optimizer;
pub mod problem;
pub mod ranks;
pub mod simulator;
pub mod spectral;
mod streams;
mod tables;
pub mod task;
pub mod training;

pub use error::{SettingError, ShapeError};
pub use fault::{Culprit, StepError};
pub use problem::{Evaluator, Model, NetworkProblem, Predictor, Problem, Samples};
pub use {faer, rand};

/// The README's example, run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The Rust of docs/own.md, run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/own.md")]
pub struct Own;
