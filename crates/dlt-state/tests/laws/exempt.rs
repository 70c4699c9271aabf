//! Layers that no tie may touch: every action and every set of them at small depths.

use dlt_state::{Action, Exempt, State, StateError};

use crate::brute_force::{all_actions, all_states};

/// Every set of exempt layers.
fn all_exempt(n_layers: usize) -> impl Iterator<Item = (Exempt, Vec<usize>)> {
    (0..1usize << n_layers).map(move |set| {
        let layers: Vec<_> = (0..n_layers).filter(|layer| set >> layer & 1 == 1).collect();
        (Exempt::new(n_layers, &layers).unwrap(), layers)
    })
}

#[test]
fn law_exempt_layers_leave_their_groups_and_the_others_stay_together() {
    for n_layers in 1..=5 {
        for action in all_actions(n_layers).into_iter().map(|one| Action::new(one).unwrap()) {
            let state = State::from_action(&action);
            for (exempt, layers) in all_exempt(n_layers) {
                let spared = exempt.spare(&action);
                let after = State::from_action(&spared);

                for one in 0..n_layers {
                    for other in 0..n_layers {
                        let was = state.owner(one) == state.owner(other);
                        let is = after.owner(one) == after.owner(other);
                        let touches = layers.contains(&one) || layers.contains(&other);
                        let expected = one == other || (was && !touches);
                        assert_eq!(is, expected, "{action:?} without {layers:?}");
                    }

                    // An entry that touches no exempt layer stays as it is.
                    let asked = action.values()[one];
                    if !layers.contains(&one) && !layers.contains(&asked) {
                        assert_eq!(spared.values()[one], asked);
                    }
                    assert!(exempt.choices(one).contains(&spared.values()[one]));
                }

                assert_eq!(exempt.spare(&spared), spared);
                assert_eq!(exempt.spare_state(&state), after);
            }
        }
    }
}

#[test]
fn law_a_state_without_the_exempt_layers_comes_back() {
    for n_layers in 2..=5 {
        for (exempt, layers) in all_exempt(n_layers) {
            let free = n_layers - layers.len();
            assert_eq!(exempt.free().len(), free);
            assert_eq!(exempt.deciding().len(), free.saturating_sub(1));
            assert_eq!(exempt.has_any(), !layers.is_empty());
            if free == 0 {
                let all = State::independent(n_layers);
                assert_eq!(exempt.reduced(&all), Err(StateError::Empty));
                continue;
            }

            for reduced in all_states(free).into_iter().map(|one| State::new(one).unwrap()) {
                let expanded = exempt.expanded(&reduced);
                assert_eq!(exempt.spare_state(&expanded), expanded);
                assert_eq!(exempt.reduced(&expanded), Ok(reduced));
            }
        }
    }
}

#[test]
fn rejects_exempt_layers_that_do_not_exist_and_ties_with_them() {
    assert_eq!(Exempt::new(3, &[1, 3]), Err(StateError::LayerOutOfRange { layer: 3, n_layers: 3 }));
    let exempt = Exempt::new(3, &[0]).unwrap();
    assert_eq!(
        exempt.reduced(&State::all_tied(3)),
        Err(StateError::NotAMember { layer: 1, owner: 0 })
    );
}
