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

/// Why a training step could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The loss of the mini-batch is NaN or infinite.
    #[error("the loss of the mini-batch is {loss}")]
    LossNotFinite {
        /// The value found.
        loss: f64,
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
