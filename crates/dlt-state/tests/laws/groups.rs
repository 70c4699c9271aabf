//! Splits and merges of groups.

use dlt_state::{State, StateError};
use proptest::prelude::*;

use crate::brute_force::{all_states, is_state};
use crate::strategies;

/// Every part of a group that is neither empty nor the whole group, in rising order.
fn parts(members: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (1..(1_usize << members.len()) - 1).map(|bits| {
        let chosen = members.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1);
        chosen.map(|(_, &layer)| layer).collect()
    })
}

/// After the split, two layers share exactly where they shared before and are on the same side.
fn check_split(state: &State, owner: usize, part: &[usize]) {
    let halved = state.split(owner, part).unwrap();
    let case = format!("{state:?} at {owner} by {part:?}");
    assert!(is_state(halved.owners()), "{case}");
    assert_eq!(halved.n_independent(), state.n_independent() + 1, "{case}");

    for layer in 0..state.n_layers() {
        for other in 0..state.n_layers() {
            let together = state.owner(layer) == state.owner(other);
            let same_side = part.contains(&layer) == part.contains(&other);
            let shared = together && (state.owner(layer) != owner || same_side);

            assert_eq!(halved.owner(layer) == halved.owner(other), shared, "{case}");
        }
    }

    // A split unties one layer. All other events are of layers that follow their new lowest one.
    let new_owner = (0..state.n_layers())
        .find(|&layer| halved.is_independent(layer) && !state.is_independent(layer));
    let new_owner = new_owner.expect("one layer has become independent");
    assert_eq!(state.transition_to(&halved).unwrap().event_counts().untied, 1, "{case}");
    assert_eq!(halved.merge(owner, new_owner).as_ref(), Ok(state), "{case}: merged again");

    let rest: Vec<_> = (0..state.n_layers())
        .filter(|layer| state.owner(*layer) == owner && !part.contains(layer))
        .collect();
    assert_eq!(state.split(owner, &rest).as_ref(), Ok(&halved), "{case}: by the rest");
}

#[test]
fn law_a_split_then_a_merge_is_the_identity() {
    let mut n_splits = 0;
    for n_layers in 1..=6 {
        for state in all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()) {
            for group in state.groups() {
                for part in parts(&group.members) {
                    check_split(&state, group.owner, &part);
                    n_splits += 1;
                }
            }
        }
    }

    assert!(n_splits > 1000, "{n_splits}");
}

#[test]
fn law_a_merge_then_a_split_is_the_identity() {
    for n_layers in 2..=6 {
        for state in all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()) {
            let groups = state.groups();
            for one in &groups {
                for other in groups.iter().filter(|other| other.owner != one.owner) {
                    let merged = state.merge(one.owner, other.owner).unwrap();
                    assert!(is_state(merged.owners()));
                    assert_eq!(merged.n_independent(), state.n_independent() - 1);
                    assert_eq!(state.merge(other.owner, one.owner).as_ref(), Ok(&merged));

                    let owner = one.owner.min(other.owner);
                    assert_eq!(merged.split(owner, &one.members).as_ref(), Ok(&state));
                }
            }
        }
    }
}

#[test]
fn law_every_state_is_reached_from_one_group_by_splits() {
    for n_layers in 1..=6 {
        let mut reached = vec![State::all_tied(n_layers)];
        let mut next = 0;
        while let Some(state) = reached.get(next).cloned() {
            next += 1;
            for group in state.groups() {
                for part in parts(&group.members) {
                    let halved = state.split(group.owner, &part).unwrap();
                    if !reached.contains(&halved) {
                        reached.push(halved);
                    }
                }
            }
        }

        assert_eq!(reached.len(), all_states(n_layers).len());
    }
}

#[test]
fn rejects_splits_that_are_none() {
    let state = State::new(vec![0, 1, 0, 1, 0]).unwrap();
    let rejected = |owner, part: &[usize]| state.split(owner, part).unwrap_err();
    assert_eq!(rejected(5, &[0]), StateError::LayerOutOfRange { layer: 5, n_layers: 5 });
    assert_eq!(rejected(2, &[2]), StateError::NotAnOwner { layer: 2, owner: 0 });
    assert_eq!(rejected(0, &[]), StateError::EmptyPart { owner: 0 });
    assert_eq!(rejected(0, &[2, 0]), StateError::NotRising { previous: 2, layer: 0 });
    assert_eq!(rejected(0, &[2, 2]), StateError::NotRising { previous: 2, layer: 2 });
    assert_eq!(rejected(0, &[2, 3]), StateError::NotAMember { layer: 3, owner: 0 });
    assert_eq!(rejected(0, &[2, 7]), StateError::LayerOutOfRange { layer: 7, n_layers: 5 });
    assert_eq!(rejected(0, &[0, 2, 4]), StateError::WholeGroup { owner: 0 });
}

#[test]
fn rejects_merges_that_are_none() {
    let state = State::new(vec![0, 1, 0, 1]).unwrap();
    assert_eq!(state.merge(0, 4), Err(StateError::LayerOutOfRange { layer: 4, n_layers: 4 }));
    assert_eq!(state.merge(3, 0), Err(StateError::NotAnOwner { layer: 3, owner: 1 }));
    assert_eq!(state.merge(1, 1), Err(StateError::SameGroup { owner: 1 }));
}

proptest! {
    #[test]
    fn law_a_split_then_a_merge_is_the_identity_at_any_depth(
        (state, sides) in (2..=strategies::MAX_DEPTH).prop_flat_map(|n_layers| {
            (strategies::state_of(n_layers), proptest::collection::vec(any::<bool>(), n_layers))
        })
    ) {
        for group in state.groups() {
            let part: Vec<_> = group.members.iter().copied().filter(|&layer| sides[layer]).collect();
            if !part.is_empty() && part.len() < group.members.len() {
                check_split(&state, group.owner, &part);
            }
        }
    }
}
