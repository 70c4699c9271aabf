//! The decisions of a run, in order.

use dlt_state::{Recording, Row};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

use crate::action::PyAction;
use crate::error::{depth, refused};
use crate::event::{EventCounts, PyTransition};
use crate::sequence::entry;
use crate::state::PyState;

/// The decisions of a training run in order, each with its step, action and state. All layers are
/// tied until the first decision; `starting_from` and `gated` begin in another state.
///
/// The step of a decision is the number of training steps before it. `to_text` gives the file that
/// `dlt inspect` and `agent.recording` read.
#[pyclass(name = "Recording", module = "dlt_state", eq)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PyRecording(pub(crate) Recording);

/// One decision of a recording.
#[pyclass(name = "Row", module = "dlt_state", frozen, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyRow(Row);

#[pymethods]
impl PyRecording {
    #[new]
    fn new(n_layers: usize) -> PyResult<Self> {
        Ok(Self(Recording::new(depth(n_layers)?)))
    }

    /// A recording without decisions. The layers are in state `initial` until the first decision.
    #[staticmethod]
    fn starting_from(initial: &PyState) -> Self {
        Self(Recording::starting_from(initial.0.clone()))
    }

    /// The same, of version 2 of the text form, for a run that may refuse decisions.
    #[staticmethod]
    fn gated(initial: &PyState) -> Self {
        Self(Recording::gated(initial.0.clone()))
    }

    /// Reads the text form. Raises DltError with the number of the first invalid line.
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        Recording::parse(text).map(Self).map_err(refused)
    }

    /// Adds the decision made after `step` training steps, and returns its row. `layer` is the layer
    /// that was visited, where the decision was about that one alone. Raises DltError for a step
    /// below that of the decision before, another depth or a layer that does not exist. Nothing is
    /// added then.
    #[pyo3(signature = (step, action, layer=None))]
    fn push(&mut self, step: usize, action: &PyAction, layer: Option<usize>) -> PyResult<PyRow> {
        self.0.push(step, action.0.clone(), layer).cloned().map(PyRow).map_err(refused)
    }

    /// Adds a decision that was undone within the step, in a recording that is gated. `asked` is the
    /// requested action; the action before stays in force.
    #[pyo3(signature = (step, asked, layer=None))]
    fn push_refused(
        &mut self,
        step: usize,
        asked: &PyAction,
        layer: Option<usize>,
    ) -> PyResult<PyRow> {
        self.0.push_refused(step, asked.0.clone(), layer).cloned().map(PyRow).map_err(refused)
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.0.n_layers()
    }

    /// Version of the text form: 2 where decisions may be refused, else 1.
    #[getter]
    fn version(&self) -> usize {
        self.0.version()
    }

    /// The state before the first decision.
    #[getter]
    fn initial(&self) -> PyState {
        PyState(self.0.initial().clone())
    }

    /// The decisions, in order.
    #[getter]
    fn rows(&self) -> Vec<PyRow> {
        self.0.rows().iter().cloned().map(PyRow).collect()
    }

    /// The state in training step `step`: that of the last decision at or before it.
    fn state_at(&self, step: usize) -> PyState {
        PyState(self.0.state_at(step).clone())
    }

    /// Step of each decision, and what it changed.
    fn transitions(&self) -> Vec<(usize, PyTransition)> {
        self.0.transitions().map(|(step, transition)| (step, PyTransition(transition))).collect()
    }

    /// How many layers were tied and untied, over all decisions.
    fn event_counts(&self) -> EventCounts {
        self.0.event_counts().into()
    }

    /// For each layer, during how many of the training steps 0 to `until_step - 1` it was
    /// independent. Shape (L,).
    fn steps_independent(&self, until_step: usize) -> Vec<usize> {
        self.0.steps_independent(until_step)
    }

    /// The header of the text form, without an end of line.
    fn header_line(&self) -> String {
        self.0.header_line()
    }

    /// The text form: the header and a line for each decision.
    fn to_text(&self) -> String {
        self.0.to_text()
    }

    /// Number of decisions.
    fn __len__(&self) -> usize {
        self.0.rows().len()
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        entry(self.0.rows(), key, |row| PyRow(row.clone()))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.rows())?.try_iter()
    }

    fn __repr__(&self) -> String {
        let (decisions, layers) = (self.0.rows().len(), self.0.n_layers());
        format!("<Recording of {decisions} decisions for {layers} layers>")
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<(Py<PyAny>, (String,))> {
        let parse = slf.get_type().getattr("parse")?;
        Ok((parse.unbind(), (slf.borrow().to_text(),)))
    }
}

#[pymethods]
impl PyRow {
    /// Training steps done before the decision.
    #[getter]
    fn step(&self) -> usize {
        self.0.step()
    }

    /// The layer that was visited, where the decision was about that layer alone; else None.
    #[getter]
    fn layer(&self) -> Option<usize> {
        self.0.layer()
    }

    /// The action in force since the decision.
    #[getter]
    fn action(&self) -> PyAction {
        PyAction(self.0.action().clone())
    }

    /// The state in force since the decision.
    #[getter]
    fn state(&self) -> PyState {
        PyState(self.0.state().clone())
    }

    /// The requested action, where the decision was undone; else None.
    #[getter]
    fn refused(&self) -> Option<PyAction> {
        self.0.refused().cloned().map(PyAction)
    }

    /// The line of the text form, without an end of line.
    fn to_line(&self) -> String {
        self.0.to_line()
    }

    fn __repr__(&self) -> String {
        format!("<Row {}>", self.0.to_line())
    }

    /// The last row of a recording's text form.
    #[staticmethod]
    fn _last_of(text: &str) -> PyResult<Self> {
        let recording = Recording::parse(text).map_err(refused)?;
        let row = recording.rows().last().cloned();
        row.map(Self).ok_or_else(|| refused("expected a recording with a decision, got none"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<(Py<PyAny>, (String,))> {
        let row = &slf.get().0;
        // A refused row is valid only after the decision that stays in force.
        let mut before = Recording::gated(row.state().clone());
        before.push(0, row.action().clone(), None).map_err(refused)?;

        let text = format!("{}{}", before.to_text(), row.to_line());
        Ok((slf.get_type().getattr("_last_of")?.unbind(), (text,)))
    }
}
