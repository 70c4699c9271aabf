//! Swaps at a constant number of groups: the two groups that are most alike are merged, and the
//! group that disagrees most is split (DEVIATIONS rows 41 and 45).

use super::grow::most_disagreeing;
use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::disagreement::disagreement;
use crate::error::{AgentError, grouping};
use crate::occasion::{Evidence, Turn, Wants};
use dlt_state::Group;
use dlt_state::growth::{Division, TIE};

/// Splits as [`GrowPolicy`](crate::GrowPolicy) does. A swap first merges the two groups that are
/// most alike. It changes nothing if no split then disagrees more than those two groups did.
#[derive(Clone, Copy, Debug)]
pub struct ConflictPolicy;

/// Two groups, and how unlike they are.
struct Pair {
    one: Group,
    other: Group,
    unlikeness: f64,
}

impl ConflictPolicy {
    fn swap(situation: &Situation<'_>) -> Result<Choice, AgentError> {
        if situation.state.n_independent() == 1 {
            return Ok(Choice::nothing(situation));
        }

        let evidence =
            situation.evidence_for("conflict", "products of gradients and distances of weights")?;
        let Some(pair) = most_alike(evidence, situation) else {
            return Ok(Choice::nothing(situation));
        };

        let merged = situation.state.merge(pair.one.owner, pair.other.owner);
        let merged = merged.map_err(grouping("the merge of a swap"))?;
        let disagreements = disagreement(evidence)?;
        // The price of the merge: a swap pays only if the split separates more than the merge
        // joins. It also keeps a swap from undoing its own merge.
        let apart = disagreements.of(&pair.one.members, &pair.other.members);

        match disagreements.greatest(&merged) {
            Some(Division { owner, part, disagreement }) if disagreement > apart + TIE => {
                let state = merged.split(owner, &part).map_err(grouping("the split of a swap"))?;
                let conflict = Some(disagreement);
                let unlikeness = Some(pair.unlikeness);

                Ok(Choice { conflict, unlikeness, ..Choice::new(state.into(), Visit::All) })
            }
            _ => Ok(Choice::nothing(situation)),
        }
    }
}

/// The two groups that are least unlike; of equals those with the lowest owners. Unlikeness is the
/// squared distance of their weights over the mean of their squared norms, plus 1 minus the cosine
/// of their summed gradients. Exempt layers are no groups here. `None` if there is only one group.
fn most_alike(evidence: &Evidence, situation: &Situation<'_>) -> Option<Pair> {
    let mut groups = situation.state.groups();
    groups.retain(|group| !situation.exempt.has(group.owner));
    let mut best: Option<Pair> = None;

    for (index, one) in groups.iter().enumerate() {
        for other in &groups[index + 1..] {
            let unlikeness = unlikeness(evidence, one, other);
            if best.as_ref().is_none_or(|best| unlikeness < best.unlikeness - TIE) {
                best = Some(Pair { one: one.clone(), other: other.clone(), unlikeness });
            }
        }
    }

    best
}

/// How unlike two groups are, at least 0; equal weights and gradients of one direction give 0.
fn unlikeness(evidence: &Evidence, one: &Group, other: &Group) -> f64 {
    let square = (evidence.norms[one.owner] + evidence.norms[other.owner]) / 2.0;
    let distance = evidence.distances[one.owner * evidence.n_layers + other.owner];

    // Weights that are all 0 are equal, so their distance is 0. Gradients of 0 agree with nothing,
    // so their cosine is 0.
    let apart = if square > 0.0 { distance / square } else { 0.0 };
    let product = |one: &Group, other: &Group| -> f64 {
        let entries = |&i: &usize| {
            other.members.iter().map(move |j| evidence.products[i * evidence.n_layers + j])
        };
        one.members.iter().flat_map(entries).sum()
    };

    // Clamped: rounding can take the product of sketches slightly below 0, and its root would be
    // NaN.
    let norms = (product(one, one) * product(other, other)).max(0.0).sqrt();
    let cosine = if norms > 0.0 { product(one, other) / norms } else { 0.0 };
    apart + 1.0 - cosine
}

impl Policy for ConflictPolicy {
    fn wants(&self) -> Wants {
        Wants { products: true, distances: true }
    }

    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        match situation.turn {
            Turn::Split => most_disagreeing(situation, "conflict"),
            Turn::Swap => Self::swap(situation),
            turn @ Turn::Regular => Err(AgentError::OtherTurn { policy: "conflict", turn }),
        }
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Conflict
    }
}
