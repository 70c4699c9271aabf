//! Splits by disagreement of gradients, and splits in the middle as their baseline (DEVIATIONS row
//! 45).

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::disagreement::{Disagreement, Division};
use crate::error::{AgentError, grouping};
use crate::occasion::{Turn, Wants};

/// Splits the group with the greatest disagreement of gradients, at the bipartition that disagrees
/// most.
#[derive(Clone, Copy, Debug)]
pub struct GrowPolicy;

/// Splits the largest group in its middle, without looking at gradients.
#[derive(Clone, Copy, Debug)]
pub struct EvenPolicy;

/// Splits the group, at the bipartition, that disagrees most by the evidence. Changes nothing if no
/// group has two members. `policy` is named in errors.
pub(crate) fn most_disagreeing(
    situation: &Situation<'_>,
    policy: &'static str,
) -> Result<Choice, AgentError> {
    // Before the evidence is demanded: a state with nothing left to split needs none.
    if situation.state.n_independent() == situation.state.n_layers() {
        return Ok(Choice::nothing(situation));
    }

    let evidence = situation.evidence_for(policy, "the products of gradients")?;

    match Disagreement::new(evidence).greatest(situation.state) {
        Some(Division { owner, part, disagreement }) => {
            let state = situation.state.split(owner, &part);
            let state = state.map_err(grouping("the split by disagreement"))?;
            Ok(Choice { conflict: Some(disagreement), ..Choice::new(state.into(), Visit::All) })
        }
        None => Ok(Choice::nothing(situation)),
    }
}

impl Policy for GrowPolicy {
    fn wants(&self) -> Wants {
        Wants { products: true, distances: false }
    }

    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        match situation.turn {
            Turn::Split => most_disagreeing(situation, "grow"),
            turn => Err(AgentError::OtherTurn { policy: "grow", turn }),
        }
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Grow
    }
}

impl Policy for EvenPolicy {
    /// Of equally large groups it splits the one with the lowest owner. With an odd number of
    /// members the lower half has one more.
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        if situation.turn != Turn::Split {
            return Err(AgentError::OtherTurn { policy: "even", turn: situation.turn });
        }

        let mut groups = situation.state.groups();
        // The sort is stable and groups come in rising order of owners, so of equally large groups
        // the lowest owner is first.
        groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));

        match groups.first() {
            Some(largest) if largest.members.len() > 1 => {
                let part = &largest.members[largest.members.len().div_ceil(2)..];
                let state = situation.state.split(largest.owner, part);
                let state = state.map_err(grouping("the split in the middle"))?;

                Ok(Choice::new(state.into(), Visit::All))
            }
            _ => Ok(Choice::nothing(situation)),
        }
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Even
    }
}
