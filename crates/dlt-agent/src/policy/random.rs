//! A uniform action each time: the baseline that tells what learning adds.

use super::{Choice, Policy, PolicySnapshot, Situation};
use crate::error::{AgentError, grouping};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws each entry that a decision covers uniformly from `0..=layer`, so all actions are equally likely.
#[derive(Clone, Debug)]
pub struct RandomPolicy {
    rng: ChaCha8Rng,
}

impl RandomPolicy {
    /// Draws from `rng`.
    #[must_use]
    pub fn new(rng: ChaCha8Rng) -> Self {
        Self { rng }
    }
}

impl Policy for RandomPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let action = situation
            .replace(|layer| self.rng.random_range(0..=layer))
            .map_err(grouping("the random action"))?;
        Ok(Choice::new(action, situation.visit))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Random { rng: Box::new(self.rng.clone()) }
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        match snapshot {
            PolicySnapshot::Random { rng } => {
                self.rng = (**rng).clone();
                Ok(())
            }
            other => Err(other.mismatch("random")),
        }
    }
}
