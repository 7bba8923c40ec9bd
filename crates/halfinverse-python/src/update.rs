//! The spectral core: one update of a stored J, and a Krylov space of one that is known by its products.

use halfinverse::faer::Par;
use halfinverse::linear::DenseView;
use halfinverse::spectral::{self, Filter, Options, Ritz, Solver};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{matrix, numbers, vector};
use crate::errors::{Raise, setting};
use crate::fault::Fault;
use crate::problem::Products;
use crate::report;

fn filter(kappa: f64, damping: f64, truncation: f64) -> PyResult<Filter> {
    let filter = if damping == 0.0 {
        Filter::power(kappa, truncation)
    } else {
        Filter::damped_power(kappa, damping, truncation)
    };
    filter.map_err(Raise::raise)
}

/// Runs on so many threads of its own; nothing of them is left behind, so that a process may be forked.
fn on_threads<R: Send>(threads: usize, run: impl FnOnce(Par) -> R + Send) -> PyResult<R> {
    if threads <= 1 {
        return Ok(run(Par::Seq));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| setting(format_args!("cannot start {threads} threads: {error}")))?;
    Ok(pool.install(|| run(Par::rayon(threads))))
}

/// Δ = V φ(Σ) Uᵀ g of a matrix (n × P) in either layout and g (n); the package checks both.
#[pyfunction]
#[pyo3(signature = (jacobian, gradient, kappa, truncation, damping, solver, threads))]
#[allow(clippy::too_many_arguments, reason = "passed on one by one from Python")]
#[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
pub(crate) fn update<'py>(
    py: Python<'py>,
    jacobian: PyReadonlyArrayDyn<'py, f64>,
    gradient: PyReadonlyArrayDyn<'py, f64>,
    kappa: f64,
    truncation: f64,
    damping: f64,
    solver: &str,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyDict>)> {
    let filter = filter(kappa, damping, truncation)?;
    let expected = |expected: String| setting(format_args!("`solver` is `{solver}`, but must be {expected}"));
    let solver: Solver = solver.parse().map_err(expected)?;
    let (j, g) = (matrix(&jacobian)?, numbers(&gradient)?);
    let mut delta = vec![0.0; j.ncols()];
    let report = py.detach(|| {
        on_threads(threads, |par| {
            let options = Options { solver, par, ..Options::default() };
            spectral::update(&mut DenseView::new(j), g, &filter, &options, &mut delta)
        })
    })?;
    let report = report.map_err(Raise::raise)?;
    Ok((PyArray1::from_vec(py, delta), report::spectral(py, &report)?))
}

/// A Krylov space of a J that is known by its products, its vectors kept, so that steps cost no further products.
#[pyclass(frozen, module = "halfinverse._core")]
pub(crate) struct KrylovSpace {
    /// None where Jᵀg = 0.
    ritz: Option<Ritz>,
    /// V (k × P).
    #[pyo3(get)]
    basis: Py<PyArray2<f64>>,
    /// |Jᵀg|.
    #[pyo3(get)]
    gradient_norm: f64,
}

#[pymethods]
impl KrylovSpace {
    #[new]
    #[allow(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn new(
        py: Python<'_>,
        jvp: Py<PyAny>,
        vjp: Py<PyAny>,
        gradient: PyReadonlyArrayDyn<'_, f64>,
        parameters: usize,
        vectors: usize,
    ) -> PyResult<Self> {
        let g = numbers(&gradient)?;
        let fault = Fault::default();
        let mut products = Products::new((g.len(), parameters), jvp, vjp, fault.clone());
        let mut space = spectral::KrylovSpace::default();
        let mut kept = Vec::new();
        let built = py.detach(|| {
            let mut show = |v: &[f64]| kept.extend_from_slice(v);
            space.build_and_show(&mut products, g, vectors, Par::Seq, &mut show)
        });
        fault.raise()?;
        built.map_err(Raise::raise)?;
        let k = space.dimension();
        let ritz = if k > 0 { Some(space.ritz(k).map_err(Raise::raise)?) } else { None };
        let basis = PyArray1::from_vec(py, kept).reshape([k, parameters])?.unbind();
        Ok(Self { ritz, basis, gradient_norm: space.gradient_norm() })
    }

    /// The coefficients c of Δ = Vᵀc for φ(σ) = σ·(σ² + λ)^−(1+κ)/2, and what the step's model says.
    fn step<'py>(
        &self,
        py: Python<'py>,
        kappa: f64,
        damping: f64,
        truncation: f64,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyDict>)> {
        let filter = filter(kappa, damping, truncation)?;
        let step = self.ritz.as_ref().map(|ritz| ritz.filtered(&filter)).unwrap_or_default();
        let values = self.ritz.as_ref().map_or(&[][..], Ritz::values);
        let kept = values.iter().filter(|&&sigma| filter.keeps(sigma, values[0]));
        let dict = PyDict::new(py);
        dict.set_item("rank", kept.clone().count())?;
        dict.set_item("sigma_max", values.first().copied().unwrap_or(0.0))?;
        dict.set_item("sigma_min", kept.clone().next_back().copied().unwrap_or(0.0))?;
        dict.set_item("slope", step.slope)?;
        dict.set_item("curvature", step.curvature)?;
        Ok((vector(py, &step.coefficients), dict))
    }
}
