//! The program `hig` inside Python: the console script, and runs with a folder.

use std::ffi::OsString;
use std::sync::Arc;

use halfinverse::problem::Samples;
use hig::{Program, Refusal};
use pyo3::prelude::*;

use crate::errors::Raise;
use crate::fault::Fault;
use crate::parts::{self, Data, Parts, check_alike};
use crate::simulator::Functions;

/// Training and test data.
pub(crate) fn samples(
    data: Option<(PyRef<'_, Data>, PyRef<'_, Data>)>,
) -> PyResult<Option<[Arc<Samples>; 2]>> {
    let Some((train, test)) = data else { return Ok(None) };
    check_alike(&train.0, &test.0).map_err(Raise::raise)?;
    Ok(Some([train.0.clone(), test.0.clone()]))
}

/// Does what a command line of `hig` says. `poll(done, line)` is called about ten times a second while a run is under
/// way, and returns whether it is to end; Ctrl-C ends it too. Returns the exit code, a sentence where the line was
/// refused, and whether Ctrl-C was seen. An exception of a function of the simulator is raised after the run's files are
/// written.
#[pyfunction]
#[pyo3(signature = (line, poll, simulator=None, data=None))]
#[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
pub(crate) fn run(
    py: Python<'_>,
    line: Vec<OsString>,
    poll: Py<PyAny>,
    simulator: Option<PyRef<'_, Functions>>,
    data: Option<(PyRef<'_, Data>, PyRef<'_, Data>)>,
) -> PyResult<(u8, Option<String>, bool)> {
    let simulator = simulator.map(|functions| functions.simulator(py));
    let fault = simulator.as_ref().map_or_else(Fault::default, |simulator| simulator.fault.clone());
    let parts = Parts { simulator, samples: samples(data)? };
    let of_host = fault.clone();
    let ended = py.detach(|| {
        let host = move |done: f64, line: &str| {
            let asked = of_host.guard_run(|py| poll.call1(py, (done, line))?.extract::<bool>(py));
            asked.unwrap_or(true) || of_host.interrupted()
        };
        parts.within(|| Program::new().parts(parts::add).run_within(line, host))
    });
    fault.raise()?;
    Ok(match ended {
        Ok(code) => (code, None, fault.interrupted()),
        Err(Refusal { code, sentence }) => (code, Some(sentence), fault.interrupted()),
    })
}
