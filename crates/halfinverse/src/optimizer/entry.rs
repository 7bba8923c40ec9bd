//! What is known of an optimizer besides its steps: name, settings, cost, memory. It stands in the optimizer's own
//! file, as the [`Setup`] that its settings implement; one line in the registry makes an [`Entry`] of it.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use super::Optimizer;
use crate::error::SettingError;
use crate::problem::{FactorShape, Samples, Source};
use crate::spectral::Solver;
use crate::tables;

/// What an optimizer may be built from, besides its settings.
#[derive(Clone)]
pub struct Context {
    /// Makes problems like those that it will step on.
    pub source: Arc<dyn Source>,
    /// Samples of the mini-batches that it will be given.
    pub batch: usize,
    /// Training samples in all.
    pub samples: usize,
    /// Samples to judge by: not trained on, where [`Setup::HELD_OUT`] is set and there are enough.
    pub judges: Samples,
    /// Whether the run ends after a number of steps or epochs, not by time.
    pub counted: bool,
    /// Threads.
    pub threads: usize,
}

/// Sizes that cost and memory depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// b, samples of a mini-batch.
    pub batch: usize,
    /// m, outcome components of a sample.
    pub outcomes: usize,
    /// P, parameters.
    pub parameters: usize,
    /// Samples to judge by, where it judges: not trained on.
    pub judges: usize,
    /// Multiplications of the network's forward pass of a sample: P where no weights are shared.
    pub work: usize,
    /// The layers that have Kronecker factors.
    pub layers: Vec<FactorShape>,
}

/// Numbers of eight bytes that an optimizer needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// While it works, θ and the problem left out.
    pub working: f64,
    /// Of these, what a checkpoint keeps.
    pub saved: f64,
    /// What it has the problem store of J.
    pub stores: Stores,
    /// Problems of its own besides the mini-batch's: samples, and what they store of J. None where only losses are asked
    /// of them.
    pub besides: Vec<(usize, Option<Stores>)>,
    /// The evaluation of a spectral step, where there is one.
    pub solver: Option<Solver>,
}

/// What of J a step stores besides the network's activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stores {
    /// Nothing.
    #[default]
    Nothing,
    /// The simulator's blocks.
    Blocks,
    /// What products with J take: [rows](Self::Rows) where products are cheaper by them, else blocks.
    Products,
    /// The outcomes' derivatives with respect to every layer's output.
    Rows,
}

/// Settings of an optimizer, with all that is known of it.
///
/// # Example
/// An optimizer of one's own, with an entry for the registry:
/// ```
/// use halfinverse::optimizer::{Context, Entry, Optimizer, Setup, StepReport};
/// use halfinverse::problem::Problem;
/// use halfinverse::{SettingError, StepError};
/// use serde::{Deserialize, Serialize};
/// #[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct SignDescent {
///     /// Learning rate.
///     learning_rate: f64,
/// }
/// impl Default for SignDescent {
///     fn default() -> Self {
///         Self { learning_rate: 1e-3 }
///     }
/// }
/// impl Setup for SignDescent {
///     const NAME: &'static str = "sign-descent";
///     const ABOUT: &'static str = "steps of the same size along every parameter";
///     fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
///         SettingError::check_positive("learning_rate", self.learning_rate)?;
///         Ok(Box::new(self))
///     }
/// }
/// impl Optimizer for SignDescent {
///     fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
///         let mut gradient = vec![0.0; theta.len()];
///         let loss = problem.gradient(theta, &mut gradient)? / problem.weight();
///         theta.iter_mut().zip(&gradient).for_each(|(theta, g)| *theta -= self.learning_rate * g.signum());
///         let update_norm = self.learning_rate * (theta.len() as f64).sqrt();
///         Ok(StepReport { loss, update_norm, learning_rate: Some(self.learning_rate), ..StepReport::default() })
///     }
/// }
/// assert_eq!(Entry::of::<SignDescent>().name, "sign-descent");
/// ```
pub trait Setup: Serialize + DeserializeOwned + Default + schemars::JsonSchema {
    /// Its name in settings and on the command line.
    const NAME: &'static str;
    /// What it does, in a few words.
    const ABOUT: &'static str;
    /// Whether a step is the learning rate times something that does not depend on it, so that a part of it is a
    /// smaller step of the same optimizer.
    const SCALES: bool = true;
    /// Whether samples are kept from training for it to judge by.
    const HELD_OUT: bool = false;
    /// Whether steps tell |∇L|, which `stop.gradient` needs.
    const TELLS_GRADIENT: bool = true;
    /// Whether [`Optimizer::save_to`] writes a memory without making its bytes first.
    const STREAMS: bool = false;

    /// The optimizer at the start of its work.
    ///
    /// # Errors
    /// The first setting that is out of range, by its own name.
    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError>;

    /// What a step costs, in forward passes over its mini-batch: a run's cadence of evaluation follows from it.
    fn passes(&self, sizes: &Sizes) -> f64 {
        let _ = sizes;
        2.0
    }

    /// Memory.
    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        Numbers { working: 3.0 * p, saved: 2.0 * p, ..Numbers::default() }
    }
}

type Build = fn(&Table, &Context) -> Result<Box<dyn Optimizer>, SettingError>;

/// An optimizer in the registry.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a constant of the optimizer's own")]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// [`Setup::SCALES`].
    pub scales: bool,
    /// [`Setup::HELD_OUT`].
    pub held_out: bool,
    /// [`Setup::TELLS_GRADIENT`].
    pub tells_gradient: bool,
    /// [`Setup::STREAMS`].
    pub streams: bool,
    defaults: fn() -> Table,
    schema: fn() -> serde_json::Value,
    build: Build,
    passes: fn(&Table, &Sizes) -> Result<f64, SettingError>,
    numbers: fn(&Table, &Sizes) -> Result<Numbers, SettingError>,
}

impl Entry {
    /// The entry of an optimizer with these settings.
    #[must_use]
    pub fn of<S: Setup>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            scales: S::SCALES,
            held_out: S::HELD_OUT,
            tells_gradient: S::TELLS_GRADIENT,
            streams: S::STREAMS,
            defaults: || tables::to_table(&S::default()),
            schema: tables::schema::<S>,
            build: |table, context| tables::from_table::<S>(table)?.build(context),
            passes: |table, sizes| Ok(tables::from_table::<S>(table)?.passes(sizes)),
            numbers: |table, sizes| Ok(tables::from_table::<S>(table)?.numbers(sizes)),
        }
    }

    /// Its settings by name, with their defaults.
    #[must_use]
    pub fn defaults(&self) -> Table {
        (self.defaults)()
    }

    /// The JSON Schema of its settings.
    #[must_use]
    pub fn schema(&self) -> serde_json::Value {
        (self.schema)()
    }

    /// The optimizer with these settings; those that are absent have their defaults.
    ///
    /// # Errors
    /// The first setting that is unknown, of another type, or out of range, by its own name.
    pub fn build(&self, settings: &Table, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        (self.build)(settings, context)
    }

    /// [`Setup::passes`] with these settings.
    ///
    /// # Errors
    /// The first setting that is unknown or of another type.
    pub fn passes(&self, settings: &Table, sizes: &Sizes) -> Result<f64, SettingError> {
        (self.passes)(settings, sizes)
    }

    /// [`Setup::numbers`] with these settings.
    ///
    /// # Errors
    /// The first setting that is unknown or of another type.
    pub fn numbers(&self, settings: &Table, sizes: &Sizes) -> Result<Numbers, SettingError> {
        (self.numbers)(settings, sizes)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}
