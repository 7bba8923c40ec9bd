//! Settings between Python's dicts and the library's tables.

use halfinverse::SettingError;
use halfinverse::optimizer::ENTRIES;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use toml::{Table, Value};

use crate::errors::{Raise, setting};

/// A dict as a table.
pub(crate) fn table(dict: &Bound<'_, PyDict>) -> PyResult<Table> {
    let mut table = Table::new();
    for (key, value) in dict {
        let Ok(name) = key.extract::<String>() else {
            return Err(setting(format_args!("`{key}` is the name of a setting, but must be a string")));
        };
        table.insert(name.clone(), self::value(&name, &value)?);
    }
    Ok(table)
}

fn value(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(dict) = object.cast::<PyDict>() {
        return Ok(Value::Table(table(dict)?));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let items = object.try_iter()?.map(|item| value(name, &item?));
        return Ok(Value::Array(items.collect::<PyResult<_>>()?));
    }
    if object.is_instance_of::<PyBool>() {
        return Ok(Value::Boolean(object.extract()?));
    }
    if object.is_instance_of::<PyString>() {
        return Ok(Value::String(object.extract()?));
    }
    // NumPy's integers have __index__, its floats __float__; bool and str are out of the way.
    if object.is_instance_of::<PyInt>() || object.hasattr("__index__")? {
        return object.extract().map(Value::Integer);
    }
    if object.is_instance_of::<PyFloat>() || object.hasattr("__float__")? {
        return object.extract().map(Value::Float);
    }
    let found = object.get_type().name()?;
    let expected = "a number, a string, True or False, a list or a dict";
    Err(SettingError::new(name, format_args!("of type {found}"), expected).raise())
}

/// A table as a dict.
pub(crate) fn dict<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in table {
        dict.set_item(name, object(py, value)?)?;
    }
    Ok(dict)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Integer(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::Boolean(truth) => truth.into_pyobject(py)?.to_owned().into_any(),
        Value::Datetime(time) => time.to_string().into_pyobject(py)?.into_any(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| object(py, item)).collect::<PyResult<_>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Table(table) => dict(py, table)?.into_any(),
    })
}

/// The optimizers' names with their default settings.
pub(crate) fn optimizers(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for entry in ENTRIES {
        let entry = entry();
        all.set_item(entry.name, dict(py, &entry.defaults())?)?;
    }
    Ok(all)
}
