//! Equation 1.

use dlt_state::{Action, State};
use proptest::prelude::*;

use crate::brute_force::{all_actions, follow, is_state};
use crate::strategies;

/// 8! = 40,320 actions.
const EXHAUSTIVE_DEPTH: usize = 8;

#[test]
fn matches_reference_eq1_of_all_actions() {
    let mut buffer = Vec::new();
    let mut reused = State::independent(1);

    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        for values in all_actions(n_layers) {
            let action = Action::new(values.clone()).unwrap();
            let state = State::from_action(&action);
            assert_eq!(state.owners(), follow(&values), "{values:?}");
            State::from_action_into(&action, &mut buffer);
            assert_eq!(state.owners(), buffer, "{values:?}");
            reused.set_from_action(&action);
            assert_eq!(state, reused, "{values:?}");
        }
    }
}

#[test]
fn law_eq1_gives_a_fixed_point_and_is_idempotent() {
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        for values in all_actions(n_layers) {
            let state = State::from_action(&Action::new(values).unwrap());
            assert!(is_state(state.owners()), "{state:?}");
            assert_eq!(State::from_action(state.as_action()), state);
        }
    }
}

#[test]
fn law_new_accepts_exactly_the_states() {
    for n_layers in 1..=EXHAUSTIVE_DEPTH {
        for values in all_actions(n_layers) {
            assert_eq!(State::new(values.clone()).is_ok(), is_state(&values), "{values:?}");
        }
    }
}

#[test]
fn law_a_large_enough_buffer_is_not_allocated_again() {
    let mut buffer = Vec::with_capacity(48);
    let place = buffer.as_ptr();
    let capacity = buffer.capacity();

    for layer in 1..48 {
        let mut action = Action::all_zero(48);
        action.replace(layer, layer).unwrap();
        State::from_action_into(&action, &mut buffer);
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, capacity));
    }
}

proptest! {
    #[test]
    fn matches_reference_eq1_at_any_depth(action in strategies::action()) {
        let state = State::from_action(&action);
        prop_assert_eq!(state.owners(), follow(action.values()));
        prop_assert!(is_state(state.owners()));
        prop_assert_eq!(&State::from_action(state.as_action()), &state);
        prop_assert_eq!(State::new(state.owners().to_vec()), Ok(state));
    }

    #[test]
    fn law_groups_partition_the_layers(action in strategies::action()) {
        let state = State::from_action(&action);
        let groups = state.groups();
        let mut seen = vec![0; state.n_layers()];

        for group in &groups {
            prop_assert_eq!(group.members[0], group.owner);
            prop_assert!(group.members.is_sorted());

            for &member in &group.members {
                seen[member] += 1;
                prop_assert_eq!(state.owner(member), group.owner);
            }
        }

        prop_assert_eq!(seen, vec![1; state.n_layers()]);
        prop_assert!(groups.is_sorted_by(|left, right| left.owner < right.owner));
        prop_assert_eq!(groups.len(), state.n_independent());
        prop_assert_eq!(action.n_independent(), state.n_independent());

        let owners: Vec<_> = groups.iter().map(|group| group.owner).collect();
        prop_assert_eq!(owners, state.independent_layers().collect::<Vec<_>>());
        prop_assert_eq!(state.parameter_count(1_000, 10), 1_000 + 10 * groups.len());
    }

    #[test]
    fn law_replace_changes_one_entry(action in strategies::action(), place in any::<prop::sample::Index>(), value in any::<prop::sample::Index>()) {
        let layer = place.index(action.n_layers());
        let value = value.index(layer + 1);
        let mut replaced = action.clone();

        replaced.replace(layer, value).unwrap();
        let mut expected = action.into_values();
        expected[layer] = value;
        prop_assert_eq!(replaced.values(), expected);
    }
}
