//! The agent: it decides, and learns from rewards.

#![allow(clippy::too_many_arguments, reason = "a record is made of all of its fields")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlt_agent::{Agent, AgentError, AgentSnapshot, Evidence, Measured, Occasion, Turn, Visit};
use dlt_spec::AgentSetup;
use dlt_state::State;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::action::PyAction;
use crate::error::refused;
use crate::record::record;
use crate::recording::PyRecording;
use crate::settings;
use crate::state::PyState;

/// Decides which layers are tied. `decide` and `learn` alternate, with any amount of training
/// between them.
///
/// layers: number of layers, L. recording: the decisions that the policies "replay" and
/// "permuted-replay" follow. Further arguments have the names and rules of a spec of `dlt`: seed;
/// initial, decision, exempt and state_vector of its section `tying`; all of its section `agent`, such as
/// policy, reward, gamma or epsilon_start. `dlt spec gpt2-paper` lists them with their meanings and
/// defaults.
///
/// Raises DltError with all values that break a rule.
#[pyclass(name = "Agent", module = "dlt_state", frozen)]
pub(crate) struct PyAgent {
    agent: Mutex<Agent>,
    layers: Py<PyAny>,
    /// The keyword arguments that it was built from, so that pickling can build it again.
    arguments: Py<PyDict>,
}

record! {
    /// A decision: which state to enter.
    Decision [] [] {
        /// The whole action vector, raw.
        action: PyAction,
        /// The state that follows from the action by Equation 1.
        state: PyState,
        /// The layer that it was made for; None if it was made for all, or for none.
        layer: Option<usize>,
        /// How it was chosen, if the policy explores.
        exploration: Option<Exploration>,
        /// Whether every layer has had its turn; true if layers do not take turns.
        sweep_ended: bool,
        /// The disagreement that decided a split, if it was measured.
        conflict: Option<f64>,
        /// How unlike the two merged groups were, if it was measured.
        unlikeness: Option<f64>,
        /// What was judged before the decision, if the policy searches.
        searched: Option<Searched>,
    }
}

record! {
    /// What a search did before a decision.
    Searched [] [] {
        /// States that were judged, the present one among them.
        candidates: usize,
        /// Forward passes that this takes with `reward_batches` of them for each state.
        passes: usize,
        /// Loss in the present state, in nats.
        loss_before: f64,
        /// Loss in the state that was chosen, in nats.
        loss_after: f64,
    }
}

record! {
    /// How an epsilon-greedy action was chosen.
    Exploration [] [] {
        /// The exploration probability.
        epsilon: f64,
        /// Whether the action was drawn at random, not chosen by Q.
        explored: bool,
    }
}

record! {
    /// One update of the Q-network, with values computed before it.
    Update [] [] {
        /// `Q(s, a)`: the sum of the chosen values over the decided layers.
        predicted: f64,
        /// `r + gamma * max Q(s', .)`.
        target: f64,
        /// The square of their difference.
        loss: f64,
    }
}

record! {
    /// The evidence that a policy wants before it decides.
    Wants [hash] [Eq, Hash] {
        /// Whether it wants products of gradients.
        products: bool,
        /// Whether it wants distances and norms of weights.
        distances: bool,
    }
}

#[pymethods]
impl PyAgent {
    #[new]
    #[pyo3(signature = (layers, *, recording=None, **settings))]
    fn new(
        py: Python<'_>,
        layers: &Bound<'_, PyAny>,
        recording: Option<&Bound<'_, PyRecording>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut values = settings::arguments(settings)?;
        values.push(("layers".to_owned(), layers.clone()));
        let spec = settings::spec("Agent", &values, key)?;
        let setup = AgentSetup::from(&spec).check().map_err(refused)?;

        let arguments = settings.map_or_else(|| Ok(PyDict::new(py)), |given| given.copy())?;
        let recorded = recording.map(|recording| recording.borrow().0.clone());
        if let Some(recording) = recording {
            // Later decisions that are added to the recording are not the agent's.
            let copy = Bound::new(py, recording.borrow().clone())?;
            arguments.set_item("recording", copy)?;
        }

        let agent = Mutex::new(Agent::new(&setup, recorded.as_ref()).map_err(refused)?);
        Ok(Self { agent, layers: layers.clone().unbind(), arguments: arguments.unbind() })
    }

