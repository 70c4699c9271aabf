//! Actions, states and events as text.

use dlt_state::{Action, State, StateError};
use proptest::prelude::*;

use crate::brute_force::{all_actions, all_states};
use crate::strategies;

#[test]
fn law_what_is_written_is_read_again() {
    for n_layers in 1..=5 {
        for values in all_actions(n_layers) {
            let action = Action::new(values).unwrap();
            assert_eq!(action.to_string().parse(), Ok(action));
        }

        for owners in all_states(n_layers) {
            let state = State::new(owners).unwrap();
            assert_eq!(state.to_string().parse(), Ok(state));
        }
    }
}

proptest! {
    /// Any brackets, separators and space around the numbers.
    #[test]
    fn law_any_way_of_writing_a_list_is_read(
        action in strategies::action(),
        brackets in 0..4_usize,
        separator in "[ \t\n]{1,3}|[ ]{0,2}[,;][ ]{0,2}",
        around in "[ \n]{0,2}",
    ) {
        let (open, close) = [("", ""), ("[", "]"), ("(", ")"), ("{", "}")][brackets];
        let numbers: Vec<_> = action.values().iter().map(ToString::to_string).collect();
        let numbers = numbers.join(&separator);
        let text = format!("{around}{open}{around}{numbers}{around}{close}{around}");
        prop_assert_eq!(text.parse(), Ok(action));
    }

    #[test]
    fn law_no_text_panics(text in "[\\[\\](){}0-9,; é-]{0,12}") {
        drop(text.parse::<Action>());
        drop(text.parse::<State>());
    }
}

#[test]
fn rejects_other_text() {
    let layer = "the number of a layer";
    for (text, column, expected, got) in [
        ("0,,1", 3, layer, Some(',')),
        (",0", 1, layer, Some(',')),
        ("0,-1", 3, layer, Some('-')),
        ("0, 1.5", 5, layer, Some('.')),
        ("[0, 1", 6, "a closing bracket", None),
        ("[0, 1)", 6, layer, Some(')')),
        ("0, 1]", 5, layer, Some(']')),
        ("[0][1]", 4, "the end of the list", Some('[')),
        ("0, é", 4, layer, Some('é')),
        ("0, 99999999999999999999", 4, "a smaller number", Some('9')),
    ] {
        let wrong = StateError::Syntax { column, expected, got };
        assert_eq!(text.parse::<Action>(), Err(wrong), "{text}");
    }

    assert_eq!("".parse::<State>(), Err(StateError::Empty));
    assert_eq!("[]".parse::<Action>(), Err(StateError::Empty));
    let too_large = StateError::EntryTooLarge { index: 1, value: 2, bound: 1 };
    assert_eq!("0 2".parse::<Action>(), Err(too_large));
}
