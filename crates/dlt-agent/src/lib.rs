//! The Q-learning agent that decides which layers are tied, and the policies it is compared with.
//!
//! An [`Agent`] makes a [`Decision`], is told its reward, and learns. It sees states and rewards,
//! and numbers about layers where its policy wants them, never a model. Who chooses is a
//! [`Policy`]: epsilon-greedy under a Q-network ([`QPolicy`]), uniform ([`RandomPolicy`]), one
//! pattern throughout ([`FixedPolicy`]), a recording, plain or permuted ([`ReplayPolicy`]), or
//! nobody ([`NoPolicy`]). Groups are split where gradients disagree ([`GrowPolicy`]) or in their
//! middle ([`EvenPolicy`]), or split and merged at a constant number ([`ConflictPolicy`]); such
//! policies get [`Evidence`], numbers about layers.

mod adamw;
mod agent;
mod assembly;
mod disagreement;
mod error;
mod exact;
mod experience;
mod layout;
mod learner;
mod memory;
mod network;
mod occasion;
mod policy;
mod reward;

pub use adamw::AdamW;
pub use agent::{Agent, AgentSnapshot, Decision, PendingSnapshot};
pub use assembly::{grouping_state, replay_permutation};
pub use error::AgentError;
pub use experience::{Experience, MemorySnapshot, Remembered, ReplayMemory};
pub use layout::QLayout;
pub use learner::{LearnerSettings, QLearner, Update};
pub use memory::AgentMemory;
pub use network::{Parameters, QNetwork};
pub use occasion::{Evidence, Occasion, Turn, Wants};
pub use policy::{
    Choice, ConflictPolicy, EvenPolicy, Exploration, ExplorationSettings, FixedPolicy, GrowPolicy,
    NoPolicy, Policy, PolicySnapshot, QPolicy, QSnapshot, RandomPolicy, ReplayPolicy, Situation,
    Visit,
};
pub use reward::{CLIP, MAX_LOSS, Measured, RewardKind, Rewarder};