    /// Number of layers, L.
    #[getter]
    fn n_layers(&self) -> usize {
        self.lock().n_layers()
    }

    /// The state of the last decision that was learned from and not refused.
    #[getter]
    fn current_state(&self) -> PyState {
        PyState(self.lock().current_state().clone())
    }

    /// The raw action of that decision.
    #[getter]
    fn current_action(&self) -> PyAction {
        PyAction(self.lock().current_action().clone())
    }

    /// The decision that waits for its reward; None if there is none.
    #[getter]
    fn pending(&self) -> Option<Decision> {
        self.lock().pending().map(Decision::from)
    }

    /// Whether the pending decision was undone.
    #[getter]
    fn is_refused(&self) -> bool {
        self.lock().is_refused()
    }

    /// The evidence that `decide` needs: nothing, for most policies.
    #[getter]
    fn wants(&self) -> Wants {
        let wants = self.lock().wants();
        Wants { products: wants.products, distances: wants.distances }
    }

    /// Makes the next decision. The agent enters its state only in `learn`.
    ///
    /// turn: "regular", the kind that the argument `decision` names; "split", one group in two; or
    /// "swap", two groups are merged and one is split.
    ///
    /// products: (L, L), inner products of the gradients of the mean loss with respect to the
    /// weights at two positions, as a mean over the steps since the last decision. distances: (L,
    /// L), squared distances between the weights that two layers use. norms: (L,), squared norms of
    /// the weights that each layer uses. Only what the policy `wants` is read.
    ///
    /// judge: for the policies that search, a function of a State. It returns the mean cross-entropy
    /// in nats that the network would have in that state, on the same batches for every state. The
    /// agent does not change while it runs. If it raises, no decision is made.
    ///
    /// Raises DltError before the last decision was learned from, for evidence that is missing, has
    /// another shape or is not finite, for a turn that the policy does not make, and for a search
    /// without a judge.
    #[pyo3(signature = (turn="regular", *, products=None, distances=None, norms=None, judge=None))]
    fn decide(
        &self,
        turn: &str,
        products: Option<Vec<Vec<f64>>>,
        distances: Option<Vec<Vec<f64>>>,
        norms: Option<Vec<f64>>,
        judge: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let turn = match turn {
            "regular" => Turn::Regular,
            "split" => Turn::Split,
            "swap" => Turn::Swap,
            _ => {
                let message =
                    format!("expected \"regular\", \"split\" or \"swap\", got \"{turn}\"");
                return Err(refused(message));
            }
        };

        let n_layers = self.lock().n_layers();
        let given = products.is_some() || distances.is_some() || norms.is_some();
        let evidence = Evidence {
            n_layers,
            products: rows("products", n_layers, products)?,
            distances: rows("distances", n_layers, distances)?,
            norms: norms.unwrap_or_default(),
        };

        let occasion = Occasion { turn, evidence: given.then_some(&evidence) };
        self.decide_by(&occasion, judge)
    }

    /// Marks the pending decision as undone. `learn` still learns from it, but the state stays.
    fn refuse(&self) -> PyResult<()> {
        self.lock().refuse().map_err(refused)
    }

    /// The reward for a measurement, as the argument `reward` of the agent defines it.
    ///
    /// loss: mean cross-entropy, in nats. accuracy: share of right classes, where the reward is an
    /// accuracy. before: the loss before the decision on the same batches, where the reward is a
    /// gain.
    #[pyo3(signature = (loss, accuracy=None, *, before=None))]
    fn reward(&self, loss: f64, accuracy: Option<f64>, before: Option<f64>) -> PyResult<f64> {
        self.lock().reward(Measured { loss, accuracy }, before).map_err(refused)
    }

    /// Learns from the reward of the pending decision, and enters its state unless it was refused.
    /// None if the policy does not learn, or if the reward is for no layer.
    fn learn(&self, reward: f64) -> PyResult<Option<Update>> {
        let update = self.lock().learn(reward).map_err(refused)?;
        Ok(update.map(|update| Update {
            predicted: update.predicted,
            target: update.target,
            loss: update.loss,
        }))
    }

