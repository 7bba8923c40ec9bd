//! An optimizer on a problem of Python functions.

use std::sync::{Arc, Mutex, TryLockError};

use halfinverse::optimizer::{Context, Optimizer, State, StepReport};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rayon::ThreadPool;

use crate::arrays::{matrix, numbers};
use crate::errors::{Raise, setting, step};
use crate::parts::registry;
use crate::problem::{Functions, PythonProblem, PythonSource, samples};
use crate::{report, settings};

/// An optimizer, by its name and settings, that steps on a problem of Python functions.
///
/// `problem` has the methods
///
/// * `loss(theta, rows)` → L, which may be NaN
/// * `gradient(theta, rows)` → (L, ∂L/∂θ)
/// * `linearize(theta, rows)` → (L, g = ∂L/∂y, h, jvp, vjp) with jvp(v) = J v (n) and vjp(u) = Jᵀu (P) at this θ
/// * `losses(thetas, rows)` → L of each row of `thetas` (count × P); may be left out, or None
///
/// and, where its parameters are matrices of layers that have Kronecker factors,
///
/// * `factors`: of each layer (outputs, inputs, bias, positions of a sample, where its parameters start in θ), in θ column
///   after column with the bias as the last one; `gradient` then returns (L, ∂L/∂θ, h)
/// * `cotangents(outcome)` → (factor, δ, a) of each layer, last to first: rows × outputs and rows × inputs for a cotangent
///   of the outcomes (b × m), at the θ of the last gradient; several of a layer in sequence where rows are many
/// * `difference(v)` → J v (n) at the θ of the last gradient, to about 1e-6
///
/// `theta` (P) and `rows` (b × d) are float64 arrays; `rows` is the same object as long as the mini-batch is the same.
/// g and J are sample-major, n = b·m. h is the curvature of L with respect to outcomes: L(θ − Δ) ≈ L − gᵀJΔ + ½h|JΔ|².
#[pyclass(frozen, module = "halfinverse._core")]
pub(crate) struct Stepper {
    functions: Arc<Functions>,
    work: Mutex<Box<dyn Optimizer>>,
    pool: Option<ThreadPool>,
    /// The process that has the pool's threads: a child of it that `fork` made has none of them.
    process: u32,
}

impl Stepper {
    /// Something done with the optimizer, on the pool's threads where there is one.
    fn with<R: Send>(&self, run: impl FnOnce(&mut dyn Optimizer) -> R + Send) -> PyResult<R> {
        if self.pool.is_some() && self.process != std::process::id() {
            return Err(step(
                "this optimizer's threads stayed behind in the process that this one was forked from; make it anew, or with threads=1",
            ));
        }
        let mut work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::WouldBlock) => {
                return Err(step(
                    "this optimizer is in the middle of a step, in another thread or in a function that it called",
                ));
            }
            Err(TryLockError::Poisoned(_)) => return Err(step("this optimizer failed in a step before")),
        };
        let optimizer = &mut **work;
        Ok(match &self.pool {
            Some(pool) => pool.install(|| run(optimizer)),
            None => run(optimizer),
        })
    }
}

#[pymethods]
impl Stepper {
    #[new]
    #[pyo3(signature = (problem, optimizer, settings, *, parameters, outcomes, judges, batch, samples, sweeps=1, counted=false, threads=1))]
    #[allow(clippy::too_many_arguments, reason = "by name, from Python")]
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn new(
        problem: &Bound<'_, PyAny>,
        optimizer: &str,
        settings: &Bound<'_, PyDict>,
        parameters: usize,
        outcomes: usize,
        judges: PyReadonlyArrayDyn<'_, f64>,
        batch: usize,
        samples: usize,
        sweeps: usize,
        counted: bool,
        threads: usize,
    ) -> PyResult<Self> {
        let entry = registry().entry(optimizer).map_err(Raise::raise)?;
        let table = settings::table(settings)?;
        let functions = Arc::new(Functions::of(problem, parameters, outcomes, sweeps)?);
        let judges = self::samples(matrix(&judges)?).map_err(Raise::raise)?;
        if entry.held_out && judges.is_empty() {
            return Err(setting(format_args!(
                "{optimizer} needs samples that are kept from training to judge its steps by; none are given"
            )));
        }
        let context = Context {
            source: Arc::new(PythonSource(functions.clone())),
            batch,
            samples,
            judges,
            counted,
            threads,
        };
        let pool = match threads {
            0 | 1 => None,
            _ => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                Some(pool.map_err(|error| setting(format_args!("cannot start {threads} threads: {error}")))?)
            }
        };
        let work = Mutex::new(entry.build(&table, &context).map_err(Raise::raise)?);
        Ok(Self { functions, work, pool, process: std::process::id() })
    }

    /// One step from `theta` (P) on the mini-batch `rows` (b × d): the next θ, and what the step says of itself.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn step<'py>(
        &self,
        py: Python<'py>,
        theta: PyReadonlyArrayDyn<'py, f64>,
        rows: Bound<'py, PyArray2<f64>>,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyDict>)> {
        let mut next = numbers(&theta)?.to_vec();
        let samples = {
            let readonly = rows.to_dyn().try_readonly()?;
            samples(matrix(&readonly)?).map_err(Raise::raise)?
        };
        let mut problem = PythonProblem::on(self.functions.clone(), samples, rows.unbind());
        let stepped: PyResult<Result<StepReport, _>> =
            py.detach(|| self.with(|optimizer| optimizer.step(&mut problem, &mut next)));
        let raised = self.functions.fault.raise();
        let report = stepped?;
        raised?;
        let report = report.map_err(Raise::raise)?;
        Ok((PyArray1::from_vec(py, next), report::step(py, &report)?))
    }

    /// What the next step depends on besides θ, as bytes.
    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = py.detach(|| self.with(|optimizer| optimizer.save()))?;
        Ok(PyBytes::new(py, state.as_bytes()))
    }

    /// Takes back what `save` returned.
    fn restore(&self, state: &[u8]) -> PyResult<()> {
        let state = State::from_bytes(state.to_vec());
        let parameters = self.functions.parameters;
        self.with(|optimizer| optimizer.restore(&state, parameters))?.map_err(Raise::raise)
    }
}
