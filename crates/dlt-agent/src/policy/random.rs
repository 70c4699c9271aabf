//! Uniform actions: the baseline that shows what learning adds.

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::error::{AgentError, grouping};
use crate::occasion::Turn;
use dlt_spec::spec::Decision;
use dlt_state::{ActionSpace, Draw, State};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws each entry that a decision covers uniformly from `0..=layer`, so all actions are equally
/// likely. Layers that no tie may touch are never drawn. For a single change it draws a uniform layer and a uniform entry. For a split it draws a
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
        let free = situation.exempt.free();
        let space = ActionSpace::new(free.len());
        let Some((layer, entry)) = space.random_change(&mut Draws(&mut self.rng)) else {
            return Ok(Choice::nothing(situation));
        };
        let (layer, entry) = (free[layer], free[entry]);

        action.replace(layer, entry).map_err(grouping("the random change"))?;
        Ok(Choice::new(action, Visit::Layer(layer)))
    }
}

/// A stream of random numbers as the algebra draws from it. What it draws is part of what a seed
/// means: other calls of the same stream would change every recorded run.
pub(crate) struct Draws<'a>(pub(crate) &'a mut ChaCha8Rng);

impl Draw for Draws<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    fn coin(&mut self) -> bool {
        self.0.random()
    }
}

impl Policy for RandomPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let mut draws = Draws(&mut self.rng);
        let state = match (situation.turn, situation.decision) {
            (Turn::Split, _) => situation.state.random_split(&mut draws),
            (Turn::Swap, _) => {
                // Among the layers that are not exempt, so that no group is merged with an exempt one.
                let reduced = situation.exempt.reduced(situation.state);
                let reduced: State = reduced.map_err(grouping("the state before a swap"))?;
                let merged = reduced.random_merge(&mut draws);
                let merged = merged.map(|merged| situation.exempt.expanded(&merged));
                merged.and_then(|merged| merged.random_split(&mut draws))
            }
            (Turn::Regular, Decision::Single) => return self.change(situation),
            (Turn::Regular, Decision::Joint | Decision::PerLayer) => {
                let action = situation.replace(|layer| {
                    let choices = situation.exempt.choices(layer);
                    choices[draws.below(choices.len())]
                });
                let action = action.map_err(grouping("the random action"))?;
                return Ok(Choice::new(action, situation.visit));
            }
            (turn, Decision::Split | Decision::Swap) => {
                return Err(AgentError::OtherTurn { policy: "random", turn });
            }
        };

        Ok(match state {
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
