//! Fixed patterns.

use dlt_state::{State, StateError, pattern};

use crate::brute_force::is_state;

const DEPTHS: std::ops::RangeInclusive<usize> = 1..=49;

#[test]
fn law_patterns_are_states_with_the_pairs_they_promise() {
    for n_layers in DEPTHS {
        let half = n_layers.div_ceil(2);
        let top = n_layers - 1;
        let cycle = pattern::cycle(n_layers);
        let reversed = pattern::cycle_reversed(n_layers);
        let sequence = pattern::sequence(n_layers);

        for state in [&cycle, &reversed, &sequence] {
            assert!(is_state(state.owners()), "{state:?}");
            assert_eq!(state.n_layers(), n_layers);
            assert_eq!(state.n_independent(), half);
            assert!(state.groups().iter().all(|group| group.members.len() <= 2), "{state:?}");
        }

        for layer in 0..n_layers / 2 {
            assert_eq!(cycle.owner(half + layer), layer);
            assert_eq!(reversed.owner(top - layer), layer);
            assert_eq!(sequence.owner(2 * layer + 1), 2 * layer);
        }
    }
}

#[test]
fn law_even_groups_are_contiguous_and_nearly_equal() {
    for n_layers in DEPTHS {
        for groups in 1..=n_layers {
            let state = pattern::evenly_grouped(n_layers, groups).unwrap();
            assert!(is_state(state.owners()), "{state:?}");
            assert!(state.owners().is_sorted(), "{state:?}");
            assert_eq!(state.n_independent(), groups);

            let sizes = state.groups().into_iter().map(|group| group.members.len());
            let least = sizes.clone().min().unwrap();
            let most = sizes.max().unwrap();

            assert!(most - least <= 1, "{state:?}");
        }

        assert_eq!(pattern::evenly_grouped(n_layers, 1), Ok(State::all_tied(n_layers)));
        assert_eq!(pattern::evenly_grouped(n_layers, n_layers), Ok(State::independent(n_layers)));
        assert_eq!(
            pattern::evenly_grouped(n_layers, n_layers.div_ceil(2)),
            Ok(pattern::sequence(n_layers))
        );
    }
}

#[test]
fn rejects_impossible_numbers_of_groups() {
    assert_eq!(
        pattern::evenly_grouped(4, 0),
        Err(StateError::GroupCount { groups: 0, n_layers: 4 })
    );

    assert_eq!(
        pattern::evenly_grouped(4, 5),
        Err(StateError::GroupCount { groups: 5, n_layers: 4 })
    );
    assert_eq!(pattern::evenly_grouped(0, 0), Err(StateError::Empty));
}

#[test]
fn rejects_patterns_without_a_layer() {
    for pattern in [pattern::cycle, pattern::cycle_reversed, pattern::sequence] {
        let panic = std::panic::catch_unwind(|| pattern(0)).unwrap_err();
        let message = panic.downcast_ref::<&str>().unwrap();
        assert_eq!(*message, "expected at least one layer, got none");
    }
}
