//! Differentiable simulators y = S(z; y₀): from a control z (and an initial state) to an outcome y, per sample.
//!
//! A simulator is written once, serially, for a few samples in batch layout: one row per sample, the samples of a
//! feature contiguous. The crate cuts a mini-batch into chunks and spreads these over threads. The author writes
//! [`Simulator::simulate`] and the derivative that is natural to it, as a [`Derivative`]; the others follow from that
//! one. [`crate::check::simulator`] compares them all with finite differences.

mod batched;
mod derivative;
pub mod dipole;
mod expression;
mod lanes;
pub mod ode;
pub mod oscillators;
pub mod poisson;
pub mod scaling;

use std::any::Any;
use std::sync::Arc;

use faer::{MatMut, MatRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use batched::Batched;
pub use derivative::Derivative;
pub(crate) use derivative::{block_cotangent, block_tangent};
pub use dipole::{Dipole, DipoleSettings};
pub(crate) use lanes::WIDTH;
pub use ode::{EquationsSettings, Hold, Method, ObserveAt, Ode, RightHandSide, Scalar, TimeGrid};
pub use oscillators::{Oscillators, OscillatorsSettings, Trajectory};
pub use poisson::{Boundary, Poisson, PoissonSettings};
pub use scaling::{IdentitySettings, Scaling, ScalingSettings, ToySettings};

use crate::error::{SettingError, ShapeError};

/// Settings of a simulator, by which a task file makes it. The type's own defaults stand for what a file leaves out.
///
/// One line in the [registry](crate::task::Registry) makes it known by its kind. Serde is version 1, schemars version
/// 1.
pub trait Setup: Serialize + DeserializeOwned + Default + schemars::JsonSchema {
    /// Its name in task files: `simulator.kind`.
    const KIND: &'static str;

    /// The simulator.
    ///
    /// # Errors
    /// The first setting that is out of range, by its own name.
    fn build(self) -> Result<Arc<dyn Simulator>, SettingError>;
}

/// Why a simulator could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the simulation{} failed: {reason}", sample.map_or_else(String::new, |sample| format!(" of sample {sample}")))]
pub struct SimulatorError {
    /// Which sample of the mini-batch, from 0, where one is to blame.
    pub sample: Option<usize>,
    /// In the simulator's words.
    pub reason: String,
}

impl SimulatorError {
    /// A simulation that failed as a whole.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { sample: None, reason: reason.into() }
    }

    /// The simulation of one sample failed. `sample` is its position in the chunk that the simulator was given; the
    /// position of the chunk in the mini-batch is added to it.
    pub fn of_sample(sample: usize, reason: impl Into<String>) -> Self {
        Self { sample: Some(sample), reason: reason.into() }
    }
}

/// What a simulation keeps for its derivatives: anything.
#[derive(Debug, Default)]
pub struct Tape(Option<Box<dyn Any + Send + Sync>>);

impl Tape {
    /// Keeps a value; what was kept before is dropped.
    pub fn keep<T: Any + Send + Sync>(&mut self, value: T) {
        self.0 = Some(Box::new(value));
    }

    /// What was kept, where it is of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }

    /// What was kept, to be changed; made by `fresh` where nothing of this type was.
    #[allow(clippy::missing_panics_doc, reason = "made just before")]
    pub fn get_or_keep<T: Any + Send + Sync>(&mut self, fresh: impl FnOnce() -> T) -> &mut T {
        if self.get::<T>().is_none() {
            self.keep(fresh());
        }
        self.0.as_mut().and_then(|kept| kept.downcast_mut()).expect("of this type")
    }

    /// Room for so many numbers, kept from call to call.
    pub fn numbers_mut(&mut self, length: usize) -> &mut [f64] {
        let numbers: &mut Vec<f64> = self.get_or_keep(Vec::new);
        numbers.resize(length, 0.0);
        numbers
    }

    /// The numbers that [`Self::numbers_mut`] made room for.
    #[must_use]
    pub fn numbers(&self) -> &[f64] {
        self.get::<Vec<f64>>().map_or(&[], Vec::as_slice)
    }
}

/// Where a derivative is taken: the arguments of the simulation and what it kept.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Initial states, b × [`Simulator::initials`].
    pub initial: MatRef<'a, f64>,
    /// Controls, b × [`Simulator::controls`].
    pub control: MatRef<'a, f64>,
    /// What `simulate` kept at this point.
    pub tape: &'a Tape,
}

