//! Parts of a task that are Python's: a simulator of functions, and data in arrays.
//!
//! Task files name them by their kinds alone. What stands behind these is put down for the length of a call, on the
//! thread that makes it, so that nothing outlives it.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use halfinverse::faer::Mat;
use halfinverse::problem::Samples;
use halfinverse::simulator::{Setup as SimulatorSetup, Simulator};
use halfinverse::task::Registry;
use halfinverse::task::data::{Context, Generator, Setup as DataSetup};
use halfinverse::{SettingError, ShapeError};
use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};

use crate::arrays::matrix;
use crate::errors::Raise;
use crate::simulator::PythonSimulator;

/// What the kind `python` of simulators and the kind `arrays` of data stand for.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    pub(crate) simulator: Option<Arc<PythonSimulator>>,
    pub(crate) samples: Option<[Arc<Samples>; 2]>,
}

thread_local! {
    static PARTS: RefCell<Parts> = RefCell::default();
}

impl Parts {
    /// Puts them down while `run` runs.
    pub(crate) fn within<R>(self, run: impl FnOnce() -> R) -> R {
        let before = PARTS.replace(self);
        let result = run();
        PARTS.set(before);
        result
    }
}

/// Everything that comes with the library, and these.
pub(crate) fn add(registry: Registry) -> Registry {
    registry.simulator::<PythonSettings>().data::<ArraysSettings>()
}

/// The same, made once.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| add(Registry::standard()))
}

fn absent(kind: &str, what: &str) -> SettingError {
    let expected = format!("another: {what} of Python belong to the call of train() that was given them");
    SettingError::new("kind", kind, expected)
}

/// A simulator of Python functions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PythonSettings {}

impl SimulatorSetup for PythonSettings {
    const KIND: &'static str = "python";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        let simulator = PARTS.with_borrow(|parts| parts.simulator.clone());
        simulator.map(|simulator| simulator as _).ok_or_else(|| absent(Self::KIND, "functions"))
    }
}

/// Data in arrays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ArraysSettings {}

impl DataSetup for ArraysSettings {
    const KIND: &'static str = "arrays";

    fn build(self, _: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        let samples = PARTS.with_borrow(|parts| parts.samples.clone());
        let samples = samples.ok_or_else(|| absent(Self::KIND, "arrays"))?;
        Ok(Arc::new(Arrays { samples }))
    }
}

struct Arrays {
    samples: [Arc<Samples>; 2],
}

impl Generator for Arrays {
    fn inputs(&self) -> usize {
        self.samples[0].input.ncols()
    }

    /// Samples of the training data, in turn.
    fn draw(&self, count: usize, _: &mut dyn halfinverse::rand::Rng) -> Samples {
        let train = &self.samples[0];
        let mut drawn = train.zeros_like(0);
        let indices: Vec<usize> = (0..count).map(|i| i % train.len().max(1)).collect();
        train.gather(&indices, &mut drawn).expect("positions in the data");
        drawn
    }

    fn given(&self) -> Option<[Arc<Samples>; 2]> {
        Some(self.samples.clone())
    }
}

/// Samples of arrays: inputs (N × d), initial states (N × i), targets (N × m), and weights (N) where there are some.
#[pyclass(frozen, module = "halfinverse._core")]
pub(crate) struct Data(pub(crate) Arc<Samples>);

#[pymethods]
impl Data {
    #[new]
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn new(
        inputs: PyReadonlyArrayDyn<'_, f64>,
        initial: PyReadonlyArrayDyn<'_, f64>,
        targets: PyReadonlyArrayDyn<'_, f64>,
        weights: Option<Vec<f64>>,
    ) -> PyResult<Self> {
        let owned =
            |array: &PyReadonlyArrayDyn<'_, f64>| -> PyResult<Mat<f64>> { Ok(matrix(array)?.to_owned()) };
        let samples =
            Samples::new(owned(&inputs)?, owned(&initial)?, owned(&targets)?).map_err(Raise::raise)?;
        let samples = match weights {
            Some(weights) => samples.with_weights(&weights).map_err(crate::errors::setting)?,
            None => samples,
        };
        Ok(Self(Arc::new(samples)))
    }

    /// N.
    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Whether samples have the columns of others.
pub(crate) fn check_alike(train: &Samples, test: &Samples) -> Result<(), ShapeError> {
    ShapeError::check("the test inputs", "columns", train.input.ncols(), test.input.ncols())?;
    ShapeError::check(
        "the test data's initial states",
        "columns",
        train.initial.ncols(),
        test.initial.ncols(),
    )?;
    ShapeError::check("the test targets", "columns", train.target.ncols(), test.target.ncols())
}
