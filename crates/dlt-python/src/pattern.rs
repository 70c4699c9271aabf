//! The submodule `pattern`: fixed ways of sharing weights.

use dlt_state::{StateError, pattern};
use pyo3::prelude::*;

use crate::error::{depth, refused};
use crate::state::PyState;

/// Layers `i` and `L/2 + i` share: the lower half is run twice.
#[pyfunction]
fn cycle(n_layers: usize) -> PyResult<PyState> {
    Ok(PyState(pattern::cycle(depth(n_layers)?)))
}

/// Layers `i` and `L - 1 - i` share: the lower half is run forwards, then backwards.
#[pyfunction]
fn cycle_reversed(n_layers: usize) -> PyResult<PyState> {
    Ok(PyState(pattern::cycle_reversed(depth(n_layers)?)))
}

/// Layers `i` and `L - i` share, as Table 4 of the paper writes it.
#[pyfunction]
fn cycle_reversed_as_written(n_layers: usize) -> PyResult<PyState> {
    Ok(PyState(pattern::cycle_reversed_as_written(depth(n_layers)?)))
}

/// Neighbours share, two by two.
#[pyfunction]
fn sequence(n_layers: usize) -> PyResult<PyState> {
    Ok(PyState(pattern::sequence(depth(n_layers)?)))
}

/// The first `n_groups - 1` layers are independent, and all others are one group.
#[pyfunction]
fn leading(n_layers: usize, n_groups: usize) -> PyResult<PyState> {
    let n_layers = depth(n_layers)?;
    if !(1..=n_layers).contains(&n_groups) {
        return Err(refused(StateError::GroupCount { groups: n_groups, n_layers }));
    }

    Ok(PyState(pattern::leading(n_layers, n_groups)))
}

/// Contiguous blocks of layers share, `groups` of them, whose sizes differ by at most one.
#[pyfunction]
fn evenly_grouped(n_layers: usize, groups: usize) -> PyResult<PyState> {
    pattern::evenly_grouped(depth(n_layers)?, groups).map(PyState).map_err(refused)
}

/// Adds the submodule, so that `import dlt_state.pattern` finds it too.
pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = parent.py();
    let module = PyModule::new(py, "dlt_state.pattern")?;
    module
        .setattr("__doc__", "Fixed ways of sharing weights, for comparison with learned ones.")?;

    module.add_function(wrap_pyfunction!(cycle, &module)?)?;
    module.add_function(wrap_pyfunction!(cycle_reversed, &module)?)?;
    module.add_function(wrap_pyfunction!(cycle_reversed_as_written, &module)?)?;
    module.add_function(wrap_pyfunction!(sequence, &module)?)?;
    module.add_function(wrap_pyfunction!(leading, &module)?)?;
    module.add_function(wrap_pyfunction!(evenly_grouped, &module)?)?;

    parent.add("pattern", &module)?;
    py.import("sys")?.getattr("modules")?.set_item("dlt_state.pattern", &module)
}
