//! Splits by disagreement of gradients, and splits in the middle as their baseline (DEVIATIONS row
//! 45).

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::disagreement::disagreement;
use crate::error::{AgentError, grouping};
use crate::occasion::{Turn, Wants};
use dlt_state::growth::Division;

/// Splits the group with the greatest disagreement of gradients, at the bipartition that disagrees
/// most.
#[derive(Clone, Copy, Debug)]
pub struct GrowPolicy;

/// Splits the largest group in its middle, without looking at gradients: see
/// [`State::split_largest`](dlt_state::State::split_largest).
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

    match disagreement(evidence)?.greatest(situation.state) {
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
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        if situation.turn != Turn::Split {
            return Err(AgentError::OtherTurn { policy: "even", turn: situation.turn });
        }

        Ok(match situation.state.split_largest() {
            Some(state) => Choice::new(state.into(), Visit::All),
            None => Choice::nothing(situation),
        })
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Even
    }
}
