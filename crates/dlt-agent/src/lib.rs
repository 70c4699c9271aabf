//! The Q-learning agent that decides which layers are tied, and the policies it is compared with.
//!
//! An [`Agent`] makes a [`Decision`], gets its reward, and learns. It sees states and rewards, and
//! numbers about layers if its policy wants them, but never a model.
//!
//! A [`Policy`] chooses. [`Agent::new`] builds the one that a spec names, from settings that
//! `dlt-spec` has checked; an own policy is given to [`Agent::with_policy`].

mod adamw;
mod agent;
mod disagreement;
mod error;
pub mod exact;
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
pub use error::AgentError;
pub use experience::{Experience, MemorySnapshot, Remembered, ReplayMemory};
pub use layout::QLayout;
pub use learner::{LearnerSettings, QLearner, Update};
pub use memory::AgentMemory;
pub use network::{Parameters, QNetwork};
pub use occasion::{Evidence, Occasion, Turn, Wants};
pub use policy::*;
pub use reward::{CLIP, MAX_LOSS, Measured, Rewarder};
