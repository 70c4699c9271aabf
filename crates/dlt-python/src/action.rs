//! Which layer each layer is asked to copy.

use dlt_state::Action;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::error::{depth, refused};
use crate::randomness::drawing;
use crate::sequence::{entry, iterate};

/// Which layer each layer is asked to copy. Entry `i` is at most `i`; with `i` itself, the layer
/// keeps its own weights. `State.from_action` turns it into the state that results. An action
/// cannot be changed.
///
/// values: one layer for each layer, shape (L,).
///
/// Raises DltError if there is no layer, or if a layer names a later one.
#[pyclass(name = "Action", module = "dlt_state", frozen, eq, ord, hash, from_py_object)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PyAction(pub(crate) Action);

#[pymethods]
impl PyAction {
    #[new]
    fn new(values: Vec<usize>) -> PyResult<Self> {
        Action::new(values).map(Self).map_err(refused)
    }

    /// Every layer is asked to copy layer 0.
    #[staticmethod]
    fn all_zero(n_layers: usize) -> PyResult<Self> {
        Ok(Self(Action::all_zero(depth(n_layers)?)))
    }

    /// A uniform action: entry `i` is uniform among 0 to `i`. It draws from `source.randrange`, that
    /// of the module `random` if none is given.
    #[staticmethod]
    #[pyo3(signature = (n_layers, source=None))]
    fn random(
        py: Python<'_>,
        n_layers: usize,
        source: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let n_layers = depth(n_layers)?;
        drawing(py, source, |source| Action::random(n_layers, source)).map(Self)
    }

    /// Reads a list of entries in any common way of writing one: `[0, 1, 1]`, `0,1,1` or `0 1 1`.
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(refused)
    }

    /// For each layer, the layer that it is asked to copy, shape (L,).
    #[getter]
    fn values(&self) -> &[usize] {
        self.0.values()
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.0.n_layers()
    }

    /// How many layers are asked to keep their own weights.
    #[getter]
    fn n_independent(&self) -> usize {
        self.0.n_independent()
    }

    /// The action that asks `layer` to copy layer `value`, and is otherwise the same.
    fn replace(&self, layer: usize, value: usize) -> PyResult<Self> {
        let mut action = self.0.clone();
        action.replace(layer, value).map_err(refused)?;
        Ok(Self(action))
    }

    fn __len__(&self) -> usize {
        self.0.n_layers()
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        entry(self.0.values(), key, |&layer| layer)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        iterate(py, self.0.values())
    }

    fn __repr__(&self) -> String {
        format!("Action({})", self.0)
    }

    fn __getnewargs__(&self) -> (&[usize],) {
        (self.0.values(),)
    }
}
