//! The agent: it decides, keeps the current action and state, and learns from rewards.

use crate::error::{AgentError, grouping, same_depth};
use crate::exact;
use crate::experience::Experience;
use crate::learner::{Update, finite};
use crate::occasion::{Occasion, Wants};
use crate::policy::{
    self, Choice, Exploration, Judge, NoJudge, Policy, PolicySnapshot, Searched, Situation, Visit,
};
use crate::reward::{Measured, Rewarder};
use dlt_spec::CheckedAgent;
use dlt_spec::spec::{Credit, Decision as Coverage, Reward, StateVector};
use dlt_state::{Action, Exempt, Recording, State};
use serde::{Deserialize, Serialize};

/// Decides which layers are tied. [`Agent::decide`] and [`Agent::learn`] alternate, with any amount
/// of training between them (DEVIATIONS row 18).
///
/// ```
/// # fn example(agent: &mut dlt_agent::Agent) -> Result<(), dlt_agent::AgentError> {
/// let occasion = dlt_agent::Occasion { turn: dlt_agent::Turn::Regular, evidence: None };
/// let decision = agent.decide(&occasion)?;
/// // The model enters decision.state here, and its mean cross-entropy is measured: 4.2, say.
/// let reward = agent.reward(dlt_agent::Measured::of_loss(4.2), None)?;
/// let update = agent.learn(reward)?;
/// assert_eq!(agent.current_state(), &decision.state);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Agent {
    policy: Box<dyn Policy>,
    rewarder: Rewarder,
    vector: StateVector,
    coverage: Coverage,
    exempt: Exempt,
    credit: Credit,
    action: Action,
    state: State,
    /// The layer whose turn it is; `None` if decisions are not per layer, or if no layer has a
    /// choice.
    turn: Option<usize>,
    pending: Option<Decision>,
    /// Whether the pending decision was undone.
    refused: bool,
}

/// A decision: which state to enter.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The whole action vector, raw.
    pub action: Action,
    /// The state that follows from the action by Eq. 1.
    pub state: State,
    /// The layers that it was made for.
    pub visit: Visit,
    /// How it was chosen, if the policy explores.
    pub exploration: Option<Exploration>,
    /// Whether every layer has now had its turn; always true if layers do not take turns.
    pub sweep_ended: bool,
    /// The disagreement that decided a split, if it was measured.
    pub conflict: Option<f64>,
    /// How unlike the two merged groups were, if it was measured; 0 if they were equal.
    pub unlikeness: Option<f64>,
    /// What was judged before the decision, if the policy searches.
    pub searched: Option<Searched>,
}

/// Everything in an agent that changes over a run. Written as text and read again, it is the same
/// bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSnapshot {
    /// The current action; the state follows from it.
    pub action: Vec<usize>,
    /// The layer whose turn is next, if layers take turns.
    pub turn: Option<usize>,
    /// The decision that has not been rewarded yet.
    pub pending: Option<PendingSnapshot>,
    /// The kind of reward and the loss it remembers.
    pub rewarder: Rewarder,
    /// The policy's part.
    pub policy: PolicySnapshot,
}

/// A decision that has not been rewarded yet; its state follows from its action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingSnapshot {
    /// The whole action vector.
    pub action: Vec<usize>,
    /// The layers that it was made for.
    pub visit: Visit,
    /// How it was chosen, if the policy explores.
    pub exploration: Option<Exploration>,
    /// Whether every layer has had its turn.
    pub sweep_ended: bool,
    /// The disagreement that decided a split.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "exact::f64_option")]
    pub conflict: Option<f64>,
    /// How unlike the two merged groups were.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "exact::f64_option")]
    pub unlikeness: Option<f64>,
    /// What was judged before the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<Searched>,
    /// Whether the decision was undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