/// Which outcomes depend on which controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Every outcome on every control.
    Full,
    /// Of each control, the outcomes that depend on it, ascending. All others are taken to be 0 in every product.
    Sparse(Vec<Vec<usize>>),
}

impl Pattern {
    /// Refuses controls and outcomes that a simulator of these numbers does not have.
    pub(crate) fn check(&self, controls: usize, outcomes: usize) -> Result<(), ShapeError> {
        let Self::Sparse(of_controls) = self else { return Ok(()) };
        ShapeError::check("the simulator's pattern", "controls", controls, of_controls.len())?;
        let named = of_controls.iter().flatten().max().map_or(0, |last| last + 1);
        ShapeError::check("the simulator's pattern", "outcomes", outcomes, named.max(outcomes))
    }
}

/// A differentiable map from a control to an outcome, sample by sample.
///
/// # Example
/// ```
/// use faer::{Mat, MatMut, MatRef};
/// use halfinverse::simulator::{Derivative, Simulator, SimulatorError, Tape};
/// /// y = z².
/// struct Square;
/// impl Simulator for Square {
///     fn controls(&self) -> usize {
///         1
///     }
///     fn outcomes(&self) -> usize {
///         1
///     }
///     fn simulate(
///         &self,
///         _initial: MatRef<'_, f64>,
///         control: MatRef<'_, f64>,
///         mut outcome: MatMut<'_, f64>,
///         _tape: Option<&mut Tape>,
///     ) -> Result<(), SimulatorError> {
///         for s in 0..control.nrows() {
///             outcome[(s, 0)] = control[(s, 0)].powi(2);
///         }
///         Ok(())
///     }
///     fn derivative(&self) -> Derivative<'_> {
///         Derivative::vjp(|at, cotangent, mut out| {
///             for s in 0..cotangent.nrows() {
///                 out[(s, 0)] = 2.0 * at.control[(s, 0)] * cotangent[(s, 0)];
///             }
///             Ok(())
///         })
///     }
/// }
/// let control = faer::mat![[3.0], [-0.5]];
/// let checks = halfinverse::check::simulator(&Square, Mat::zeros(2, 0).as_ref(), control.as_ref(), 1)?;
/// assert!(checks.iter().all(|check| check.error < halfinverse::check::TOLERANCE));
/// # Ok::<(), SimulatorError>(())
/// ```
pub trait Simulator: Send + Sync {
    /// Number of control components q.
    fn controls(&self) -> usize;

    /// Number of outcome components m.
    fn outcomes(&self) -> usize;

    /// Number of components of a sample's initial state; 0 when every sample starts alike.
    fn initials(&self) -> usize {
        0
    }

    /// y (b × m) from initial states (b × [`Self::initials`]) and controls (b × q), whatever `outcome` held before.
    ///
    /// There is a tape where derivatives at this point will be asked for; it holds what an earlier call kept.
    ///
    /// # Errors
    /// When the simulation cannot be carried out.
    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError>;

    /// ∂y/∂z in the way that is natural to the simulator, and in others where these are cheaper than what follows from
    /// it. With `jvp` alone every gradient takes q calls, those of first-order optimizers too: give `vjp` where that is
    /// many.
    fn derivative(&self) -> Derivative<'_>;

    /// Samples that are simulated together, or all of a mini-batch. The chunks of a mini-batch are spread over threads;
    /// they do not depend on the number of threads, so neither do results.
    fn chunk(&self) -> Option<usize> {
        // A multiple of every vector width, small enough for the tape to stay in the cache.
        Some(32)
    }

    /// What of its settings makes the scheme unstable where the equations are not, in a sentence with numbers that
    /// mend it; none where nothing is known. It refuses nothing: programs say it before a run, and where one diverged.
    fn instability(&self) -> Option<String> {
        None
    }

    /// Which outcomes depend on which controls. Asked for once per problem.
    fn pattern(&self) -> Pattern {
        Pattern::Full
    }

    /// How many numbers the tape of so many samples holds; for the forecast of memory.
    fn tape_len(&self, samples: usize) -> usize {
        let _ = samples;
        0
    }
}
