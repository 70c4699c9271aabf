//! Keyword arguments as values of a spec, read and checked as the program reads them.

use dlt_spec::{Origin, Overlay, Spec, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use crate::error::refused;

/// The default spec with the given values over it. `key` turns the name of an argument into the key
/// of a spec. `origin` is what a message names as the origin of a wrong key or value.
pub(crate) fn spec(
    origin: &str,
    arguments: &[(String, Bound<'_, PyAny>)],
    key: impl Fn(&str) -> String,
) -> PyResult<Spec> {
    let mut values = Vec::with_capacity(arguments.len());
    for (name, argument) in arguments {
        values.push((key(name), value(name, argument)?));
    }

    let values = values.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let overlay =
        Overlay::from_values(Origin::Option(origin.to_owned()), values).map_err(refused)?;
    Spec::assemble(&[overlay]).map_err(refused)
}

/// The keyword arguments of a call, in order.
pub(crate) fn arguments<'py>(
    given: Option<&Bound<'py, PyDict>>,
) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    given.iter().map(|(name, value)| Ok((name.extract()?, value))).collect()
}

/// A Python value as TOML: a truth value, number, text, or list of these.
fn value(name: &str, argument: &Bound<'_, PyAny>) -> PyResult<Value> {
    // A bool is also an int in Python, and so is tried first.
    if argument.is_instance_of::<PyBool>() {
        Ok(Value::Boolean(argument.extract()?))
    } else if argument.is_instance_of::<PyFloat>() {
        Ok(Value::Float(argument.extract()?))
    } else if argument.is_instance_of::<PyString>() {
        Ok(Value::String(argument.extract()?))
    } else if let Ok(number) = argument.extract() {
        Ok(Value::Integer(number))
    } else if argument.is_instance_of::<PyInt>() {
        // TOML has no such number. As text it is refused, and the message shows it.
        Ok(Value::String(argument.str()?.extract()?))
    } else if let Ok(entries) = argument.try_iter() {
        let entries = entries.map(|entry| value(name, &entry?));
        Ok(Value::Array(entries.collect::<PyResult<_>>()?))
    } else {
        let got = argument.get_type().name()?;
        Err(PyTypeError::new_err(format!("{name}: expected a number, text or a list, got {got}")))
    }
}