impl Agent {
    /// The agent of a checked setup. It starts in `tying.initial`. Its draws use the streams
    /// `q-network`, `policy`, `replay-memory` and `permutation` of the root seed. `recording` holds
    /// the decisions that `agent.recording` names; only the policies that replay need it.
    ///
    /// # Errors
    /// Only of a policy that replays. [`AgentError::Recording`] for a recording that is missing or
    /// empty, [`AgentError::Depth`] for one of another depth. [`AgentError::OtherChoice`] if a row
    /// for one layer changes the choice of another.
    pub fn new(setup: &CheckedAgent, recording: Option<&Recording>) -> Result<Self, AgentError> {
        let policy = policy::of_setup(setup, recording)?;
        let agent =
            Self::with_policy(policy, setup.agent.reward, setup.decision, setup.initial_state());
        Ok(agent.sparing(setup.exempt()).seeing(setup.state_vector).crediting(setup.agent.credit))
    }

    /// An agent that starts in state `initial`, chooses by `policy`, and makes decisions that cover
    /// what `coverage` says. Its policy sees the state, and a reward is for all decided layers.
    #[must_use]
    pub fn with_policy(
        policy: Box<dyn Policy>,
        reward: Reward,
        coverage: Coverage,
        initial: State,
    ) -> Self {
        // Layer 0 never has a choice, so the turns start at layer 1 and need two layers.
        let turn = match coverage {
            Coverage::PerLayer if initial.n_layers() > 1 => Some(1),
            Coverage::PerLayer
            | Coverage::Joint
            | Coverage::Split
            | Coverage::Swap
            | Coverage::Single => None,
        };

        Self {
            policy,
            rewarder: Rewarder::new(reward),
            vector: StateVector::Canonical,
            coverage,
            exempt: Exempt::none(initial.n_layers()),
            credit: Credit::All,
            action: initial.as_action().clone(),
            state: initial,
            turn,
            pending: None,
            refused: false,
        }
    }

    /// Sets the layers that no tie may touch (DEVIATIONS row 52). They have no turn, and an action of
    /// the policy that touches them is mapped by [`Exempt::spare`]. An agent that spares them already
    /// stays as it is.
    ///
    /// # Panics
    ///
    /// If the agent decides for another number of layers.
    #[must_use]
    pub fn sparing(self, exempt: Exempt) -> Self {
        if self.exempt == exempt {
            return self;
        }

        let turn = self.turn.and_then(|_| exempt.deciding().first().copied());
        let state = exempt.spare_state(&self.state);
        Self { turn, action: state.as_action().clone(), state, exempt, ..self }
    }

    /// Sets what the policy sees of the current state (DEVIATIONS row 17).
    #[must_use]
    pub fn seeing(self, vector: StateVector) -> Self {
        Self { vector, ..self }
    }

    /// Sets which layers a reward is for (DEVIATIONS row 47).
    #[must_use]
    pub fn crediting(self, credit: Credit) -> Self {
        Self { credit, ..self }
    }

    /// The evidence that the policy wants before it decides.
    #[must_use]
    pub fn wants(&self) -> Wants {
        self.policy.wants()
    }

    /// Makes the next decision. The agent enters its state only in [`learn`](Self::learn).
    ///
    /// # Errors
    /// [`AgentError::DecisionPending`] if the agent has not learned from the last decision,
    /// [`AgentError::Mismatch`] and [`AgentError::NotFinite`] for evidence that does not fit,
    /// [`AgentError::NoJudge`] if the policy searches, and the errors of the policy.
    pub fn decide(&mut self, occasion: &Occasion<'_>) -> Result<Decision, AgentError> {
        self.decide_by(occasion, &mut NoJudge)
    }

    /// As [`decide`](Self::decide), with a judge for policies that search.
    ///
    /// # Errors
    /// As [`decide`](Self::decide), and those of the judge. The policy is unchanged then.
    pub fn decide_by(
        &mut self,
        occasion: &Occasion<'_>,
        judge: &mut dyn Judge,
    ) -> Result<Decision, AgentError> {
        if self.pending.is_some() {
            return Err(AgentError::DecisionPending);
        }

        if let Some(evidence) = occasion.evidence {
            same_depth("the evidence", self.n_layers(), evidence.n_layers)?;
            evidence.check(self.policy.wants(), self.n_layers())?;
        }

        let visit = self.turn.map_or(Visit::All, Visit::Layer);
        let vector = state_vector(self.vector, &self.action, &self.state);
        let situation = Situation {
            vector,
            action: &self.action,
            state: &self.state,
            visit,
            exempt: &self.exempt,
            decision: self.coverage,
            turn: occasion.turn,
            evidence: occasion.evidence,
        };

        let choice = self.policy.search(&situation, judge)?;
        let Choice { action, visit, exploration, conflict, unlikeness, searched } = choice;
        same_depth("the policy's action", self.n_layers(), action.n_layers())?;
        let action = self.exempt.spare(&action);

        // The policy may narrow the visit (`Visit::Layer`, `Visit::Nothing`); only the layers in it
        // learn from the reward.
        let decision = Decision {
            state: State::from_action(&action),
            action,
            visit,
            exploration,
            sweep_ended: self.turn.is_none_or(|layer| self.turn_after(layer).is_none()),
            conflict,
            unlikeness,
            searched,
        };

        self.pending = Some(decision.clone());
        Ok(decision)
    }

