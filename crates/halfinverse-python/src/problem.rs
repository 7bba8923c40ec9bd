//! Problems whose parts are Python functions over float64 arrays.
//!
//! Every function is called with Python attached, on the thread that the optimizer runs on.

use std::sync::Arc;

use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::linear::{Jacobian, ProductError};
use halfinverse::problem::{
    At, BatchProblem, FactorRows, FactorShape, FactorVisit, Layered, Problem, Samples, Source,
};
use halfinverse::{ShapeError, StepError};
use numpy::PyArray2;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays::{columns, fill, floats, matrix, vector};
use crate::errors::{shape, step};
use crate::fault::Fault;

/// J by its products.
pub(crate) struct Products {
    shape: (usize, usize),
    jvp: Py<PyAny>,
    vjp: Py<PyAny>,
    fault: Fault,
}

impl Products {
    /// n × P, from the functions v ↦ J v and u ↦ Jᵀu.
    pub(crate) fn new(shape: (usize, usize), jvp: Py<PyAny>, vjp: Py<PyAny>, fault: Fault) -> Self {
        Self { shape, jvp, vjp, fault }
    }

    fn product(&self, what: &str, of: &Py<PyAny>, vector: &[f64], out: &mut [f64]) -> Result<(), String> {
        self.fault.guard(|py| {
            let product = of.bind(py).call1((self::vector(py, vector),))?;
            fill(what, &product, out)
        })
    }
}

impl Jacobian for Products {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let failed = |reason| ProductError { product: "J v", reason };
        self.product("jvp", &self.jvp, v, out).map_err(failed)
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let failed = |reason| ProductError { product: "J^T u", reason };
        self.product("vjp", &self.vjp, u, out).map_err(failed)
    }
}

/// The functions of a problem on any mini-batch, whose samples are rows (b × d).
pub(crate) struct Functions {
    pub(crate) parameters: usize,
    pub(crate) outcomes: usize,
    pub(crate) sweeps: usize,
    loss: Py<PyAny>,
    gradient: Py<PyAny>,
    linearize: Py<PyAny>,
    losses: Option<Py<PyAny>>,
    layers: Option<Layers>,
    pub(crate) fault: Fault,
}

/// Of functions whose parameters are matrices of layers.
struct Layers {
    factors: Vec<FactorShape>,
    cotangents: Py<PyAny>,
    difference: Py<PyAny>,
}

impl Layers {
    /// Where `factors` names some.
    fn of(problem: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let Some(factors) = problem.getattr_opt("factors")?.filter(|factors| !factors.is_none()) else {
            return Ok(None);
        };
        let factors: Vec<(usize, usize, bool, usize, usize)> = factors.extract()?;
        let shape = |(outputs, inputs, bias, positions, offset)| FactorShape {
            outputs,
            inputs,
            bias,
            positions,
            offset,
        };
        Ok((!factors.is_empty()).then_some(Self {
            factors: factors.into_iter().map(shape).collect(),
            cotangents: problem.getattr("cotangents")?.unbind(),
            difference: problem.getattr("difference")?.unbind(),
        }))
    }
}

impl Functions {
    /// The methods of a Python object; see `halfinverse._core.Stepper`.
    pub(crate) fn of(
        problem: &Bound<'_, PyAny>,
        parameters: usize,
        outcomes: usize,
        sweeps: usize,
    ) -> PyResult<Self> {
        let method = |name: &str| problem.getattr(name).map(Bound::unbind);
        let losses = problem.getattr_opt("losses")?.filter(|losses| !losses.is_none());
        Ok(Self {
            parameters,
            outcomes,
            sweeps,
            loss: method("loss")?,
            gradient: method("gradient")?,
            linearize: method("linearize")?,
            losses: losses.map(Bound::unbind),
            layers: Layers::of(problem)?,
            fault: Fault::default(),
        })
    }
}

/// [`Functions`] as a source of problems.
#[derive(Clone)]
pub(crate) struct PythonSource(pub(crate) Arc<Functions>);

impl Source for PythonSource {
    fn parameters(&self) -> usize {
        self.0.parameters
    }

    fn outcomes(&self) -> usize {
        self.0.outcomes
    }

    fn sweeps(&self) -> usize {
        self.0.sweeps
    }

    // PyTorch takes as long to start an operation as to do it; where no layers are known there is nothing to choose.
    fn dear(&self) -> bool {
        self.0.layers.is_some()
    }

    fn factors(&self) -> Vec<FactorShape> {
        self.0.layers.as_ref().map_or_else(Vec::new, |layers| layers.factors.clone())
    }

    fn work(&self) -> usize {
        let of_layers: usize =
            self.factors().iter().map(|shape| shape.outputs * shape.columns() * shape.positions).sum();
        of_layers.max(self.0.parameters)
    }

