//! A simulator of Python functions over whole mini-batches.

use std::sync::Arc;

use halfinverse::check;
use halfinverse::faer::prelude::ReborrowMut;
use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::simulator::{Derivative, Point, Simulator, SimulatorError, Tape};
use numpy::PyReadonlyArrayDyn;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{columns, fill, matrix};
use crate::errors::step;
use crate::fault::Fault;

/// Functions of controls z (b × q), initial states (b × i, left out where i is 0) and, in products, a vector.
pub(crate) struct PythonSimulator {
    controls: usize,
    outcomes: usize,
    initials: usize,
    forward: Py<PyAny>,
    jvp: Option<Py<PyAny>>,
    vjp: Option<Py<PyAny>>,
    block: Option<Py<PyAny>>,
    pub(crate) fault: Fault,
}

impl PythonSimulator {
    /// Row-major numbers (b × width of `out`) of a function of these matrices.
    fn call(
        &self,
        what: &str,
        function: &Py<PyAny>,
        arguments: &[MatRef<'_, f64>],
        mut out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        let (rows, width) = out.shape();
        let mut numbers = vec![0.0; rows * width];
        let called = self.fault.guard_run(|py| {
            let arrays: Vec<_> =
                arguments.iter().map(|&argument| columns(py, argument)).collect::<PyResult<_>>()?;
            let result = function.bind(py).call1(PyTuple::new(py, arrays)?)?;
            fill(what, &result, &mut numbers)
        });
        called.map_err(SimulatorError::new)?;
        out.copy_from(MatRef::from_row_major_slice(&numbers, rows, width));
        Ok(())
    }

    /// z, and y₀ where there is one.
    fn point<'a>(&self, initial: MatRef<'a, f64>, control: MatRef<'a, f64>) -> Vec<MatRef<'a, f64>> {
        if self.initials > 0 { vec![control, initial] } else { vec![control] }
    }
}

impl PythonSimulator {
    /// A function of a point and a vector, where it is given.
    #[allow(clippy::type_complexity, reason = "what Derivative takes")]
    fn product<'a>(
        &'a self,
        what: &'static str,
        function: Option<&'a Py<PyAny>>,
    ) -> Option<impl Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a>
    {
        let function = function?;
        Some(move |at: Point<'_>, vector: MatRef<'_, f64>, out: MatMut<'_, f64>| {
            let mut arguments = self.point(at.initial, at.control);
            arguments.push(vector);
            self.call(what, function, &arguments, out)
        })
    }

    /// From b × m × q, as Jacobians are laid out in Python, to b × q·m.
    fn fill_block(&self, at: Point<'_>, mut out: MatMut<'_, f64>) -> Result<(), SimulatorError> {
        let Some(block) = &self.block else {
            return Err(SimulatorError::new("there is no block"));
        };
        let (b, m, q) = (out.nrows(), self.outcomes, self.controls);
        let mut rows = Mat::zeros(b, m * q);
        self.call("block", block, &self.point(at.initial, at.control), rows.as_mut())?;
        for j in 0..q {
            for c in 0..m {
                out.rb_mut().col_mut(j * m + c).copy_from(rows.col(c * q + j));
            }
        }
        Ok(())
    }
}

impl Simulator for PythonSimulator {
    fn controls(&self) -> usize {
        self.controls
    }

    fn outcomes(&self) -> usize {
        self.outcomes
    }

    fn initials(&self) -> usize {
        self.initials
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        _tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        self.call("forward", &self.forward, &self.point(initial, control), outcome)
    }

    fn derivative(&self) -> Derivative<'_> {
        let block = |at: Point<'_>, out: MatMut<'_, f64>| self.fill_block(at, out);
        match (self.product("jvp", self.jvp.as_ref()), self.product("vjp", self.vjp.as_ref())) {
            (Some(jvp), Some(vjp)) if self.block.is_some() => {
                Derivative::jvp(jvp).and_vjp(vjp).and_block(block)
            }
            (Some(jvp), Some(vjp)) => Derivative::jvp(jvp).and_vjp(vjp),
            (Some(jvp), None) if self.block.is_some() => Derivative::jvp(jvp).and_block(block),
            (Some(jvp), None) => Derivative::jvp(jvp),
            (None, Some(vjp)) if self.block.is_some() => Derivative::vjp(vjp).and_block(block),
            (None, Some(vjp)) => Derivative::vjp(vjp),
            (None, None) => Derivative::block(block),
        }
    }

    /// The functions take whole mini-batches.
    fn chunk(&self) -> Option<usize> {
        None
    }
}

/// The functions of a simulator; the package checks them and their sizes.
#[pyclass(frozen, name = "Simulator", module = "halfinverse._core")]
pub(crate) struct Functions {
    sizes: [usize; 3],
    forward: Py<PyAny>,
    jvp: Option<Py<PyAny>>,
    vjp: Option<Py<PyAny>>,
    block: Option<Py<PyAny>>,
}

impl Functions {
    /// For one run: exceptions of others are not its own.
    pub(crate) fn simulator(&self, py: Python<'_>) -> Arc<PythonSimulator> {
        let [controls, outcomes, initials] = self.sizes;
        let own = |function: &Option<Py<PyAny>>| function.as_ref().map(|function| function.clone_ref(py));
        Arc::new(PythonSimulator {
            controls,
            outcomes,
            initials,
            forward: self.forward.clone_ref(py),
            jvp: own(&self.jvp),
            vjp: own(&self.vjp),
            block: own(&self.block),
            fault: Fault::default(),
        })
    }
}

#[pymethods]
impl Functions {
    #[new]
    #[pyo3(signature = (forward, *, controls, outcomes, initials, jvp=None, vjp=None, block=None))]
    fn new(
        forward: Py<PyAny>,
        controls: usize,
        outcomes: usize,
        initials: usize,
        jvp: Option<Py<PyAny>>,
        vjp: Option<Py<PyAny>>,
        block: Option<Py<PyAny>>,
    ) -> Self {
        Self { sizes: [controls, outcomes, initials], forward, jvp, vjp, block }
    }

    /// How far each derivative is from finite differences at these points, by its name.
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn check(
        &self,
        py: Python<'_>,
        controls: PyReadonlyArrayDyn<'_, f64>,
        initial: PyReadonlyArrayDyn<'_, f64>,
        seed: u64,
    ) -> PyResult<Vec<(String, f64)>> {
        let simulator = self.simulator(py);
        let (control, initial) = (matrix(&controls)?.to_owned(), matrix(&initial)?.to_owned());
        let checks = py.detach(|| check::simulator(&*simulator, initial.as_ref(), control.as_ref(), seed));
        simulator.fault.raise()?;
        let checks = checks.map_err(step)?;
        Ok(checks.into_iter().map(|check| (check.what.to_owned(), check.error)).collect())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.forward)?;
        [&self.jvp, &self.vjp, &self.block]
            .into_iter()
            .flatten()
            .try_for_each(|function| visit.call(function))
    }
}
