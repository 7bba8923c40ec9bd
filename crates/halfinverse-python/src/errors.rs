//! The library's errors as the package's exceptions, which are classes of Python (`halfinverse.errors`).

use std::fmt::Display;

use halfinverse::optimizer::StateError;
use halfinverse::spectral::SpectralError;
use halfinverse::{SettingError, ShapeError, StepError};
use pyo3::prelude::*;

/// An exception of the class that has this name.
fn raise(class: &str, sentence: impl Display) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("halfinverse.errors")
            .and_then(|errors| errors.getattr(class))
            .and_then(|class| class.call1((sentence.to_string(),)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

/// `SettingError`.
pub(crate) fn setting(sentence: impl Display) -> PyErr {
    raise("SettingError", sentence)
}

/// `ShapeError`.
pub(crate) fn shape(sentence: impl Display) -> PyErr {
    raise("ShapeError", sentence)
}

/// `StepError`.
pub(crate) fn step(sentence: impl Display) -> PyErr {
    raise("StepError", sentence)
}

/// What a library error becomes.
pub(crate) trait Raise {
    /// The exception.
    fn raise(self) -> PyErr;
}

impl Raise for SettingError {
    fn raise(self) -> PyErr {
        setting(self)
    }
}

impl Raise for ShapeError {
    fn raise(self) -> PyErr {
        shape(self)
    }
}

impl Raise for StateError {
    fn raise(self) -> PyErr {
        setting(format_args!("the state cannot be restored: {self}"))
    }
}

impl Raise for SpectralError {
    fn raise(self) -> PyErr {
        match self {
            Self::Empty { .. } | Self::Length { .. } => shape(self),
            _ => step(self),
        }
    }
}

impl Raise for StepError {
    fn raise(self) -> PyErr {
        match self {
            Self::Shape(error) => error.raise(),
            Self::Spectral(error) => error.raise(),
            _ => step(self),
        }
    }
}
