//! Actions, states and recordings as sequences of their entries.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

/// An iterator over the entries.
pub(crate) fn iterate<'py>(py: Python<'py>, values: &[usize]) -> PyResult<Bound<'py, PyIterator>> {
    PyList::new(py, values)?.try_iter()
}

/// The entry at an index, or a list of those of a slice. Negative indices count from the end.
/// `shown` is what Python gets of an entry.
pub(crate) fn entry<'py, T, P: IntoPyObject<'py>>(
    values: &[T],
    key: &Bound<'py, PyAny>,
    shown: impl Fn(&T) -> P,
) -> PyResult<Bound<'py, PyAny>> {
    let py = key.py();
    let Ok(index) = key.extract::<isize>() else {
        return PyList::new(py, values.iter().map(shown))?.as_any().get_item(key);
    };

    let length = values.len();
    let place = if index < 0 { index + length as isize } else { index };
    let value = usize::try_from(place).ok().and_then(|place| values.get(place));
    let value = value.ok_or_else(|| {
        PyIndexError::new_err(format!("expected an index below {length}, got {index}"))
    })?;

    shown(value).into_bound_py_any(py)
}
