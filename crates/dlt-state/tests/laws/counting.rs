//! The numbers of actions and states.

use std::collections::BTreeSet;

use dlt_state::{Action, ActionSpace, State};

use crate::brute_force::{all_actions, all_states};

const EXHAUSTIVE_DEPTH: usize = 8;

/// Bell(0), Bell(1), ... by Bell's triangle.
fn bell_numbers(count: usize) -> Vec<usize> {
    let mut numbers = vec![1];
    let mut row = vec![1];
    while numbers.len() < count {
        let mut next = vec![row[row.len() - 1]];
        for (place, &above) in row.iter().enumerate() {
            next.push(next[place] + above);
        }

        numbers.push(next[0]);
        row = next;
    }

    numbers
}

/// Unsigned Stirling number of the first kind: permutations of `n` with `k` cycles.
fn stirling(n: usize, k: usize) -> usize {
    match (n, k) {
        (0, 0) => 1,
        (0, _) | (_, 0) => 0,
        _ => stirling(n - 1, k - 1) + (n - 1) * stirling(n - 1, k),
    }
}

#[test]
fn law_distinct_states_are_the_partitions_and_bell_many() {
    for (n_layers, &bell) in bell_numbers(EXHAUSTIVE_DEPTH + 1).iter().enumerate().skip(1) {
        let reached: BTreeSet<State> = all_actions(n_layers)
            .into_iter()
            .map(|values| State::from_action(&Action::new(values).unwrap()))
            .collect();
        let partitions: BTreeSet<State> =
            all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()).collect();
        assert_eq!(reached.len(), bell);
        assert_eq!(ActionSpace::new(n_layers).n_states(), Some(bell as u128));
        assert_eq!(reached, partitions);
    }
}

#[test]
fn law_actions_by_independent_layers_are_stirling_many() {
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        let mut counts = vec![0; n_layers + 1];
        for values in all_actions(n_layers) {
            counts[State::from_action(&Action::new(values).unwrap()).n_independent()] += 1;
        }

        let expected: Vec<_> = (0..=n_layers).map(|k| stirling(n_layers, k)).collect();
        assert_eq!(counts, expected);

        let space = ActionSpace::new(n_layers);
        let counted: Vec<_> = (0..=n_layers).map(|k| space.n_actions_with(k)).collect();
        assert_eq!(counted, counts.iter().map(|&count| Some(count as u128)).collect::<Vec<_>>());
    }
}

#[test]
fn law_states_by_groups_are_stirling_many() {
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        let mut counts = vec![Some(0_u128); n_layers + 2];
        for owners in all_states(n_layers) {
            let count = &mut counts[State::new(owners).unwrap().n_independent()];
            *count = count.map(|count| count + 1);
        }

        let space = ActionSpace::new(n_layers);
        let counted: Vec<_> = (0..=n_layers + 1).map(|k| space.n_states_with(k)).collect();
        assert_eq!(counted, counts);
    }
}

/// The rows of both triangles sum to the totals, at the greatest depths that fit too.
#[test]
fn law_counts_by_groups_sum_to_all() {
    for n_layers in [0, 1, 20, 34, 42] {
        let space = ActionSpace::new(n_layers);
        let sum = |count: &dyn Fn(usize) -> Option<u128>| -> Option<u128> {
            (0..=n_layers).map(count).sum()
        };

        assert_eq!(sum(&|k| space.n_states_with(k)), space.n_states());
        if let Some(actions) = space.n_actions() {
            assert_eq!(sum(&|k| space.n_actions_with(k)), Some(actions));
        }
    }

    // Single counts fit where their sum does not, and a count that does not fit is not a wrong one.
    assert_eq!(ActionSpace::new(128).n_states_with(2), Some((1 << 127) - 1));
    assert_eq!(ActionSpace::new(128).n_states_with(64), None);
    assert_eq!(ActionSpace::new(128).n_states_with(128), Some(1));
    assert_eq!(ActionSpace::new(36).n_actions_with(1), None);
}

/// The mean over L! actions is H_L = 1 + 1/2 + ... + 1/L; in whole numbers, the sum is L!/1 + L!/2
/// + ... + L!/L.
#[test]
fn law_a_uniform_action_has_harmonically_many_independent_layers() {
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        let factorial: usize = (1..=n_layers).product();
        let expected: usize = (1..=n_layers).map(|divisor| factorial / divisor).sum();
        let actions = all_actions(n_layers);

        assert_eq!(actions.len(), factorial);
        let total: usize =
            actions.into_iter().map(|values| Action::new(values).unwrap().n_independent()).sum();
        assert_eq!(total, expected);
    }
}

#[test]
fn law_slices_tile_the_row_of_values() {
    for n_layers in 0..=64 {
        let space = ActionSpace::new(n_layers);
        let mut end = 0;

        for layer in 0..n_layers {
            let slice = space.slice(layer);
            let choices = if layer == 0 { 0 } else { layer + 1 };
            assert_eq!((slice.start, slice.len()), (end, choices));
            assert_eq!(space.n_choices(layer), layer + 1);
            end = slice.end;
        }

        assert_eq!(space.n_q_values(), end);
    }

    assert_eq!(ActionSpace::new(48).n_q_values(), 1_175);
}

#[test]
fn law_actions_are_factorially_many() {
    assert_eq!(ActionSpace::new(0).n_actions(), Some(1));
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        let count = all_actions(n_layers).len() as u128;
        assert_eq!(ActionSpace::new(n_layers).n_actions(), Some(count));
    }

    assert!(ActionSpace::new(34).n_actions().is_some());
    assert_eq!(ActionSpace::new(35).n_actions(), None);
}

#[test]
#[should_panic(expected = "expected one of the 3 layers, got layer 3")]
fn rejects_slice_of_a_layer_that_is_not_there() {
    let _ = ActionSpace::new(3).slice(3);
}
