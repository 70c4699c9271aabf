//! The changes between two states.

use dlt_state::{Event, Transition};
use pyo3::prelude::*;

use crate::error::refused;
use crate::record::record;
use crate::state::PyState;

/// The changes from one state to another: an event for each layer whose owner differs, in rising
/// order of layers. `State.transition_to` makes one too.
///
/// A layer that is untied continues with a copy of the weights that it used up to that point.
///
/// Raises DltError if the states have different numbers of layers.
#[pyclass(name = "Transition", module = "dlt_state", frozen, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyTransition(pub(crate) Transition);

/// A change of one layer's owner. A layer whose new owner is itself was untied, another one tied.
#[pyclass(name = "Event", module = "dlt_state", frozen, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyEvent(Event);

record! {
    /// How many layers were tied and untied.
    EventCounts [hash] [Eq, Hash] {
        /// Layers that gave up their weights, or whose owner changed.
        tied: usize,
        /// Layers that became independent.
        untied: usize,
    }
}

impl From<dlt_state::EventCounts> for EventCounts {
    fn from(counts: dlt_state::EventCounts) -> Self {
        Self { tied: counts.tied, untied: counts.untied }
    }
}

#[pymethods]
impl PyTransition {
    #[new]
    fn new(from_state: &PyState, to_state: &PyState) -> PyResult<Self> {
        from_state.0.transition_to(&to_state.0).map(Self).map_err(refused)
    }

    /// The state before.
    #[getter(from_state)]
    fn state_before(&self) -> PyState {
        PyState(self.0.from().clone())
    }

    /// The state after.
    #[getter(to_state)]
    fn state_after(&self) -> PyState {
        PyState(self.0.to().clone())
    }

    /// The changes, one for each layer whose owner differs, in rising order of layers.
    #[getter]
    fn events(&self) -> Vec<PyEvent> {
        self.0.events().iter().copied().map(PyEvent).collect()
    }

    /// How many layers were tied and untied.
    fn event_counts(&self) -> EventCounts {
        self.0.event_counts().into()
    }

    /// Number of changes. So a transition without any is false.
    fn __len__(&self) -> usize {
        self.0.events().len()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Transition(State({}), State({}))", self.0.from(), self.0.to())
    }

    fn __getnewargs__(&self) -> (PyState, PyState) {
        (self.state_before(), self.state_after())
    }
}

#[pymethods]
impl PyEvent {
    #[new]
    fn new(layer: usize, former_owner: usize, new_owner: usize) -> Self {
        Self(if new_owner == layer {
            Event::Untied { layer, from: former_owner }
        } else {
            Event::Tied { layer, from: former_owner, to: new_owner }
        })
    }

    /// "tied" or "untied".
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0 {
            Event::Tied { .. } => "tied",
            Event::Untied { .. } => "untied",
        }
    }

    /// The layer that changes.
    #[getter]
    fn layer(&self) -> usize {
        self.0.layer()
    }

    /// The former owner of the layer.
    #[getter]
    fn former_owner(&self) -> usize {
        self.0.former_owner()
    }

    /// The new owner of the layer: the layer itself where it was untied.
    #[getter]
    fn new_owner(&self) -> usize {
        self.0.new_owner()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let (layer, former, new) = self.__getnewargs__();
        format!("Event(layer={layer}, former_owner={former}, new_owner={new})")
    }

    fn __getnewargs__(&self) -> (usize, usize, usize) {
        (self.0.layer(), self.0.former_owner(), self.0.new_owner())
    }
}
