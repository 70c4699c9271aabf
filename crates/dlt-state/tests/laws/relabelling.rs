//! Relabelling is the action of the permutations on the partitions.

use dlt_state::{State, StateError};
use proptest::prelude::*;

use crate::brute_force::{all_permutations, all_states, is_state};
use crate::strategies;

/// The permutation that applies first `p`, then `q`.
fn composed(p: &[usize], q: &[usize]) -> Vec<usize> {
    p.iter().map(|&image| q[image]).collect()
}

/// Layers share after relabelling exactly where their old layers shared before.
fn check_grouping(state: &State, permutation: &[usize]) {
    let relabelled = state.relabel(permutation).unwrap();
    assert!(is_state(relabelled.owners()), "{state:?} by {permutation:?}");

    for (layer, &image) in permutation.iter().enumerate() {
        for (other, &other_image) in permutation.iter().enumerate() {
            assert_eq!(
                state.owner(layer) == state.owner(other),
                relabelled.owner(image) == relabelled.owner(other_image),
                "{state:?} by {permutation:?}"
            );
        }
    }
}

#[test]
fn law_relabel_is_a_group_action() {
    for n_layers in 1..=4 {
        let permutations = all_permutations(n_layers);
        for state in all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()) {
            let identity: Vec<_> = (0..n_layers).collect();
            assert_eq!(state.relabel(&identity).as_ref(), Ok(&state));

            for p in &permutations {
                check_grouping(&state, p);
                let once = state.relabel(p).unwrap();

                for q in &permutations {
                    assert_eq!(
                        once.relabel(q),
                        state.relabel(&composed(p, q)),
                        "{state:?} by {p:?}, {q:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rejects_relabel_by_what_is_no_permutation() {
    let state = State::all_tied(3);
    let rejected = |permutation: &[usize]| state.relabel(permutation).unwrap_err();
    assert_eq!(rejected(&[0, 1]), StateError::DepthMismatch { expected: 3, got: 2 });
    assert_eq!(rejected(&[0, 1, 2, 3]), StateError::DepthMismatch { expected: 3, got: 4 });

    assert_eq!(
        rejected(&[2, 0, 2]),
        StateError::NotPermutation { index: 2, value: 2, n_layers: 3 }
    );

    assert_eq!(
        rejected(&[0, 3, 1]),
        StateError::NotPermutation { index: 1, value: 3, n_layers: 3 }
    );

    assert_eq!(
        rejected(&[0, usize::MAX, 1]),
        StateError::NotPermutation { index: 1, value: usize::MAX, n_layers: 3 }
    );
}

proptest! {
    #[test]
    fn law_relabel_is_a_group_action_at_any_depth(
        (state, p, q) in (1..=strategies::MAX_DEPTH).prop_flat_map(|n_layers| (
            strategies::state_of(n_layers),
            strategies::permutation_of(n_layers),
            strategies::permutation_of(n_layers),
        ))
    ) {
        check_grouping(&state, &p);
        let twice = state.relabel(&p).unwrap().relabel(&q).unwrap();
        prop_assert_eq!(twice, state.relabel(&composed(&p, &q)).unwrap());
        prop_assert_eq!(state.relabel(&p).unwrap().n_independent(), state.n_independent());
    }
}
