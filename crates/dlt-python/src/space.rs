//! All single choices of a decision, in one row.

use dlt_state::ActionSpace;
use pyo3::prelude::*;
use pyo3::types::PySlice;

use crate::action::PyAction;
use crate::error::{depth, existing, refused};

/// All single choices at a given depth, in one row. A network that scores them has its outputs in
/// this order. Layer 0 has no place in the row; each layer `i = 1..L` has its choices 0 to `i`. The
/// row has `(L + 2)(L - 1) / 2` values.
#[pyclass(name = "ActionSpace", module = "dlt_state", frozen, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyActionSpace(ActionSpace);

#[pymethods]
impl PyActionSpace {
    #[new]
    fn new(n_layers: usize) -> PyResult<Self> {
        Ok(Self(ActionSpace::new(depth(n_layers)?)))
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.0.n_layers()
    }

    /// Length of the row: `(L + 2)(L - 1) / 2`.
    #[getter]
    fn n_q_values(&self) -> usize {
        self.0.n_q_values()
    }

    /// The place of the choices of `layer` in the row: `values[space.slice(layer)][choice]` is the
    /// value of a choice.
    fn slice<'py>(&self, py: Python<'py>, layer: usize) -> PyResult<Bound<'py, PySlice>> {
        let range = self.0.slice(existing(layer, self.0.n_layers())?);
        Ok(PySlice::new(py, range.start as isize, range.end as isize, 1))
    }

    /// Number of actions, `L!`. None above 34 layers.
    fn n_actions(&self) -> Option<u128> {
        self.0.n_actions()
    }

    /// Number of states, the Bell number of `L`. None above 42 layers.
    fn n_states(&self) -> Option<u128> {
        self.0.n_states()
    }

    /// Number of states with `n_groups` groups, the Stirling number of the second kind. None if it
    /// does not fit 128 bits.
    fn n_states_with(&self, n_groups: usize) -> Option<u128> {
        self.0.n_states_with(n_groups)
    }

    /// Number of actions with `n_independent` layers that keep their own weights, the unsigned
    /// Stirling number of the first kind. None if it does not fit 128 bits.
    fn n_actions_with(&self, n_independent: usize) -> Option<u128> {
        self.0.n_actions_with(n_independent)
    }

    /// The action of greatest value. Of equal values the lowest layer is copied. Shape of the
    /// values: (n_q_values,).
    fn greedy(&self, values: Vec<f64>) -> PyResult<PyAction> {
        self.0.greedy(&values).map(PyAction).map_err(refused)
    }

    /// Equation 3: the sum over the layers of the value of each one's choice. Shape of the values:
    /// (n_q_values,).
    fn q_value(&self, values: Vec<f64>, action: &PyAction) -> PyResult<f64> {
        self.0.q_value(&values, &action.0).map_err(refused)
    }

    /// Equation 4: the greatest value of all actions. Shape of the values: (n_q_values,).
    fn max_q_value(&self, values: Vec<f64>) -> PyResult<f64> {
        self.0.max_q_value(&values).map_err(refused)
    }

    fn __repr__(&self) -> String {
        format!("ActionSpace({})", self.0.n_layers())
    }

    fn __getnewargs__(&self) -> (usize,) {
        (self.0.n_layers(),)
    }
}
