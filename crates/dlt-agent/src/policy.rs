//! Who decides: the learned policy and those that it is compared with.

mod conflict;
mod fixed;
mod grow;
mod q;
mod random;
mod replay;

pub use conflict::ConflictPolicy;
pub use fixed::{FixedPolicy, NoPolicy};
pub use grow::{EvenPolicy, GrowPolicy};
pub use q::{Exploration, ExplorationSettings, QPolicy, QSnapshot};
pub use random::RandomPolicy;
pub use replay::ReplayPolicy;
pub(crate) use replay::draw_permutation;

use crate::error::AgentError;
use crate::experience::Experience;
use crate::learner::Update;
use crate::occasion::{Evidence, Turn, Wants};
use dlt_spec::spec::Decision;
use dlt_state::{Action, State};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Chooses actions, and may learn from their rewards. It sees states, rewards and what it wants to
/// know, never a model.
pub trait Policy: std::fmt::Debug + Send {
    /// What the policy wants to know before it decides: nothing, unless it says so.
    fn wants(&self) -> Wants {
        Wants::default()
    }

    /// The next action.
    ///
    /// # Errors
    /// Whatever keeps the policy from choosing.
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError>;

    /// Learns from the reward of the last choice. `sweep_ended` says that every layer has had its
    /// turn.
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] where a number left the range of f32; the policy is unchanged
    /// then.
    fn learn(
        &mut self,
        _experience: &Experience<'_>,
        _sweep_ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        Ok(None)
    }

    /// Every Q value for a state vector, where the policy has a Q-network; see
    /// [`crate::QLayout::slice`].
    fn q_values(&self, _vector: &[usize]) -> Option<Vec<f32>> {
        None
    }

    /// All that changes over a run.
    fn snapshot(&self) -> PolicySnapshot;

    /// Goes on where the snapshot was taken. As it stands here it is for policies that nothing
    /// changes: any of their snapshots is the present one.
    ///
    /// # Errors
    /// [`AgentError::Mismatch`] where the snapshot is another policy's; the policy is unchanged
    /// then.
    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        let own = self.snapshot();
        if *snapshot == own { Ok(()) } else { Err(snapshot.mismatch(own.name())) }
    }
}

/// Which layers a decision covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visit {
    /// Every layer.
    All,
    /// This one; the others keep their choice.
    Layer(usize),
    /// None: nobody decides.
    Nothing,
}

impl Visit {
    /// The covered layers among `n_layers` that have a choice. Layer 0 never has.
    #[must_use]
    pub fn layers(self, n_layers: usize) -> Range<usize> {
        match self {
            Self::All => 1..n_layers,
            Self::Layer(layer) => layer..layer + 1,
            Self::Nothing => 0..0,
        }
    }
}

/// What a policy decides upon.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The state vector: the state, or the raw action (row 17).
    pub vector: &'a [usize],
    /// The whole action vector in force.
    pub action: &'a Action,
    /// The state in force.
    pub state: &'a State,
    /// The layers whose turn it is.
    pub visit: Visit,
    /// What a regular decision covers.
    pub decision: Decision,
    /// What is to be decided.
    pub turn: Turn,
    /// What is known of gradients and weights.
    pub evidence: Option<&'a Evidence>,
}

impl<'a> Situation<'a> {
    /// What is known of gradients and weights, for a policy that cannot do without.
    pub(crate) fn evidence_for(
        &self,
        policy: &'static str,
        quantity: &'static str,
    ) -> Result<&'a Evidence, AgentError> {
        self.evidence.ok_or(AgentError::NoEvidence { policy, quantity })
    }

    /// The action in force with a new entry for each layer whose turn it is.
    pub(crate) fn replace(
        &self,
        mut entry: impl FnMut(usize) -> usize,
    ) -> Result<Action, dlt_state::StateError> {
        let mut action = self.action.clone();
        for layer in self.visit.layers(action.n_layers()) {
            action.replace(layer, entry(layer))?;
        }
        Ok(action)
    }
}

/// What a policy chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The whole action vector.
    pub action: Action,
    /// The layers that it was chosen for.
    pub visit: Visit,
    /// How it came about, where the policy explores.
    pub exploration: Option<Exploration>,
    /// The disagreement that decided a split, where it was measured.
    pub conflict: Option<f64>,
    /// How unlike the two groups are that become one, where it was measured.
    pub unlikeness: Option<f64>,
}

impl Choice {
    /// An action for which nothing was explored or measured.
    #[must_use]
    pub fn new(action: Action, visit: Visit) -> Self {
        Self { action, visit, exploration: None, conflict: None, unlikeness: None }
    }

    /// The action in force, chosen for no layer.
    pub(crate) fn nothing(situation: &Situation<'_>) -> Self {
        Self::new(situation.action.clone(), Visit::Nothing)
    }
}

/// The changing part of a policy, for checkpoints. Written as text and read again it is the same
/// bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PolicySnapshot {
    /// [`NoPolicy`].
    None,
    /// [`QPolicy`].
    Q(Box<QSnapshot>),
    /// [`RandomPolicy`].
    Random {
        /// Its random stream.
        rng: Box<ChaCha8Rng>,
    },
    /// [`FixedPolicy`].
    Fixed,
    /// [`GrowPolicy`].
    Grow,
    /// [`EvenPolicy`].
    Even,
    /// [`ConflictPolicy`].
    Conflict,
    /// [`ReplayPolicy`].
    Replay {
        /// Rows of the recording that have been used.
        position: usize,
    },
}

impl PolicySnapshot {
    fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Q(_) => "q",
            Self::Random { .. } => "random",
            Self::Fixed => "fixed",
            Self::Grow => "grow",
            Self::Even => "even",
            Self::Conflict => "conflict",
            Self::Replay { .. } => "replay",
        }
    }

    /// The error of restoring this snapshot onto policy `expected`.
    fn mismatch(&self, expected: &'static str) -> AgentError {
        AgentError::Mismatch {
            place: "policy of the snapshot",
            expected: expected.to_owned(),
            got: self.name().to_owned(),
        }
    }
}
