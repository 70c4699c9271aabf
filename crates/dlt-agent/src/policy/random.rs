//! Uniform actions: the baseline that shows what learning adds.

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::error::{AgentError, grouping};
use crate::occasion::Turn;
use dlt_spec::spec::Decision;
use dlt_state::{Group, State, StateError};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws each entry that a decision covers uniformly from `0..=layer`, so all actions are equally
/// likely. For a single change it draws a uniform layer and a uniform entry. For a split it draws a
/// uniform group among those with two layers or more, and a uniform bipartition of it. For a swap
/// it first merges a uniform pair of groups.
#[derive(Clone, Debug)]
pub struct RandomPolicy {
    rng: ChaCha8Rng,
}

impl RandomPolicy {
    /// A policy that draws from `rng`.
    #[must_use]
    pub fn new(rng: ChaCha8Rng) -> Self {
        Self { rng }
    }

    /// A uniform layer with a uniform entry.
    fn change(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let mut action = situation.action.clone();
        if action.n_layers() == 1 {
            return Ok(Choice::nothing(situation));
        }

        let layer = self.rng.random_range(1..action.n_layers());
        let entry = self.rng.random_range(0..=layer);
        action.replace(layer, entry).map_err(grouping("the random change"))?;

        Ok(Choice::new(action, Visit::Layer(layer)))
    }

    /// The state after a uniform split; `None` if no group has two members.
    fn split(&mut self, state: &State) -> Result<Option<State>, StateError> {
        let mut groups = state.groups();
        groups.retain(|group| group.members.len() > 1);

        if groups.is_empty() {
            return Ok(None);
        }

        let Group { owner, members } = &groups[self.rng.random_range(0..groups.len())];
        // The owner stays in its group, so each bipartition is one non-empty set of the other
        // members. Drawing again when the set is empty keeps the others equally likely.
        let part = loop {
            let mut part = members[1..].to_vec();
            part.retain(|_| self.rng.random::<bool>());

            if !part.is_empty() {
                break part;
            }
        };

        state.split(*owner, &part).map(Some)
    }

    /// The state after a uniform merge and a uniform split; `None` if there is only one group.
    fn swap(&mut self, state: &State) -> Result<Option<State>, StateError> {
        let owners: Vec<usize> = state.independent_layers().collect();
        if owners.len() == 1 {
            return Ok(None);
        }

        let one = self.rng.random_range(0..owners.len());
        // Drawn among the other groups: an index from `one` on means the group one further. So
        // every pair is equally likely, without a second try.
        let other = self.rng.random_range(0..owners.len() - 1);
        let other = if other < one { other } else { other + 1 };

        self.split(&state.merge(owners[one], owners[other])?)
    }
}

impl Policy for RandomPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let state = match (situation.turn, situation.decision) {
            (Turn::Split, _) => self.split(situation.state),
            (Turn::Swap, _) => self.swap(situation.state),
            (Turn::Regular, Decision::Single) => return self.change(situation),
            (Turn::Regular, Decision::Joint | Decision::PerLayer) => {
                let action = situation.replace(|layer| self.rng.random_range(0..=layer));
                let action = action.map_err(grouping("the random action"))?;
                return Ok(Choice::new(action, situation.visit));
            }
            (turn, Decision::Split | Decision::Swap) => {
                return Err(AgentError::OtherTurn { policy: "random", turn });
            }
        };

        Ok(match state.map_err(grouping("the random groups"))? {
            Some(state) => Choice::new(state.into(), Visit::All),
            None => Choice::nothing(situation),
        })
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
