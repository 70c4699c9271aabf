//! The agent that a spec describes.

use crate::agent::Agent;
use crate::error::{AgentError, grouping, same_depth};
use crate::experience::ReplayMemory;
use crate::layout::QLayout;
use crate::learner::{LearnerSettings, QLearner};
use crate::network::QNetwork;
use crate::policy::{
    ConflictPolicy, Draws, EvenPolicy, ExplorationSettings, FixedPolicy, GrowPolicy, NoPolicy,
    Policy, QPolicy, RandomPolicy, ReplayPolicy,
};
use dlt_spec::seeds;
use dlt_spec::spec::{AgentSpec, Initial, InitialName, PolicyKind, TyingSpec};
use dlt_state::{Recording, State, pattern, random_permutation};

impl Agent {
    /// The agent that a spec describes, for a model of `n_layers` layers. It starts in
    /// `tying.initial`. Its draws use the streams `q-network`, `policy`, `replay-memory` and
    /// `permutation` of root seed `seed`. `recording` holds the decisions that `agent.recording`
    /// names; only the policies that replay need it.
    ///
    /// # Errors
    /// [`AgentError::Setting`] for a number outside its range, [`AgentError::Grouping`] or
    /// [`AgentError::Depth`] for groupings, recordings and permutations that do not fit `n_layers`,
    /// and [`AgentError::Recording`] or [`AgentError::OtherChoice`] for a recording that is missing
    /// or cannot be replayed.
    pub fn new(
        spec: &AgentSpec,
        tying: &TyingSpec,
        n_layers: usize,
        seed: u64,
        recording: Option<&Recording>,
    ) -> Result<Self, AgentError> {
        let initial = grouping_state(&tying.initial, n_layers)?;
        let recording = || recording.ok_or(AgentError::Recording { reason: "none is given" });

        let policy: Box<dyn Policy> = match spec.policy {
            PolicyKind::None => Box::new(NoPolicy),
            PolicyKind::Q => Box::new(q_policy(spec, n_layers, seed)?),
            PolicyKind::Random => Box::new(RandomPolicy::new(seeds::stream(seed, "policy"))),
            PolicyKind::Fixed => {
                Box::new(FixedPolicy::new(grouping_state(&spec.pattern, n_layers)?))
            }
            PolicyKind::Replay => Box::new(ReplayPolicy::new(recording()?, &initial)?),
            PolicyKind::PermutedReplay => {
                let permutation = replay_permutation(spec, n_layers, seed);
                Box::new(ReplayPolicy::permuted(recording()?, &permutation, n_layers)?)
            }
            PolicyKind::Grow => Box::new(GrowPolicy),
            PolicyKind::Conflict => Box::new(ConflictPolicy),
            PolicyKind::Even => Box::new(EvenPolicy),
        };

        let agent = Self::with_policy(policy, spec.reward, tying, initial);
        Ok(agent.crediting(spec.credit))
    }
}

/// The state that a grouping of the spec means for `n_layers` layers. For `frozen` and `trainable`
/// it is the state in which all layers are tied: whether weights train is not part of a state.
///
/// # Errors
/// [`AgentError::Grouping`] if the owners are not a valid state, [`AgentError::Depth`] if their
/// number is not `n_layers`, [`AgentError::Setting`] for a depth of 0.
pub fn grouping_state(grouping_spec: &Initial, n_layers: usize) -> Result<State, AgentError> {
    in_range("model.layers", n_layers as f64, "at least 1", n_layers >= 1)?;

    Ok(match grouping_spec {
        Initial::Owners(owners) => {
            same_depth("the owners in the spec", n_layers, owners.len())?;
            State::new(owners.clone()).map_err(grouping("the owners in the spec"))?
        }
        Initial::Named(InitialName::Frozen | InitialName::Trainable | InitialName::Tied) => {
            State::all_tied(n_layers)
        }
        Initial::Named(InitialName::Independent) => State::independent(n_layers),
        Initial::Named(InitialName::Cycle) => pattern::cycle(n_layers),
        Initial::Named(InitialName::CycleReversed) => pattern::cycle_reversed(n_layers),
        Initial::Named(InitialName::CycleReversedAsWritten) => {
            pattern::cycle_reversed_as_written(n_layers)
        }
        Initial::Named(InitialName::Sequence) => pattern::sequence(n_layers),
    })
}

/// The permutation of `permuted-replay`: that of the spec, or if it is empty, a uniform one from
/// the stream `permutation` of root seed `seed`.
#[must_use]
pub fn replay_permutation(spec: &AgentSpec, n_layers: usize, seed: u64) -> Vec<usize> {
    if spec.permutation.is_empty() {
        random_permutation(n_layers, &mut Draws(&mut seeds::stream(seed, "permutation")))
    } else {
        spec.permutation.clone()
    }
}

fn q_policy(spec: &AgentSpec, n_layers: usize, seed: u64) -> Result<QPolicy, AgentError> {
    check_settings(spec)?;
    let layout = QLayout::new(spec.network, spec.state_scaling, n_layers);
    // Each purpose has its own stream: with a replay memory, say, the agent still explores by the
    // same draws.
    let network = QNetwork::new(layout, spec.hidden, &mut seeds::stream(seed, "q-network"));
    let settings = LearnerSettings {
        learning_rate: spec.learning_rate,
        weight_decay: spec.weight_decay,
        gamma: spec.gamma,
        target_every: spec.target_every,
    };

    let exploration = ExplorationSettings {
        start: spec.epsilon_start,
        decay: spec.epsilon_decay,
        floor: spec.epsilon_floor,
        per: spec.epsilon_decay_per,
    };

    let policy =
        QPolicy::new(QLearner::new(network, settings), exploration, seeds::stream(seed, "policy"));

    Ok(match spec.replay_memory {
        0 => policy,
        capacity => {
            let rng = seeds::stream(seed, "replay-memory");
            policy.remembering(ReplayMemory::new(capacity, spec.replay_batch, rng))
        }
    })
}

fn check_settings(spec: &AgentSpec) -> Result<(), AgentError> {
    in_range("agent.hidden", spec.hidden as f64, "at least 1", spec.hidden >= 1)?;
    for (name, value) in
        [("agent.learning_rate", spec.learning_rate), ("agent.weight_decay", spec.weight_decay)]
    {
        in_range(name, value, "finite and not negative", value.is_finite() && value >= 0.0)?;
    }

    for (name, value) in [
        ("agent.gamma", spec.gamma),
        ("agent.epsilon_start", spec.epsilon_start),
        ("agent.epsilon_decay", spec.epsilon_decay),
        ("agent.epsilon_floor", spec.epsilon_floor),
    ] {
        in_range(name, value, "between 0 and 1", (0.0..=1.0).contains(&value))?;
    }

    Ok(())
}

fn in_range(
    name: &'static str,
    value: f64,
    expected: &'static str,
    satisfied: bool,
) -> Result<(), AgentError> {
    if satisfied { Ok(()) } else { Err(AgentError::Setting { name, expected, value }) }
}
