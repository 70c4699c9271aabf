//! Policies without a choice: one fixed pattern, and no change at all.

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::error::{AgentError, grouping, same_depth};
use dlt_state::State;

/// Asks for the same pattern at every decision.
#[derive(Clone, Debug)]
pub struct FixedPolicy {
    pattern: State,
}

impl FixedPolicy {
    /// A policy that asks for `pattern`.
    #[must_use]
    pub fn new(pattern: State) -> Self {
        Self { pattern }
    }
}

impl Policy for FixedPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        same_depth("the fixed pattern", situation.vector.len(), self.pattern.n_layers())?;
        // Only the layers whose turn it is: per layer, the pattern is reached after one sweep.
        let action = situation
            .replace(|layer| self.pattern.owner(layer))
            .map_err(grouping("the action of the fixed pattern"))?;
        Ok(Choice::new(action, situation.visit))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Fixed
    }
}

/// Decides nothing: the grouping stays as it is, and no layer is visited.
#[derive(Clone, Copy, Debug)]
pub struct NoPolicy;

impl Policy for NoPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        Ok(Choice::new(situation.action.clone(), Visit::Nothing))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::None
    }
}
