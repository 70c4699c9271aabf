//! Which storage each layer uses, and the plan of copies and releases between two states.

use dlt_state::State;
use dlt_state::binding::{self, Binding, Change, Gradient, Rules, SavedBinding};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::action::PyAction;
use crate::error::{existing, refused};
use crate::record::record;
use crate::settings;
use crate::state::PyState;

/// The readings of the method that a decision follows: keys of the section `tying` of a spec.
const RULES: [&str; 6] = ["tie", "gradient", "untie", "retied", "first_tie", "merge"];

/// Who uses which storage of weights, which layers are frozen, and whose optimizer state uses the
/// gradient of which layer. `of_state`, `frozen` and `from_parts` make one.
///
/// A storage is a number: in a framework the key of a module. Layer `i` begins with storage `i`,
/// new storages get the numbers after these, and no number is used twice.
///
/// storage: number of each layer's storage, shape (L,). frozen: layers that use their initial
/// weights, untrained. independent: layers that train by themselves. next: number of the next new
/// storage.
#[pyclass(name = "Binding", module = "dlt_state", eq)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PyBinding(Binding);

record! {
    /// One thing that the holder of the weights has to do. Its order in the list matters.
    ///
    /// "copy": the new storage `target` gets the values of `source`. "release": no layer uses
    /// `source` any more. "materialise": the initial weights of a frozen layer become the trainable
    /// storage `target`. "blend": `target` becomes `1 - share` times itself plus `share` times
    /// `source`.
    Move [] [] {
        /// "copy", "release", "materialise" or "blend".
        kind: String,
        /// The storage that is read or released. None for "materialise".
        source: Option<usize>,
        /// The storage that is written. None for "release".
        target: Option<usize>,
        /// Weight of the source in a "blend", in (0, 1). None for the others.
        share: Option<f64>,
    }
}

record! {
    /// An average of optimizer states that goes with a "blend": `into` becomes `1 - share` times
    /// itself plus `share` times that of `source`.
    Merged [] [] {
        /// The layer whose optimizer state ends.
        source: usize,
        /// The layer whose optimizer state receives the moments.
        into: usize,
        /// Weight of the moments that end, in (0, 1).
        share: f64,
    }
}

record! {
    /// What a decision did, besides the new binding.
    Settlement [] [] {
        /// What the holder of the weights has to do, in order.
        moves: Vec<Move>,
        /// Layers that now train by themselves and did not before, rising. Each has the layer whose
        /// optimizer state was that of its former storage, or None.
        untied: Vec<(usize, Option<usize>)>,
        /// Layers that no longer train by themselves, rising.
        tied: Vec<usize>,
        /// Layers that train a copy of their owner's weights, rising; with `tie="replicate"` only.
        replicated: Vec<usize>,
        /// Optimizer states to average into others, in this order.
        merged: Vec<Merged>,
        /// Whether every layer computes with the same weights as before.
        keeps_function: bool,
    }
}

#[pymethods]
impl PyBinding {
    #[new]
    fn new(
        storage: Vec<usize>,
        frozen: Vec<usize>,
        independent: Vec<usize>,
        next: usize,
    ) -> PyResult<Self> {
        let saved = SavedBinding { storage, frozen, independent, next };
        Binding::restore(&saved).map(Self).map_err(refused)
    }

    /// Every layer uses its owner's weights from the start.
    #[staticmethod]
    fn of_state(state: &PyState) -> Self {
        Self(Binding::of_state(&state.0))
    }

    /// Layer 0 trains. Every other layer uses its own initial weights, untrained.
    #[staticmethod]
    fn frozen(n_layers: usize) -> PyResult<Self> {
        Ok(Self(Binding::frozen(crate::error::depth(n_layers)?)))
    }

    /// The binding in which `lowest[i]` is the lowest layer that uses layer `i`'s storage. Shape of
    /// `lowest`: (L,). `frozen` and `independent` name the layers that are frozen and those that
    /// train by themselves.
    #[staticmethod]
    fn from_parts(
        lowest: Vec<usize>,
        frozen: Vec<usize>,
        independent: Vec<usize>,
    ) -> PyResult<Self> {
        Binding::from_parts(&lowest, &frozen, &independent).map(Self).map_err(refused)
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.0.n_layers()
    }

    /// The storage of each layer, shape (L,).
    #[getter]
    fn storages(&self) -> Vec<usize> {
        self.0.save().storage
    }

    /// The storage that `layer` uses.
    fn storage(&self, layer: usize) -> PyResult<usize> {
        Ok(self.0.storage(self.existing(layer)?).0)
    }

    /// Whether `layer` still uses its own initial weights, untrained.
    fn is_frozen(&self, layer: usize) -> PyResult<bool> {
        Ok(self.0.is_frozen(self.existing(layer)?))
    }

    /// Whether `layer` trains by itself, with its own optimizer state.
    fn trains_alone(&self, layer: usize) -> PyResult<bool> {
        Ok(self.0.trains_alone(self.existing(layer)?))
    }

