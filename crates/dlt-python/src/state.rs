//! Which layer's weights each layer uses.

use dlt_state::State;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::action::PyAction;
use crate::error::{depth, existing, refused};
use crate::event::PyTransition;
use crate::randomness::drawing;
use crate::record::record;
use crate::sequence::{entry, iterate};

/// Which layer's weights each layer uses: entry `i` is the owner of layer `i`, the lowest layer of
/// its group. A layer that owns itself is independent. A state cannot be changed.
///
/// owners: the owner of each layer, shape (L,).
///
/// Raises DltError if there is no layer, if a layer names a later one, or if an owner is itself
/// owned by another layer.
#[pyclass(name = "State", module = "dlt_state", frozen, eq, ord, hash, from_py_object)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PyState(pub(crate) State);

record! {
    /// The layers that use one layer's weights.
    Group [hash] [Eq, Hash] {
        /// The layer that holds the weights, the first of the members.
        owner: usize,
        /// The layers that use them, in rising order.
        members: Vec<usize>,
    }
}

#[pymethods]
impl PyState {
    #[new]
    fn new(owners: Vec<usize>) -> PyResult<Self> {
        State::new(owners).map(Self).map_err(refused)
    }

    /// Equation 1: for rising `i`, `s[i] = i` if `a[i] = i`, else `s[a[i]]`.
    #[staticmethod]
    fn from_action(action: &PyAction) -> Self {
        Self(State::from_action(&action.0))
    }

    /// All layers use the weights of layer 0.
    #[staticmethod]
    fn all_tied(n_layers: usize) -> PyResult<Self> {
        Ok(Self(State::all_tied(depth(n_layers)?)))
    }

    /// Every layer has its own weights.
    #[staticmethod]
    fn independent(n_layers: usize) -> PyResult<Self> {
        Ok(Self(State::independent(depth(n_layers)?)))
    }

    /// Reads a list of owners in any common way of writing one: `[0, 1, 1]`, `0,1,1` or `0 1 1`.
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(refused)
    }

    /// The owner of each layer, shape (L,).
    #[getter]
    fn owners(&self) -> &[usize] {
        self.0.owners()
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.0.n_layers()
    }

    /// How many layers have their own weights: at least 1, because layer 0 always has.
    #[getter]
    fn n_independent(&self) -> usize {
        self.0.n_independent()
    }

    /// The owner of `layer`.
    fn owner(&self, layer: usize) -> PyResult<usize> {
        Ok(self.0.owner(existing(layer, self.0.n_layers())?))
    }

    /// Whether `layer` has its own weights.
    fn is_independent(&self, layer: usize) -> PyResult<bool> {
        Ok(self.owner(layer)? == layer)
    }

    /// The layers with their own weights, in rising order.
    fn independent_layers(&self) -> Vec<usize> {
        self.0.independent_layers().collect()
    }

    /// The groups in rising order of their owners, each with its members.
    fn groups(&self) -> Vec<Group> {
        let groups = self.0.groups().into_iter();
        groups.map(|group| Group { owner: group.owner, members: group.members }).collect()
    }

    /// The state as the action that asks for it.
    fn as_action(&self) -> PyAction {
        PyAction(self.0.as_action().clone())
    }

    /// The changes from this state to `next`, which must have as many layers.
    fn transition_to(&self, next: &Self) -> PyResult<PyTransition> {
        self.0.transition_to(&next.0).map(PyTransition).map_err(refused)
    }

    /// Renames the layers: layer `i` becomes layer `permutation[i]`, and each group is named by its
    /// least member again. Shape of the permutation: (L,).
    fn relabel(&self, permutation: Vec<usize>) -> PyResult<Self> {
        self.0.relabel(&permutation).map(Self).map_err(refused)
    }

    /// Splits the group of `owner`: the layers of `part`, in rising order, become a group.
    fn split(&self, owner: usize, part: Vec<usize>) -> PyResult<Self> {
        self.0.split(owner, &part).map(Self).map_err(refused)
    }

    /// Splits the largest group in its middle. None if all layers are independent.
    fn split_largest(&self) -> Option<Self> {
        self.0.split_largest().map(Self)
    }

    /// Merges the groups of two owners into one, named by the lowest layer of both.
    fn merge(&self, one: usize, other: usize) -> PyResult<Self> {
        self.0.merge(one, other).map(Self).map_err(refused)
    }

    /// The state after a uniform split of a uniform group. None if all layers are independent. It
    /// draws from `source.randrange`, that of the module `random` if none is given.
    #[pyo3(signature = (source=None))]
    fn random_split(
        &self,
        py: Python<'_>,
        source: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Self>> {
        Ok(drawing(py, source, |source| self.0.random_split(source))?.map(Self))
    }

    /// The state after a uniform merge of two groups. None if there is only one group. It draws from
    /// `source.randrange`, that of the module `random` if none is given.
    #[pyo3(signature = (source=None))]
    fn random_merge(
        &self,
        py: Python<'_>,
        source: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Self>> {
        Ok(drawing(py, source, |source| self.0.random_merge(source))?.map(Self))
    }

    /// Number of parameters that are stored, with `shared` outside of the layers and `per_layer` in
    /// each layer.
    fn parameter_count(&self, shared: u64, per_layer: u64) -> u128 {
        // Wider than in Rust, as Python's integers do not overflow.
        u128::from(shared) + self.0.n_independent() as u128 * u128::from(per_layer)
    }

    fn __len__(&self) -> usize {
        self.0.n_layers()
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        entry(self.0.owners(), key, |&layer| layer)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        iterate(py, self.0.owners())
    }

    fn __repr__(&self) -> String {
        format!("State({})", self.0)
    }

    fn __getnewargs__(&self) -> (&[usize],) {
        (self.0.owners(),)
    }
}
