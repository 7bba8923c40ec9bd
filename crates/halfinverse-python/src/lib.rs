//! `halfinverse._core`: the library for Python. No numerics are here, and nothing that users call directly: the package
//! in `python/halfinverse` documents and checks what it passes on.

mod arrays;
mod errors;
mod fault;
mod model;
mod parts;
mod problem;
mod program;
mod report;
mod settings;
mod simulator;
mod stepper;
mod update;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::parts::Data;
    #[pymodule_export]
    use super::program::run;
    #[pymodule_export]
    use super::simulator::Functions;
    #[pymodule_export]
    use super::stepper::Stepper;
    #[pymodule_export]
    use super::update::{KrylovSpace, update};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The optimizers' names with their default settings, in the order of the documentation.
    #[pyfunction]
    fn optimizers(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
        super::settings::optimizers(py)
    }
}
