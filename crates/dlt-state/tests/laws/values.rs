//! The greedy action, Eq. 3 and Eq. 4, against all actions.

use dlt_state::{Action, ActionSpace, StateError};
use proptest::prelude::*;

use crate::brute_force::all_actions;

/// Eq. 3 by its definition: the value of layer `i` copying `j` is after those of all layers below
/// `i` and those of `i` copying less.
fn value(values: &[i32], action: &[usize]) -> i32 {
    let place = |layer: usize| (1..layer).map(|below| below + 1).sum::<usize>() + action[layer];
    (1..action.len()).map(|layer| values[place(layer)]).sum()
}

/// A depth and a row of values for it. Small numbers, so that equal ones occur.
fn row() -> impl Strategy<Value = (usize, Vec<i32>)> {
    (1..=6_usize).prop_flat_map(|n_layers| {
        let values = proptest::collection::vec(-3..3, ActionSpace::new(n_layers).n_q_values());
        (Just(n_layers), values)
    })
}

proptest! {
    #[test]
    fn law_greedy_is_the_first_of_the_best_actions((n_layers, values) in row()) {
        let space = ActionSpace::new(n_layers);
        let actions = all_actions(n_layers);
        let most = actions.iter().map(|action| value(&values, action)).max().unwrap();
        // In lexicographic order, so the lowest choice wins among equals.
        let first = actions.iter().find(|action| value(&values, action) == most).unwrap();
        let greedy = space.greedy(&values).unwrap();

        prop_assert_eq!(greedy.values(), &first[..]);
        prop_assert_eq!(space.max_q_value(&values).unwrap(), most);
        prop_assert_eq!(space.q_value(&values, &greedy).unwrap(), most);
    }

    #[test]
    fn law_q_values_are_those_of_the_definition((n_layers, values) in row()) {
        let space = ActionSpace::new(n_layers);
        for choices in all_actions(n_layers) {
            let expected = value(&values, &choices);
            let by_layer = |layer| space.q_value_over(&values, &choices, [layer]);
            prop_assert_eq!(space.deciding_layers().map(by_layer).sum::<i32>(), expected);

            let action = Action::new(choices).unwrap();
            prop_assert_eq!(space.q_value(&values, &action).unwrap(), expected);
        }

        let by_layer = |layer| space.max_q_value_over(&values, [layer]);
        let most = space.deciding_layers().map(by_layer).sum::<i32>();
        prop_assert_eq!(space.max_q_value(&values).unwrap(), most);
    }
}

#[test]
fn values_that_are_not_numbers_do_not_win() {
    let space = ActionSpace::new(2);
    assert_eq!(space.greedy(&[1.0, f64::NAN]).unwrap().values(), [0, 0]);
    assert_eq!(space.best_choice(&[1.0, 2.0], 0), 0, "layer 0 can only choose itself");
}

#[test]
fn rejects_rows_and_actions_of_another_depth() {
    let space = ActionSpace::new(3);
    let wrong = StateError::ValueCount { expected: 5, got: 4 };
    assert_eq!(wrong.to_string(), "expected 5 values, one for each choice, got 4");
    assert_eq!(space.greedy(&[0.0; 4]), Err(wrong.clone()));
    assert_eq!(space.max_q_value(&[0.0; 4]), Err(wrong.clone()));
    assert_eq!(space.q_value(&[0.0; 4], &Action::all_zero(3)), Err(wrong));

    let deeper = StateError::DepthMismatch { expected: 3, got: 4 };
    assert_eq!(space.q_value(&[0.0; 5], &Action::all_zero(4)), Err(deeper));
    assert_eq!(ActionSpace::new(0).greedy::<f32>(&[]), Err(StateError::Empty));
}