    /// Every Q value in the current state, shape (n_q_values,) in the order of `ActionSpace`. None
    /// without a Q-network.
    fn q_values(&self) -> Option<Vec<f32>> {
        self.lock().q_values()
    }

    /// Everything that changes over a run, as JSON text, for a checkpoint. No bit is lost.
    fn snapshot(&self) -> PyResult<String> {
        serde_json::to_string(&self.lock().snapshot()).map_err(refused)
    }

    /// Continues exactly where the snapshot was made. The agent must be built from the same
    /// arguments. Raises DltError for a snapshot of an agent that was built differently. Nothing
    /// changes then.
    fn restore(&self, snapshot: &str) -> PyResult<()> {
        let snapshot: AgentSnapshot = serde_json::from_str(snapshot).map_err(refused)?;
        self.lock().restore(&snapshot).map_err(refused)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("Agent(layers={}", self.layers.bind(py).repr()?);
        for (name, value) in self.arguments.bind(py) {
            text.push_str(&format!(", {name}={}", value.repr()?));
        }

        Ok(text + ")")
    }

    fn __getnewargs_ex__(&self, py: Python<'_>) -> ((Py<PyAny>,), Py<PyDict>) {
        ((self.layers.clone_ref(py),), self.arguments.clone_ref(py))
    }

    fn __getstate__(&self) -> PyResult<String> {
        self.snapshot()
    }

    fn __setstate__(&self, snapshot: &str) -> PyResult<()> {
        self.restore(snapshot)
    }
}

impl PyAgent {
    /// The agent. Its methods change nothing before they can fail, so one that panicked left it as
    /// it was.
    fn lock(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a decision whose candidates `judge` judges.
    ///
    /// No lock is held while `judge` runs, because it may use the agent. So a search ends at the
    /// first state without a loss, and is made again once there is one. A search that fails changes
    /// nothing, so each of them takes the same way.
    fn decide_by(
        &self,
        occasion: &Occasion<'_>,
        judge: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let mut losses: BTreeMap<State, f64> = BTreeMap::new();
        loop {
            let mut asked = None;
            let mut known = |candidate: &State| {
                losses.get(candidate).copied().ok_or_else(|| {
                    asked = Some(candidate.clone());
                    AgentError::NotJudged
                })
            };

            let made = self.lock().decide_by(occasion, &mut known);
            let Some(candidate) = asked else {
                return made.map(|made| Decision::from(&made)).map_err(refused);
            };

            let judge = judge.ok_or_else(|| refused(AgentError::NoJudge))?;
            let loss = judge.call1((PyState(candidate.clone()),))?.extract()?;
            losses.insert(candidate, loss);
        }
    }
}

/// The key of a spec that an argument sets.
fn key(name: &str) -> String {
    match name {
        "seed" => name.to_owned(),
        "layers" => "model.layers".to_owned(),
        "initial" | "decision" | "exempt" | "state_vector" => format!("tying.{name}"),
        _ => format!("agent.{name}"),
    }
}

/// A square matrix row by row; empty if there is none.
fn rows(name: &str, n_layers: usize, matrix: Option<Vec<Vec<f64>>>) -> PyResult<Vec<f64>> {
    let matrix = matrix.unwrap_or_default();
    match matrix.iter().find(|row| row.len() != n_layers) {
        Some(row) => Err(refused(format!(
            "{name}: expected rows of {n_layers} numbers, got one of {}",
            row.len()
        ))),
        None => Ok(matrix.concat()),
    }
}

impl From<&dlt_agent::Decision> for Decision {
    fn from(decision: &dlt_agent::Decision) -> Self {
        Self {
            action: PyAction(decision.action.clone()),
            state: PyState(decision.state.clone()),
            layer: match decision.visit {
                Visit::Layer(layer) => Some(layer),
                Visit::All | Visit::Nothing => None,
            },
            exploration: decision.exploration.map(|exploration| Exploration {
                epsilon: exploration.epsilon,
                explored: exploration.explored,
            }),
            sweep_ended: decision.sweep_ended,
            conflict: decision.conflict,
            unlikeness: decision.unlikeness,
            searched: decision.searched.map(|searched| Searched {
                candidates: searched.candidates,
                passes: searched.passes,
                loss_before: searched.loss_before,
                loss_after: searched.loss_after,
            }),
        }
    }
}