    fn problem(&self, samples: Samples, _: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        Ok(Box::new(PythonProblem::new(self.0.clone(), samples)))
    }
}

/// [`Functions`] on one mini-batch.
pub(crate) struct PythonProblem {
    of: Arc<Functions>,
    samples: Samples,
    /// The rows as Python sees them, made where they are first asked for.
    rows: Option<Py<PyArray2<f64>>>,
    gradient: Vec<f64>,
    /// h at the last gradient, where there are layers.
    curvature: f64,
}

/// Rows as samples: inputs alone.
pub(crate) fn samples(rows: MatRef<'_, f64>) -> Result<Samples, ShapeError> {
    let none = || Mat::zeros(rows.nrows(), 0);
    Samples::new(rows.to_owned(), none(), none())
}

impl PythonProblem {
    fn new(of: Arc<Functions>, samples: Samples) -> Self {
        Self { of, samples, rows: None, gradient: Vec::new(), curvature: 1.0 }
    }

    /// On the rows of an array, which is what the functions are called with.
    pub(crate) fn on(of: Arc<Functions>, samples: Samples, rows: Py<PyArray2<f64>>) -> Self {
        Self { rows: Some(rows), ..Self::new(of, samples) }
    }

    fn rows<'py>(
        rows: &mut Option<Py<PyArray2<f64>>>,
        samples: &Samples,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        if let Some(rows) = rows {
            return Ok(rows.bind(py).clone());
        }
        let made = columns(py, samples.input.as_ref())?;
        *rows = Some(made.clone().unbind());
        Ok(made)
    }

    /// What one of the functions says about θ and the mini-batch, read with Python attached.
    fn call<R>(
        &mut self,
        function: impl FnOnce(&Functions) -> &Py<PyAny>,
        theta: &[f64],
        read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Result<R, StepError> {
        ShapeError::check("θ", "parameters", self.of.parameters, theta.len())?;
        let Self { of, samples, rows, .. } = self;
        let called = of.fault.guard(|py| {
            let rows = Self::rows(rows, samples, py)?;
            read(&function(of).bind(py).call1((vector(py, theta), rows))?)
        });
        called.map_err(|reason| StepError::Function { reason })
    }
}

fn number(what: &str, object: &Bound<'_, PyAny>) -> PyResult<f64> {
    object.extract().map_err(|_| {
        let found = object.get_type();
        PyTypeError::new_err(format!("{what} is of {found}, but must be a number"))
    })
}

/// h.
fn curvature(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    let curvature = number("the curvature", object)?;
    if curvature > 0.0 && curvature.is_finite() {
        return Ok(curvature);
    }
    Err(step(format!("the curvature is {curvature}, but must be positive and finite")))
}

fn finite(loss: f64) -> Result<f64, StepError> {
    if loss.is_finite() { Ok(loss) } else { Err(StepError::LossNotFinite { loss, culprit: None }) }
}

/// The parts of a tuple that a function must return.
fn parts<'py, const N: usize>(
    what: &str,
    object: &Bound<'py, PyAny>,
    names: &str,
) -> PyResult<[Bound<'py, PyAny>; N]> {
    object.extract::<Vec<Bound<'py, PyAny>>>().ok().and_then(|parts| parts.try_into().ok()).ok_or_else(|| {
        let found = object.get_type();
        PyTypeError::new_err(format!("{what} returned {found}, but must return the tuple ({names})"))
    })
}

impl Problem for PythonProblem {
    fn parameters(&self) -> usize {
        self.of.parameters
    }

    fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.call(|of| &of.loss, theta, |loss| number("the loss", loss))
    }

    fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
        ShapeError::check("the gradient", "entries", theta.len(), gradient.len())?;
        let layered = self.of.layers.is_some();
        let (loss, curvature) = self.call(
            |of| &of.gradient,
            theta,
            |found| {
                let (loss, of_parameters, curvature) = if layered {
                    let [loss, of_parameters, h] = parts("gradient", found, "loss, gradient, curvature")?;
                    (loss, of_parameters, self::curvature(&h)?)
                } else {
                    let [loss, of_parameters] = parts("gradient", found, "loss, gradient")?;
                    (loss, of_parameters, 1.0)
                };
                fill("gradient", &of_parameters, gradient)?;
                Ok((number("the loss", &loss)?, curvature))
            },
        )?;
        self.curvature = curvature;
        finite(loss)
    }

    fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
        let n = self.samples.len() * self.of.outcomes;
        let (fault, shape) = (self.of.fault.clone(), (n, self.of.parameters));
        let mut g = std::mem::take(&mut self.gradient);
        g.resize(n, 0.0);
        let (loss, curvature, jacobian) = self.call(
            |of| &of.linearize,
            theta,
            |found| {
                let names = "loss, gradient of the outcomes, curvature, jvp, vjp";
                let [loss, outcome_gradient, curvature, jvp, vjp] = parts("linearize", found, names)?;
                fill("the gradient of the outcomes from linearize", &outcome_gradient, &mut g)?;
                let curvature = self::curvature(&curvature)?;
                let products = Products::new(shape, jvp.unbind(), vjp.unbind(), fault);
                Ok((number("the loss", &loss)?, curvature, products))
            },
        )?;
        self.gradient = g;
        finite(loss)?;
        Ok(At { loss, gradient: &self.gradient, curvature, jacobian: Box::new(jacobian) })
    }

    fn losses(&mut self, thetas: MatRef<'_, f64>, losses: &mut [f64]) -> Result<(), StepError> {
        ShapeError::check("θ", "parameters", self.of.parameters, thetas.nrows())?;
        let Self { of, samples, rows, .. } = self;
        let Some(function) = &of.losses else {
            for (j, loss) in losses.iter_mut().enumerate() {
                let theta: Vec<f64> = thetas.col(j).iter().copied().collect();
                *loss = self.loss(&theta)?;
            }
            return Ok(());
        };
        let called = of.fault.guard(|py| {
            let rows = Self::rows(rows, samples, py)?;
            // Row after row of the transpose is column after column.
            let thetas = columns(py, thetas)?.call_method0("transpose")?;
            fill("losses", &function.bind(py).call1((thetas, rows))?, losses)
        });
        called.map_err(|reason| StepError::Function { reason })
    }

    fn samples(&self) -> Option<&Samples> {
        Some(&self.samples)
    }

    fn layered(&mut self) -> Option<&mut dyn Layered> {
        if self.of.layers.is_some() { Some(self) } else { None }
    }
}

impl PythonProblem {
    fn layers(&self) -> &Layers {
        self.of.layers.as_ref().expect("seen as layers where there are some")
    }
}

impl Layered for PythonProblem {
    fn shape(&self) -> (usize, usize) {
        (self.samples.len(), self.of.outcomes)
    }

    fn curvature(&self) -> f64 {
        self.curvature
    }

    fn factors(&self) -> Vec<FactorShape> {
        self.layers().factors.clone()
    }

    fn cotangents(
        &mut self,
        _: &[f64],
        outcome: MatRef<'_, f64>,
        visit: &mut FactorVisit<'_>,
    ) -> Result<(), StepError> {
        let layers = self.layers();
        let called = self.of.fault.guard(|py| {
            let rows = layers.cotangents.bind(py).call1((columns(py, outcome)?,))?;
            for part in rows.try_iter()? {
                let [factor, cotangent, input] = parts("cotangents", &part?, "factor, cotangent, input")?;
                let factor: usize = factor.extract()?;
                let shape = layers.factors.get(factor);
                let shape = shape.ok_or_else(|| step(format!("there is no Kronecker factor {factor}")))?;
                let cotangent = rows_of("a cotangent", &cotangent, shape.outputs)?;
                let input = rows_of("an input", &input, shape.inputs)?;
                if cotangent.nrows() != input.nrows() {
                    let (cotangents, inputs) = (cotangent.nrows(), input.nrows());
                    return Err(step(format!("{cotangents} cotangents came with {inputs} inputs")));
                }
                let (cotangent, input) = (cotangent.as_ref(), input.as_ref());
                visit(FactorRows { factor, cotangent, input, positions: shape.positions });
            }
            Ok(())
        });
        called.map_err(|reason| StepError::Function { reason })
    }

    fn difference(&mut self, _: &[f64], v: &[f64], mut out: MatMut<'_, f64>) -> Result<(), StepError> {
        let (layers, mut found) = (self.layers(), vec![0.0; out.nrows() * out.ncols()]);
        let called = self
            .of
            .fault
            .guard(|py| fill("difference", &layers.difference.bind(py).call1((vector(py, v),))?, &mut found));
        called.map_err(|reason| StepError::Function { reason })?;
        out.copy_from(MatRef::from_row_major_slice(&found, out.nrows(), out.ncols()));
        Ok(())
    }
}

/// An array (rows × `width`), column after column.
fn rows_of(what: &str, object: &Bound<'_, PyAny>, width: usize) -> PyResult<Mat<f64>> {
    let array = floats(what, object)?;
    let found = numpy::PyUntypedArrayMethods::shape(&*array);
    if found.len() != 2 || found[1] != width {
        return Err(shape(format_args!("{what} has the shape {found:?}, but must have {width} columns")));
    }
    Ok(matrix(&array)?.to_owned())
}

impl BatchProblem for PythonProblem {
    fn take(&mut self, from: &Samples, indices: &[usize]) -> Result<(), ShapeError> {
        ShapeError::check("the mini-batch", "sample or more", 1, indices.len().min(1))?;
        if indices.len() != self.samples.len() {
            self.samples = from.zeros_like(0);
        }
        self.rows = None;
        from.gather(indices, &mut self.samples)
    }
}
