//! Policies: the learned one, and those that it is compared with.

mod conflict;
mod fixed;
mod grow;
mod q;
mod random;
mod replay;
mod search;

pub use conflict::ConflictPolicy;
pub use fixed::{FixedPolicy, NoPolicy};
pub use grow::{EvenPolicy, GrowPolicy};
pub use q::{Exploration, ExplorationSettings, QPolicy, QSnapshot};
pub(crate) use random::Draws;
pub use random::RandomPolicy;
pub use replay::{ReplayPolicy, replay_permutation};
pub(crate) use search::NoJudge;
pub use search::{Judge, SearchPolicy, SearchSettings, Searched, Strategy};

use crate::error::AgentError;
use crate::experience::Experience;
use crate::learner::Update;
use crate::occasion::{Evidence, Turn, Wants};
use dlt_spec::spec::{Decision, PolicyKind};
use dlt_spec::{CheckedAgent, seeds};
use dlt_state::{Action, Exempt, Recording, State};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Chooses actions, and may learn from their rewards. It sees states, rewards and the evidence that
/// it wants, never a model.
///
/// The policies of this crate: epsilon-greedy under a Q-network ([`QPolicy`]), uniform
/// ([`RandomPolicy`]), one fixed pattern ([`FixedPolicy`]), a recording, plain or permuted
/// ([`ReplayPolicy`]), or no change at all ([`NoPolicy`]). Others split groups where gradients
/// disagree ([`GrowPolicy`]) or in their middle ([`EvenPolicy`]), or split and merge at a constant
/// number of groups ([`ConflictPolicy`]). [`SearchPolicy`] judges states before it enters one.
pub trait Policy: std::fmt::Debug + Send {
    /// The evidence that the policy wants before it decides: none by default.
    fn wants(&self) -> Wants {
        Wants::default()
    }

    /// The next action.
    ///
    /// # Errors
    /// Any reason why the policy cannot choose.
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError>;

    /// The next action of a policy that has candidates judged before it chooses. By default nothing
    /// is judged, and the policy [chooses](Self::choose).
    ///
    /// # Errors
    /// As [`choose`](Self::choose), and those of the judge.
    fn search(
        &mut self,
        situation: &Situation<'_>,
        _judge: &mut dyn Judge,
    ) -> Result<Choice, AgentError> {
        self.choose(situation)
    }

    /// Learns from the reward of the last choice. `sweep_ended` says whether every layer has had
    /// its turn. By default it learns nothing.
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] if a number leaves the range of f32. The policy is unchanged then.
    fn learn(
        &mut self,
        _experience: &Experience<'_>,
        _sweep_ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        Ok(None)
    }

    /// Every Q value for a state vector, if the policy has a Q-network; see
    /// [`crate::QLayout::slice`] for their order.
    fn q_values(&self, _vector: &[usize]) -> Option<Vec<f32>> {
        None
    }

    /// Everything that changes over a run.
    fn snapshot(&self) -> PolicySnapshot;

    /// Continues where the snapshot was made. This default is for policies that never change: each
    /// of their snapshots equals the present one.
    ///
    /// # Errors
    /// [`AgentError::Mismatch`] if the snapshot is of another policy. The policy is unchanged then.
    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        let own = self.snapshot();
        if *snapshot == own { Ok(()) } else { Err(snapshot.mismatch(own.name())) }
    }
}

/// The policy that a setup names. `recording` is for those that replay.
///
/// # Errors
/// [`AgentError::Recording`] if a recording is missing, and the errors of [`ReplayPolicy`].
pub(crate) fn of_setup(
    setup: &CheckedAgent,
    recording: Option<&Recording>,
) -> Result<Box<dyn Policy>, AgentError> {
    let recording = || recording.ok_or(AgentError::Recording { reason: "none is given" });

    let search = |strategy| Box::new(SearchPolicy::of_setup(setup, strategy));

    // Each purpose draws from a named stream of the root seed.
    Ok(match setup.agent.policy {
        PolicyKind::None => Box::new(NoPolicy),
        PolicyKind::Q => Box::new(QPolicy::of_setup(setup)),
        PolicyKind::Random => Box::new(RandomPolicy::new(seeds::stream(setup.seed, "policy"))),
        PolicyKind::Fixed => Box::new(FixedPolicy::new(setup.pattern())),
        PolicyKind::Replay => Box::new(ReplayPolicy::new(recording()?, &setup.initial_state())?),
        PolicyKind::PermutedReplay => {
            let permutation = replay_permutation(setup);
            Box::new(ReplayPolicy::permuted(recording()?, &permutation, setup.layers)?)
        }
        PolicyKind::Grow => Box::new(GrowPolicy),
        PolicyKind::Conflict => Box::new(ConflictPolicy),
        PolicyKind::Even => Box::new(EvenPolicy),
        PolicyKind::Backtrack => search(Strategy::Backtrack),
        PolicyKind::Beam => search(Strategy::Beam),
        PolicyKind::Mcts => search(Strategy::Mcts),
        PolicyKind::RandomSearch => search(Strategy::RandomSearch),
    })
}

