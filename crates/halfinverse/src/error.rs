//! What can go wrong, with the numbers that say where.

use crate::simulator::SimulatorError;
use crate::spectral::SpectralError;

/// A setting that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {found}, but must be {expected}")]
pub struct SettingError {
    /// Dotted name of the setting, as in `config.toml`.
    pub key: String,
    /// The value that was given.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
}

impl SettingError {
    pub(crate) fn new(key: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        Self { key: key.to_owned(), found: found.to_string(), expected: expected.to_string() }
    }
}

/// Two parts of a model or a data set that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {found} {unit}, expected {expected}")]
pub struct ShapeError {
    /// The part that does not fit.
    pub what: String,
    /// The size that its neighbour needs.
    pub expected: usize,
    /// The size it has.
    pub found: usize,
    /// What is being counted.
    pub unit: &'static str,
}

impl ShapeError {
    /// `Ok` when `found == expected`.
    ///
    /// # Errors
    /// The mismatch, named by `what` and `unit`.
    pub fn check(what: &str, unit: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if found == expected {
            return Ok(());
        }
        Err(Self { what: what.to_owned(), expected, found, unit })
    }
}

/// The first number of a mini-batch that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("component {component} of the {part} of its sample {sample} is {value}")]
pub struct Culprit {
    /// Position in the mini-batch.
    pub sample: usize,
    /// Input, initial state, target, control or outcome.
    pub part: &'static str,
    /// Position in that.
    pub component: usize,
    /// The value found.
    pub value: f64,
}

/// Why a training step could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The loss of the mini-batch is NaN or infinite.
    #[error("the loss of the mini-batch is {loss}{}", .culprit.as_ref().map_or_else(String::new, |c| format!(": {c}")))]
    LossNotFinite {
        /// The value found.
        loss: f64,
        /// Where it comes from, if from one sample.
        culprit: Option<Culprit>,
    },
    /// The loss has risen out of all proportion.
    #[error("the loss of the mini-batches is {loss:.3e}, where it had been {best:.3e}")]
    BlowUp {
        /// Mean over the last ten mini-batches or so.
        loss: f64,
        /// The lowest that this mean has been.
        best: f64,
    },
    /// The gradient is NaN or infinite.
    #[error("component {index} of the gradient is {value}")]
    GradientNotFinite {
        /// Position in the parameter vector.
        index: usize,
        /// The value found; a finite one is too large to be squared.
        value: f64,
    },
    /// The update is NaN or infinite.
    #[error("component {index} of the update is {value}")]
    UpdateNotFinite {
        /// Position in the parameter vector.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// Parts do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The spectral step failed.
    #[error(transparent)]
    Spectral(#[from] SpectralError),
    /// The simulator failed.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
}
