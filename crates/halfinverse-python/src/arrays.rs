//! Numbers between NumPy and the library: matrices are viewed where they lie row after row or column after column.

use faer::MatRef;
use halfinverse::faer;
use numpy::{PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::shape;

/// What a function of the user's returned, as an array of float64: itself where it is one, else what the package makes
/// of it (`halfinverse._arrays.floats`).
pub(crate) fn floats<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArrayDyn<'py, f64>> {
    static FLOATS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Ok(array) = object.cast::<PyArrayDyn<f64>>()
        && array.is_c_contiguous()
        && array.is_aligned()
    {
        return view(array);
    }
    let py = object.py();
    let floats = FLOATS.import(py, "halfinverse._arrays", "floats")?;
    view(floats.call1((what, object))?.cast::<PyArrayDyn<f64>>()?)
}

fn view<'py>(array: &Bound<'py, PyArrayDyn<f64>>) -> PyResult<PyReadonlyArrayDyn<'py, f64>> {
    Ok(array.try_readonly()?)
}

/// Its numbers, row after row.
pub(crate) fn numbers<'a>(array: &'a PyReadonlyArrayDyn<'_, f64>) -> PyResult<&'a [f64]> {
    Ok(array.as_slice()?)
}

/// What a function returned, into `out`, whatever its shape.
pub(crate) fn fill(what: &str, object: &Bound<'_, PyAny>, out: &mut [f64]) -> PyResult<()> {
    let array = floats(what, object)?;
    let found = numbers(&array)?;
    if found.len() != out.len() {
        let (expected, found) = (out.len(), found.len());
        return Err(shape(format_args!("{what} returned {found} numbers, but must return {expected}")));
    }
    out.copy_from_slice(found);
    Ok(())
}

/// A matrix that lies row after row or column after column.
pub(crate) fn matrix<'a>(array: &'a PyReadonlyArrayDyn<'_, f64>) -> PyResult<MatRef<'a, f64>> {
    let (rows, columns) = (array.shape()[0], array.shape()[1]);
    let numbers = array.as_slice()?;
    Ok(if array.is_c_contiguous() {
        MatRef::from_row_major_slice(numbers, rows, columns)
    } else {
        MatRef::from_column_major_slice(numbers, rows, columns)
    })
}

/// A new array of these numbers.
pub(crate) fn vector<'py>(py: Python<'py>, numbers: &[f64]) -> Bound<'py, PyArray1<f64>> {
    PyArray1::from_slice(py, numbers)
}

/// A new array (rows × columns, column after column in memory) of a matrix.
pub(crate) fn columns<'py>(py: Python<'py>, matrix: MatRef<'_, f64>) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (rows, columns) = matrix.shape();
    let mut numbers = Vec::with_capacity(rows * columns);
    for j in 0..columns {
        numbers.extend(matrix.col(j).iter());
    }
    PyArray1::from_vec(py, numbers)
        .reshape_with_order([rows, columns], numpy::npyffi::NPY_ORDER::NPY_FORTRANORDER)
}
