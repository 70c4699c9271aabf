//! The Q-learning agent that decides which layers are tied, and the policies it is compared with.
//!
//! An [`Agent`] makes a [`Decision`], gets its reward, and learns. It sees states and rewards, and
//! numbers about layers if its policy wants them, but never a model.
//!
//! A [`Policy`] chooses: epsilon-greedy under a Q-network ([`QPolicy`]), uniform
//! ([`RandomPolicy`]), one fixed pattern ([`FixedPolicy`]), a recording, plain or permuted
//! ([`ReplayPolicy`]), or no change at all ([`NoPolicy`]). Other policies split groups where
//! gradients disagree ([`GrowPolicy`]) or in their middle ([`EvenPolicy`]), or split and merge at a
//! constant number of groups ([`ConflictPolicy`]). Policies that look at gradients or weights get
//! [`Evidence`].

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
pub use reward::{CLIP, MAX_LOSS, Measured, Rewarder};