/// Which layers a decision covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visit {
    /// Every layer.
    All,
    /// This layer; the others keep their choice.
    Layer(usize),
    /// No layer: nothing is decided.
    Nothing,
}

impl Visit {
    /// The covered layers among `n_layers` that have a choice. Layer 0 never has one.
    #[must_use]
    pub fn layers(self, n_layers: usize) -> Range<usize> {
        match self {
            Self::All => 1..n_layers,
            Self::Layer(layer) => layer..layer + 1,
            Self::Nothing => 0..0,
        }
    }
}

/// What a policy sees when it decides.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The state vector, L entries: the state, or the raw action (DEVIATIONS row 17).
    pub vector: &'a [usize],
    /// The current action vector.
    pub action: &'a Action,
    /// The current state.
    pub state: &'a State,
    /// The layers whose turn it is.
    pub visit: Visit,
    /// Layers that no tie may touch. The agent maps any action to one that spares them.
    pub exempt: &'a Exempt,
    /// Which layers a regular decision covers.
    pub decision: Decision,
    /// The kind of the decision.
    pub turn: Turn,
    /// Evidence about gradients and weights, if there is any.
    pub evidence: Option<&'a Evidence>,
}

impl<'a> Situation<'a> {
    /// The evidence, for a policy that cannot decide without it. `quantity` names what it needs,
    /// for the error.
    pub(crate) fn evidence_for(
        &self,
        policy: &'static str,
        quantity: &'static str,
    ) -> Result<&'a Evidence, AgentError> {
        self.evidence.ok_or(AgentError::NoEvidence { policy, quantity })
    }

    /// The current action with a new entry for each layer whose turn it is and which is not exempt, in
    /// rising order.
    pub(crate) fn replace(
        &self,
        mut entry: impl FnMut(usize) -> usize,
    ) -> Result<Action, dlt_state::StateError> {
        let mut action = self.action.clone();
        for layer in self.visit.layers(action.n_layers()).filter(|&layer| !self.exempt.has(layer)) {
            action.replace(layer, entry(layer))?;
        }
        Ok(action)
    }
}

/// The choice of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The whole action vector.
    pub action: Action,
    /// The layers that it was chosen for.
    pub visit: Visit,
    /// How it was chosen, if the policy explores.
    pub exploration: Option<Exploration>,
    /// The disagreement that decided a split, if it was measured.
    pub conflict: Option<f64>,
    /// How unlike the two merged groups are, if it was measured.
    pub unlikeness: Option<f64>,
    /// What was judged before the choice, if the policy searches.
    pub searched: Option<Searched>,
}

impl Choice {
    /// A choice for which nothing was explored or measured.
    #[must_use]
    pub fn new(action: Action, visit: Visit) -> Self {
        let (exploration, searched) = (None, None);
        Self { action, visit, exploration, conflict: None, unlikeness: None, searched }
    }

    /// The current action, chosen for no layer: nothing changes and nothing learns.
    pub(crate) fn nothing(situation: &Situation<'_>) -> Self {
        Self::new(situation.action.clone(), Visit::Nothing)
    }
}

/// The changing part of a policy, for checkpoints. Written as text and read again, it is the same
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
        /// Number of rows of the recording that were used.
        position: usize,
    },
    /// [`SearchPolicy`].
    Search {
        /// Its order of candidates.
        strategy: Strategy,
        /// Its random stream.
        rng: Box<ChaCha8Rng>,
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
            Self::Search { strategy, .. } => strategy.name(),
        }
    }

    /// The error for restoring this snapshot into policy `expected`.
    fn mismatch(&self, expected: &'static str) -> AgentError {
        AgentError::Mismatch {
            place: "policy of the snapshot",
            expected: expected.to_owned(),
            got: self.name().to_owned(),
        }
    }
}
