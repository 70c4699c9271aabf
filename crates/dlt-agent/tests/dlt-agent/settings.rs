//! The settings of the paper, to start from.

use dlt_agent::{Agent, Occasion, Turn};
use dlt_spec::AgentSetup;
use dlt_spec::spec::{
    AgentSpec, Credit, DecayPer, Decision, Exempt, Initial, InitialName, Network, PolicyKind,
    Reward, RewardTiming, Scaling, StateVector,
};

/// Both coverages of a decision.
pub(crate) const DECISIONS: [Decision; 2] = [Decision::Joint, Decision::PerLayer];

/// A regular decision without evidence.
pub(crate) const REGULAR: Occasion<'_> = Occasion { turn: Turn::Regular, evidence: None };

/// A split and a swap without evidence.
pub(crate) const SPLIT: Occasion<'_> = Occasion { turn: Turn::Split, evidence: None };
pub(crate) const SWAP: Occasion<'_> = Occasion { turn: Turn::Swap, evidence: None };

/// Both layouts of the Q-network.
pub(crate) const NETWORKS: [Network; 2] = [Network::Paper, Network::Reference];

pub(crate) fn agent_spec(policy: PolicyKind) -> AgentSpec {
    AgentSpec {
        policy,
        pattern: Initial::Named(InitialName::Sequence),
        recording: String::new(),
        permutation: Vec::new(),
        network: Network::Paper,
        hidden: 128,
        learning_rate: 1e-3,
        weight_decay: 0.01,
        gamma: 0.99,
        epsilon_start: 1.0,
        epsilon_decay: 0.95,
        epsilon_floor: 0.1,
        epsilon_decay_per: DecayPer::Decision,
        state_scaling: Scaling::None,
        reward: Reward::NegPpl,
        credit: Credit::All,
        replay_memory: 0,
        replay_batch: 1,
        target_every: 0,
        reward_batches: 1,
        budget: 64,
        beam_width: 4,
        price: 0.1,
        reward_timing: RewardTiming::AtOnce,
    }
}

/// The paper's start, in which all layers are in one group.
pub(crate) fn setup(spec: &AgentSpec, decision: Decision, layers: usize, seed: u64) -> AgentSetup {
    AgentSetup {
        agent: spec.clone(),
        initial: Initial::Named(InitialName::Frozen),
        decision,
        exempt: Exempt::Layers(Vec::new()),
        state_vector: StateVector::Canonical,
        layers,
        seed,
    }
}

/// The agent of a setup that keeps the rules, without a recording.
pub(crate) fn agent_of(setup: &AgentSetup) -> Agent {
    Agent::new(&setup.check().unwrap(), None).unwrap()
}

/// An agent without a recording.
pub(crate) fn agent(spec: &AgentSpec, decision: Decision, n_layers: usize, seed: u64) -> Agent {
    agent_of(&setup(spec, decision, n_layers, seed))
}

/// An agent that starts with these owners.
pub(crate) fn agent_in(spec: &AgentSpec, decision: Decision, owners: &[usize], seed: u64) -> Agent {
    let initial = Initial::Owners(owners.to_vec());
    agent_of(&AgentSetup { initial, ..setup(spec, decision, owners.len(), seed) })
}

/// A learning rate that a spec allows and that moves no weight: as f32 it is 0.
pub(crate) const NO_LEARNING: f64 = f64::MIN_POSITIVE;
