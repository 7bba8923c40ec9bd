//! What steps say of themselves, as dicts.

use halfinverse::optimizer::StepReport;
use halfinverse::spectral::Report;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A spectral step's report.
pub(crate) fn spectral<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("solver", report.solver.to_string())?;
    dict.set_item("rank", report.rank)?;
    dict.set_item("sigma_max", report.sigma_max)?;
    dict.set_item("sigma_min", report.sigma_min)?;
    dict.set_item("condition", report.condition())?;
    dict.set_item("krylov_steps", report.krylov_steps)?;
    dict.set_item("error_estimate", report.error_estimate)?;
    let fallbacks: Vec<String> = report.fallbacks.iter().map(ToString::to_string).collect();
    dict.set_item("fallbacks", fallbacks)?;
    Ok(dict)
}

/// An optimizer's step's report.
pub(crate) fn step<'py>(py: Python<'py>, report: &StepReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("loss", report.loss)?;
    dict.set_item("update_norm", report.update_norm)?;
    dict.set_item("learning_rate", report.learning_rate)?;
    dict.set_item("step_length", report.step_length)?;
    dict.set_item("kappa", report.kappa)?;
    dict.set_item("damping", report.lambda)?;
    dict.set_item("way", report.way.map(|way| way.to_string()))?;
    dict.set_item("rejected", report.rejected)?;
    dict.set_item("gradient_norm", report.gradient_norm)?;
    dict.set_item("notice", report.notice.as_ref().map(ToString::to_string))?;
    dict.set_item("spectral", report.spectral.as_ref().map(|of| spectral(py, of)).transpose()?)?;
    Ok(dict)
}
