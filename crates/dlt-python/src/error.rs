//! The one exception of the module, and limits that have no error type in Rust.

use dlt_state::StateError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::fmt::Display;

pyo3::create_exception!(
    dlt_state,
    DltError,
    PyValueError,
    "A value that breaks a rule of the method. The message says what was expected and what was found."
);

/// The most layers that a depth may ask for, as in the text form of recordings. One wrong number
/// could otherwise exhaust the memory.
const MAX_LAYERS: usize = 1 << 16;

/// The exception with the message of `error`.
pub(crate) fn refused(error: impl Display) -> PyErr {
    DltError::new_err(error.to_string())
}

/// The depth, where there is a layer and not far too many. In Rust a depth of 0 is a bug of the
/// caller and panics.
pub(crate) fn depth(n_layers: usize) -> PyResult<usize> {
    match n_layers {
        0 => Err(refused(StateError::Empty)),
        _ if n_layers > MAX_LAYERS => {
            Err(refused(StateError::TooDeep { n_layers, limit: MAX_LAYERS }))
        }
        _ => Ok(n_layers),
    }
}

/// The layer, where there is such a layer. In Rust another one panics.
pub(crate) fn existing(layer: usize, n_layers: usize) -> PyResult<usize> {
    if layer < n_layers {
        Ok(layer)
    } else {
        Err(refused(StateError::LayerOutOfRange { layer, n_layers }))
    }
}
