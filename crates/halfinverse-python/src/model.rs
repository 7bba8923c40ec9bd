//! The model of a task: its parameters by name, predictions, and runs without a folder.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use halfinverse::faer::{Mat, MatRef};
use halfinverse::optimizer::StepReport;
use halfinverse::task::{Fitted, Settings, Task};
use halfinverse::training::{Flow, Observer, Progress, Row, StopReason, TrainingError, read_parameters};
use halfinverse::{Predictor, Samples, SettingError};
use numpy::{PyArray1, PyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use toml::{Table, Value};

use crate::arrays::{columns, matrix, numbers};
use crate::errors::{Raise, setting};
use crate::fault::Fault;
use crate::parts::{Data, Parts, registry};
use crate::program::samples;
use crate::simulator::Functions;

/// All settings of a task file, or of a run's `config.toml`.
fn settings(text: &str) -> Result<Settings, SettingError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| SettingError::new("task file", error.message(), "TOML"))?;
    let name = table.get("optimizer").and_then(|optimizer| optimizer.get("name")).and_then(Value::as_str);
    let defaults = registry().defaults(&table, name.unwrap_or("hig-auto"))?;
    let mut over = table;
    over.remove("about");
    over.remove("with");
    registry().overlaid(&defaults, &over)
}

/// A task with all that it is made of.
#[pyclass(frozen, module = "halfinverse._core")]
pub(crate) struct Model {
    task: Task,
    fault: Fault,
}

#[pymethods]
impl Model {
    /// Of the text of a task file.
    #[new]
    #[pyo3(signature = (text, simulator=None, data=None))]
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn new(
        py: Python<'_>,
        text: &str,
        simulator: Option<PyRef<'_, Functions>>,
        data: Option<(PyRef<'_, Data>, PyRef<'_, Data>)>,
    ) -> PyResult<Self> {
        let simulator = simulator.map(|functions| functions.simulator(py));
        let fault = simulator.as_ref().map_or_else(Fault::default, |simulator| simulator.fault.clone());
        let parts = Parts { simulator, samples: samples(data)? };
        let task = py.detach(|| parts.within(|| settings(text).and_then(|all| Task::with(all, registry()))));
        Ok(Self { task: task.map_err(Raise::raise)?, fault })
    }

    /// Names, shapes and places in θ of the parameters.
    #[getter]
    fn tensors(&self) -> Vec<(String, Vec<usize>, usize)> {
        let tensors = self.task.model().network().tensors();
        tensors.into_iter().map(|tensor| (tensor.name, tensor.shape, tensor.offset)).collect()
    }

    /// Every setting, as TOML.
    #[getter]
    fn config(&self) -> String {
        self.task.settings().to_toml()
    }

    /// Inputs, initial states and targets of the training data, and of the test data.
    fn data<'py>(&self, py: Python<'py>) -> PyResult<[[Bound<'py, PyArray2<f64>>; 3]; 2]> {
        let arrays = |samples: &Samples| -> PyResult<_> {
            let Samples { input, initial, target, .. } = samples;
            Ok([columns(py, input.as_ref())?, columns(py, initial.as_ref())?, columns(py, target.as_ref())?])
        };
        Ok([arrays(self.task.train())?, arrays(self.task.test())?])
    }

    /// θ of a file of weights.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn read<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let theta = read_parameters(&self.task.model().network().tensors(), &path).map_err(setting)?;
        Ok(PyArray1::from_vec(py, theta))
    }

    /// θ as a run starts with it.
    fn initial_parameters<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_vec(py, self.task.initial_parameters())
    }

    /// The controls z of inputs, or, where the data are of a file, predictions in the units of its columns.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        theta: PyReadonlyArrayDyn<'py, f64>,
        inputs: PyReadonlyArrayDyn<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (theta, inputs) = (numbers(&theta)?.to_vec(), matrix(&inputs)?.to_owned());
        let predicted = py.detach(|| self.predicted(theta, inputs.as_ref()))?;
        columns(py, predicted.as_ref())
    }

    /// The outcomes y of inputs and initial states.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        theta: PyReadonlyArrayDyn<'py, f64>,
        inputs: PyReadonlyArrayDyn<'py, f64>,
        initial: PyReadonlyArrayDyn<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let predictor = Predictor::new(self.task.model(), numbers(&theta)?.to_vec(), 1);
        let predictor = predictor.map_err(Raise::raise)?;
        // The library keeps matrices column by column.
        let (inputs, initial) = (matrix(&inputs)?.to_owned(), matrix(&initial)?.to_owned());
        let outcome = py.detach(|| predictor.outcome(inputs.as_ref(), initial.as_ref()));
        self.fault.raise()?;
        columns(py, outcome.map_err(Raise::raise)?.as_ref())
    }

    /// Trains from θ, or from freshly drawn parameters. Returns θ at the end, θ with the lowest test loss, that loss, why
    /// the run ended, and rows of (step, seconds, training loss, test loss). `poll` as of `run`.
    #[pyo3(signature = (poll, theta=None))]
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn train<'py>(
        &self,
        py: Python<'py>,
        poll: Py<PyAny>,
        theta: Option<PyReadonlyArrayDyn<'py, f64>>,
    ) -> PyResult<Trained<'py>> {
        let theta = theta.map(|theta| numbers(&theta).map(<[f64]>::to_vec)).transpose()?;
        let mut watcher = Watcher { poll, fault: self.fault.clone(), next: Instant::now(), rows: Vec::new() };
        let run = || {
            let mut trainer = self.task.trainer(theta)?;
            let reason = trainer.run(&mut watcher)?;
            let (best, best_loss) = (trainer.best().theta.to_vec(), trainer.best().loss);
            Ok((trainer.into_theta(), best, best_loss, reason))
        };
        let ended = py.detach(run);
        self.fault.raise()?;
        let (end, best, best_loss, reason) = ended.map_err(|error: TrainingError| setting(error))?;
        let reason = match reason {
            StopReason::Diverged(error) => return Err(error.raise()),
            reason => reason.to_string(),
        };
        let vector = |theta| PyArray1::from_vec(py, theta);
        Ok((vector(end), vector(best), best_loss, reason, watcher.rows))
    }
}

type Trained<'py> =
    (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, f64, String, Vec<(u64, f64, Option<f64>, f64)>);

impl Model {
    fn predicted(&self, theta: Vec<f64>, inputs: MatRef<'_, f64>) -> PyResult<Mat<f64>> {
        match Fitted::of_task(&self.task, theta.clone()) {
            Some(fitted) => fitted.and_then(|fitted| fitted.predict(inputs)),
            None => Predictor::new(self.task.model(), theta, 1).and_then(|of| of.control(inputs)),
        }
        .map_err(Raise::raise)
    }
}

/// Keeps rows, and asks whether to stop.
struct Watcher {
    poll: Py<PyAny>,
    fault: Fault,
    next: Instant,
    rows: Vec<(u64, f64, Option<f64>, f64)>,
}

/// Time between questions.
const EVERY: Duration = Duration::from_millis(100);

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        let now = Instant::now();
        if now < self.next {
            return Flow::Continue;
        }
        self.next = now + EVERY;
        let line = format!("step {}, loss {:.2e}", progress.steps(), report.loss);
        let poll = &self.poll;
        let asked = self.fault.guard_run(|py| poll.call1(py, (0.0, &line))?.extract::<bool>(py));
        if asked.unwrap_or(true) || self.fault.interrupted() { Flow::Stop } else { Flow::Continue }
    }

    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.rows.push((row.step, row.wall.as_secs_f64(), row.train_loss, row.test_loss));
        Ok(())
    }
}
