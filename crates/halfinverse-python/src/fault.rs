//! Exceptions on their way through the library, which knows errors as sentences only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The first exception that a function of the user's raised: it ends the step, and is raised from it as it was.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Kept>);

#[derive(Default)]
struct Kept {
    first: Mutex<Option<PyErr>>,
    /// Whether Ctrl-C was seen.
    interrupted: AtomicBool,
}

impl Fault {
    fn first(&self) -> std::sync::MutexGuard<'_, Option<PyErr>> {
        self.0.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises it, where there is one; it is then forgotten.
    pub(crate) fn raise(&self) -> PyResult<()> {
        self.first().take().map_or(Ok(()), Err)
    }

    /// Whether Ctrl-C was seen by [`Self::guard_run`].
    pub(crate) fn interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::Relaxed)
    }

    /// What a piece of Python returns; an exception is kept, and told in words. None is run after the first one.
    pub(crate) fn guard<R>(&self, run: impl FnOnce(Python<'_>) -> PyResult<R>) -> Result<R, String> {
        if self.first().is_some() {
            return Err("a function raised an exception before".to_owned());
        }
        Python::attach(run).map_err(|error| {
            let sentence = error.to_string();
            self.first().get_or_insert(error);
            sentence
        })
    }

    /// The same within a run that ends in order: Ctrl-C is noted, and what it broke off is done again.
    pub(crate) fn guard_run<R>(&self, mut run: impl FnMut(Python<'_>) -> PyResult<R>) -> Result<R, String> {
        self.guard(|py| match run(py) {
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
                self.0.interrupted.store(true, Ordering::Relaxed);
                run(py)
            }
            result => result,
        })
    }
}