    /// Marks the pending decision as undone. [`Agent::learn`] still learns from its action and
    /// reward, but with the old state as the one it led to. Action and state stay.
    ///
    /// # Errors
    /// [`AgentError::NoDecision`] without a pending decision.
    pub fn refuse(&mut self) -> Result<(), AgentError> {
        self.refused = self.pending.as_ref().map(|_| true).ok_or(AgentError::NoDecision)?;
        Ok(())
    }

    /// Whether the pending decision was undone.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The reward for a measurement, as the spec defines it; see [`Rewarder::reward`].
    ///
    /// # Errors
    /// As [`Rewarder::reward`].
    pub fn reward(&mut self, measured: Measured, before: Option<f64>) -> Result<f64, AgentError> {
        self.rewarder.reward(measured, before)
    }

    /// Learns from the reward of the pending decision, and enters its state unless it was refused.
    /// `None` if the policy does not learn, or if the reward is for no layer.
    ///
    /// # Errors
    /// [`AgentError::NoDecision`] without a pending decision, [`AgentError::NotFinite`] if the
    /// reward or the Q-network's loss is not finite. Nothing changes then.
    pub fn learn(&mut self, reward: f64) -> Result<Option<Update>, AgentError> {
        let decision = self.pending.as_ref().ok_or(AgentError::NoDecision)?;
        finite("the reward", reward)?;

        // A refused decision led back to where it was made, so its target is that state's value.
        let after = if self.refused {
            (&self.action, &self.state)
        } else {
            (&decision.action, &decision.state)
        };

        let layers = self.credited(decision);
        let experience = Experience {
            before: state_vector(self.vector, &self.action, &self.state),
            action: decision.action.values(),
            layers: &layers,
            reward,
            after: state_vector(self.vector, after.0, after.1),
        };

        // Before anything changes: if the policy fails here, the decision is still pending and the
        // agent is as before.
        let update = self.policy.learn(&experience, decision.sweep_ended)?;
        if let Some(decision) = self.pending.take() {
            // A turn is used up by a refused decision too; otherwise the same layer would be asked
            // until it is accepted.
            self.turn = self.turn.and_then(|layer| {
                let first = self.exempt.deciding().first().copied();
                if decision.sweep_ended { first } else { self.turn_after(layer) }
            });
            if !std::mem::take(&mut self.refused) {
                self.action = decision.action;
                self.state = decision.state;
            }
        }

        Ok(update)
    }

    /// The current state: that of the last decision that was learned from and not refused.
    #[must_use]
    pub fn current_state(&self) -> &State {
        &self.state
    }

    /// The current raw action.
    #[must_use]
    pub fn current_action(&self) -> &Action {
        &self.action
    }

    /// The decision that waits for its reward, if there is one.
    #[must_use]
    pub fn pending(&self) -> Option<&Decision> {
        self.pending.as_ref()
    }