    /// Number of distinct storages in use; those of frozen layers count.
    #[getter]
    fn n_distinct(&self) -> usize {
        self.0.n_distinct()
    }

    /// For each layer the lowest layer that uses the same storage, shape (L,).
    fn partition(&self) -> Vec<usize> {
        self.0.partition()
    }

    /// The storages that at least one optimizer state updates, rising.
    fn trained(&self) -> Vec<usize> {
        self.0.trained().into_iter().map(|id| id.0).collect()
    }

    /// The layer whose optimizer state uses the gradient of `layer`, None if none does. With
    /// `gradient="sum"` each layer adds to that of the lowest layer that trains its storage; with
    /// "owner" only layers that train by themselves have one.
    #[pyo3(signature = (layer, *, gradient="sum"))]
    fn slot(&self, layer: usize, gradient: &str) -> PyResult<Option<usize>> {
        let layer = self.existing(layer)?;
        match gradient {
            "sum" => Ok(self.0.slot(layer, Gradient::Sum)),
            "owner" => Ok(self.0.slot(layer, Gradient::Owner)),
            _ => Err(refused(format!("expected \"sum\" or \"owner\", got \"{gradient}\""))),
        }
    }

    /// Carries a decision out: Algorithm 1, lines 10 to 19. The binding becomes that of `to_state`.
    /// Returns what the holder of the weights and the optimizer have to do.
    ///
    /// `action` is the action vector of the decision: that which asks for `to_state`, if none is
    /// given. `visited` is the layer that was decided; None if all were. Further arguments are the
    /// readings of the section `tying` of a spec: tie, gradient, untie, retied, first_tie, merge.
    /// Without them it is the paper's.
    ///
    /// Raises DltError for states of another depth or a reading that does not exist. Nothing changes
    /// then.
    #[pyo3(signature = (from_state, to_state, *, action=None, visited=None, **rules))]
    fn apply(
        &mut self,
        from_state: &PyState,
        to_state: &PyState,
        action: Option<&PyAction>,
        visited: Option<usize>,
        rules: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Settlement> {
        let (from, to): (&State, &State) = (&from_state.0, &to_state.0);
        let action = action.map_or(to.as_action(), |action| &action.0);
        let visited = visited.map(|layer| self.existing(layer)).transpose()?;

        let settled = self.0.apply(&readings(rules)?, &Change { from, to, action, visited });
        settled.map(Settlement::from).map_err(refused)
    }

    fn __len__(&self) -> usize {
        self.0.n_layers()
    }

    fn __repr__(&self) -> String {
        let SavedBinding { storage, frozen, independent, next } = self.0.save();
        format!(
            "Binding(storage={storage:?}, frozen={frozen:?}, independent={independent:?}, \
             next={next})"
        )
    }

    fn __getnewargs__(&self) -> (Vec<usize>, Vec<usize>, Vec<usize>, usize) {
        let SavedBinding { storage, frozen, independent, next } = self.0.save();
        (storage, frozen, independent, next)
    }
}

impl PyBinding {
    fn existing(&self, layer: usize) -> PyResult<usize> {
        existing(layer, self.0.n_layers())
    }
}

/// The readings that the arguments name, the paper's where they name none.
fn readings(rules: Option<&Bound<'_, PyDict>>) -> PyResult<Rules> {
    let arguments = settings::arguments(rules)?;
    if arguments.is_empty() {
        return Ok(Rules::PAPER);
    }

    if let Some((name, _)) = arguments.iter().find(|(name, _)| !RULES.contains(&name.as_str())) {
        let expected = RULES.join(", ");
        return Err(PyTypeError::new_err(format!("expected one of {expected}, got {name}")));
    }

    let spec = settings::spec("Binding.apply", &arguments, |name| format!("tying.{name}"))?;
    Ok(Rules::from(&spec.tying))
}

impl From<binding::Settlement> for Settlement {
    fn from(settlement: binding::Settlement) -> Self {
        let merged = |merged: binding::Merged| Merged {
            source: merged.from,
            into: merged.into,
            share: merged.share,
        };

        Self {
            moves: settlement.moves.into_iter().map(Move::from).collect(),
            untied: settlement.untied,
            tied: settlement.tied,
            replicated: settlement.replicated,
            merged: settlement.merged.into_iter().map(merged).collect(),
            keeps_function: settlement.keeps_function,
        }
    }
}

impl From<binding::Move> for Move {
    fn from(step: binding::Move) -> Self {
        use binding::Move as Step;

        let (kind, source, target, share) = match step {
            Step::Materialise(id) => ("materialise", None, Some(id), None),
            Step::Copy { from, to } => ("copy", Some(from), Some(to), None),
            Step::Blend { from, into, share } => ("blend", Some(from), Some(into), Some(share)),
            Step::Release(id) => ("release", Some(id), None, None),
        };

        let number = |id: binding::StorageId| id.0;
        let (source, target) = (source.map(number), target.map(number));
        Self { kind: kind.to_owned(), source, target, share }
    }
}
