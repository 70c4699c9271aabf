//! Actions and states as sequences of their entries.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

/// An iterator over the entries.
pub(crate) fn iterate<'py>(py: Python<'py>, values: &[usize]) -> PyResult<Bound<'py, PyIterator>> {
    PyList::new(py, values)?.try_iter()
}

/// The entry at an index, or a list of those of a slice. Negative indices count from the end.
pub(crate) fn entry<'py>(values: &[usize], key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = key.py();
    let Ok(index) = key.extract::<isize>() else {
        return PyList::new(py, values)?.as_any().get_item(key);
    };

    let length = values.len() as isize;
    let place = if index < 0 { index + length } else { index };
    let value = usize::try_from(place).ok().and_then(|place| values.get(place));
    let value = value.ok_or_else(|| {
        PyIndexError::new_err(format!("expected one of the {length} layers, got layer {index}"))
    })?;

    Ok(value.into_pyobject(py)?.into_any())
}