    /// Number of layers, L.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.state.n_layers()
    }

    /// Every Q value in the current state, if there is a Q-network; see [`crate::QLayout::slice`]
    /// for their order.
    #[must_use]
    pub fn q_values(&self) -> Option<Vec<f32>> {
        self.policy.q_values(state_vector(self.vector, &self.action, &self.state))
    }

    /// Everything that changes over a run, for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> AgentSnapshot {
        let pending = self.pending.as_ref().map(|decision| PendingSnapshot {
            action: decision.action.values().to_vec(),
            visit: decision.visit,
            exploration: decision.exploration,
            sweep_ended: decision.sweep_ended,
            conflict: decision.conflict,
            unlikeness: decision.unlikeness,
            searched: decision.searched,
            refused: self.refused,
        });

        AgentSnapshot {
            action: self.action.values().to_vec(),
            turn: self.turn,
            pending,
            rewarder: self.rewarder,
            policy: self.policy.snapshot(),
        }
    }

    /// Continues exactly where the snapshot was made. The agent must be built from the same spec.
    ///
    /// # Errors
    /// [`AgentError::Depth`], [`AgentError::Grouping`] or [`AgentError::Mismatch`] if the snapshot
    /// is of an agent that was built differently. Nothing changes then.
    pub fn restore(&mut self, snapshot: &AgentSnapshot) -> Result<(), AgentError> {
        let action = self.saved_action(&snapshot.action)?;
        let pending =
            snapshot.pending.as_ref().map(|pending| self.saved_decision(pending)).transpose()?;
        let turn_fits = match (self.turn, snapshot.turn) {
            (None, None) => true,
            (Some(_), Some(layer)) => self.exempt.deciding().contains(&layer),
            _ => false,
        };

        if !turn_fits || self.rewarder.kind() != snapshot.rewarder.kind() {
            return Err(AgentError::Mismatch {
                place: "turn and reward of the snapshot",
                expected: format!("one like {:?} and {:?}", self.turn, self.rewarder.kind()),
                got: format!("{:?} and {:?}", snapshot.turn, snapshot.rewarder.kind()),
            });
        }

        // The last check that can fail. Everything after it only assigns, so a refused snapshot
        // changes nothing.
        self.policy.restore(&snapshot.policy)?;
        self.state = State::from_action(&action);
        self.action = action;
        self.turn = snapshot.turn;
        self.refused = snapshot.pending.as_ref().is_some_and(|pending| pending.refused);
        self.pending = pending;
        self.rewarder = snapshot.rewarder;

        Ok(())
    }

    /// The next layer with a choice; `None` after the last.
    fn turn_after(&self, layer: usize) -> Option<usize> {
        self.exempt.deciding().into_iter().find(|&other| other > layer)
    }

    /// The decided layers whose values learn from the reward of `decision`. A refused decision
    /// counts as if it had changed the owners that it asked to change.
    fn credited(&self, decision: &Decision) -> Vec<usize> {
        let changed = |layer: &usize| self.state.owner(*layer) != decision.state.owner(*layer);
        let decided = decision.visit.layers(self.n_layers());
        let is_free = |layer: &usize| !self.exempt.has(*layer);
        decided
            .filter(is_free)
            .filter(|layer| self.credit == Credit::All || changed(layer))
            .collect()
    }

    fn saved_action(&self, entries: &[usize]) -> Result<Action, AgentError> {
        same_depth("the action of the snapshot", self.n_layers(), entries.len())?;
        Action::new(entries.to_vec()).map_err(grouping("the action of the snapshot"))
    }

    /// The pending decision of a snapshot. A file can hold anything, so its visit is checked: a
    /// layer beyond the last one would be an index out of range.
    fn saved_decision(&self, saved: &PendingSnapshot) -> Result<Decision, AgentError> {
        let action = self.saved_action(&saved.action)?;
        if saved.visit.layers(self.n_layers()).end > self.n_layers() {
            return Err(AgentError::Mismatch {
                place: "layer that the pending decision visits",
                expected: format!("below {}", self.n_layers()),
                got: format!("{:?}", saved.visit),
            });
        }

        Ok(Decision {
            state: State::from_action(&action),
            action,
            visit: saved.visit,
            exploration: saved.exploration,
            sweep_ended: saved.sweep_ended,
            conflict: saved.conflict,
            unlikeness: saved.unlikeness,
            searched: saved.searched,
        })
    }
}

/// The state vector, L entries: the state, or the raw action (DEVIATIONS row 17).
fn state_vector<'a>(kind: StateVector, action: &'a Action, state: &'a State) -> &'a [usize] {
    match kind {
        StateVector::Canonical => state.owners(),
        StateVector::Raw => action.values(),
    }
}
