//! Optimizers: from a problem and θ to the next θ.
//!
//! Each algorithm is one file: its step, its settings with their defaults, its cost and memory. [`ENTRIES`] lists them.

pub mod adadelta;
pub mod adagrad;
pub mod adam;
pub mod adamw;
pub mod auto;
mod entry;
pub mod first_order;
pub mod half_inverse;
pub mod kron;
pub mod lbfgs;
pub mod levenberg_marquardt;
pub mod momentum;
pub mod muon;
pub mod nesterov;
mod notice;
mod retreat;
pub mod rmsprop;
pub mod scale_invariant;
mod scaling;
pub mod sgd;
pub mod soap;
mod state;

use std::io::Write;

use serde::{Deserialize, Serialize};

pub use adadelta::{Adadelta, AdadeltaSettings};
pub use adagrad::{Adagrad, AdagradSettings};
pub use adam::{Adam, AdamSettings};
pub use adamw::{AdamW, AdamWSettings};
pub use auto::{Auto, AutoSettings};
pub use entry::{Context, Entry, Numbers, Setup, Sizes, Stores};
pub use first_order::{FirstOrder, Rule};
pub use half_inverse::{GaussNewtonSettings, HalfInverse, HalfInverseSettings};
pub use kron::{Kron, KronSettings};
pub use lbfgs::{Lbfgs, LbfgsSettings};
pub use levenberg_marquardt::{LevenbergMarquardt, LevenbergMarquardtSettings};
pub use momentum::{Momentum, MomentumSettings};
pub use muon::{Muon, MuonSettings};
pub use nesterov::{Nesterov, NesterovSettings};
pub use notice::Notice;
pub use rmsprop::{Rmsprop, RmspropSettings};
pub use scale_invariant::{ScaleInvariant, ScaleInvariantSettings};
pub use scaling::Scaling;
pub use sgd::{Sgd, SgdSettings};
pub use soap::{Soap, SoapSettings};
pub(crate) use state::{Bytes, length};
pub use state::{State, StateError};

use crate::fault::StepError;
use crate::linear::vectors::norm;
use crate::problem::Problem;
use crate::spectral::Report;
use retreat::Retreat;

/// The entries of all optimizers here, in the order of the documentation.
pub const ENTRIES: &[fn() -> Entry] = &[
    Entry::of::<HalfInverseSettings>,
    Entry::of::<AutoSettings>,
    Entry::of::<KronSettings>,
    Entry::of::<GaussNewtonSettings>,
    Entry::of::<LevenbergMarquardtSettings>,
    Entry::of::<LbfgsSettings>,
    Entry::of::<ScaleInvariantSettings>,
    Entry::of::<SoapSettings>,
    Entry::of::<MuonSettings>,
    Entry::of::<AdamSettings>,
    Entry::of::<AdamWSettings>,
    Entry::of::<SgdSettings>,
    Entry::of::<MomentumSettings>,
    Entry::of::<NesterovSettings>,
    Entry::of::<RmspropSettings>,
    Entry::of::<AdagradSettings>,
    Entry::of::<AdadeltaSettings>,
];

/// One step of an optimizer, as it was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Mean loss per sample of the mini-batch before the step.
    pub loss: f64,
    /// |Δθ|, the length of what was added to θ.
    pub update_norm: f64,
    /// Learning rate η, where the step has one.
    pub learning_rate: Option<f64>,
    /// Length of the step in units of the one that the mini-batch's quadratic model likes best, where the optimizer
    /// chooses it.
    pub step_length: Option<f64>,
    /// Exponent κ, where there is one.
    pub kappa: Option<f64>,
    /// Damping λ, where there is one.
    pub lambda: Option<f64>,
    /// Which of several ways to step was taken, where there are several.
    pub way: Option<Way>,
    /// Whether the step was taken back, and θ is as it was.
    pub rejected: bool,
    /// Of the spectral step, where there is one.
    pub spectral: Option<Report>,
    /// |∂L/∂θ| of the mini-batch's mean loss before the step, where the step knows it.
    pub gradient_norm: Option<f64>,
    /// What else there is to say of the step.
    pub notice: Option<Notice>,
}

/// A way to step of an optimizer that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A family of steps from one Krylov space.
    Krylov,
    /// Kronecker factors.
    Kron,
    /// Steps at a gradient's price.
    Adam,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Krylov, Self::Kron, Self::Adam];
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Krylov => "krylov",
            Self::Kron => "kron",
            Self::Adam => "adam",
        })
    }
}

/// An optimizer with its memory.
///
/// # Example
/// ```
/// use halfinverse::optimizer::{HalfInverse, HalfInverseSettings, Optimizer};
/// use halfinverse::task::{Registry, Task};
/// use halfinverse::{NetworkProblem, Problem};
/// let task = Task::new(Registry::standard().settings("oscillators", "hig")?)?;
/// let mut problem = NetworkProblem::new(task.model(), task.train().first(16), 1)?;
/// let mut theta = task.initial_parameters();
/// let mut hig = HalfInverse::new(HalfInverseSettings::default())?;
/// let before = problem.loss(&theta)?;
/// for _ in 0..20 {
///     hig.step(&mut problem, &mut theta)?;
/// }
/// assert!(problem.loss(&theta)? < 0.5 * before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Optimizer: Send {
    /// Makes one step; on an error θ is as it was. An optimizer may take its last step back before it makes this one, where
    /// that one is to blame that no step can be made. Mini-batches may differ in size from step to step.
    ///
    /// # Errors
    /// When loss, derivatives or update are not finite, the outcomes cannot be computed, the spectral step fails, or
    /// the problem lacks what the optimizer needs.
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError>;

    /// What the next step depends on besides θ; nothing for an optimizer without memory.
    fn save(&self) -> State {
        State::default()
    }

    /// Writes the bytes of [`Self::save`]. By default all of them are made first; an optimizer whose memory is large writes
    /// them as it goes, so that a checkpoint takes no memory, and says so in [`Setup::STREAMS`].
    ///
    /// # Errors
    /// When they cannot be written.
    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(self.save().as_bytes())
    }

    /// Takes back what was saved, for a problem of so many parameters.
    ///
    /// # Errors
    /// When such an optimizer cannot have saved it; the optimizer is then not to be used.
    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let _ = parameters;
        if *state == State::default() { Ok(()) } else { Err(StateError::refused("memory")) }
    }
}

/// θ ← θ − η·Δ, and θ as it was remembered; returns |η·Δ|. θ is left alone if Δ is not finite.
fn descend(
    theta: &mut [f64],
    delta: &[f64],
    learning_rate: f64,
    retreat: &mut Retreat,
) -> Result<f64, StepError> {
    let norm = learning_rate * norm(delta);
    if !norm.is_finite() {
        return Err(update_not_finite(delta));
    }
    let before = retreat.begin(theta.len());
    for ((theta, before), delta) in theta.iter_mut().zip(before).zip(delta) {
        *before = *theta;
        *theta -= learning_rate * delta;
    }
    Ok(norm)
}

fn update_not_finite(delta: &[f64]) -> StepError {
    let bad = delta.iter().enumerate().find(|(_, d)| !d.is_finite());
    let (index, &value) = bad.unwrap_or((0, &f64::INFINITY));
    StepError::UpdateNotFinite { index, value }
}
