//! One test for each kind of bad input.

use dlt_state::{Action, Recording, State, StateError};

/// The reason why the given line of a text is invalid.
fn error_at(line: usize, text: &str) -> StateError {
    match Recording::parse(text).unwrap_err() {
        StateError::Line { line: got, error } if got == line => *error,
        other => panic!("expected an error at line {line}, got {other:?}"),
    }
}

const HEADER: &str = r#"{"format":"dlt-states","version":1,"n_layers":3}"#;

/// The reason why a decision, in the third line, is invalid.
fn row_error(row: &str) -> StateError {
    let good = r#"{"step":15,"action":[0,1,0],"state":[0,1,0]}"#;
    error_at(3, &format!("{HEADER}\n{good}\n{row}\n"))
}

fn syntax(column: usize, expected: &'static str, got: Option<char>) -> StateError {
    StateError::Syntax { column, expected, got }
}

#[test]
fn rejects_actions() {
    assert_eq!(Action::new(vec![]), Err(StateError::Empty));
    assert_eq!(
        Action::new(vec![1]),
        Err(StateError::EntryTooLarge { index: 0, value: 1, bound: 0 })
    );

    assert_eq!(
        Action::new(vec![0, 1, 7, 9]),
        Err(StateError::EntryTooLarge { index: 2, value: 7, bound: 2 })
    );
}

#[test]
fn rejects_states() {
    assert_eq!(State::new(vec![]), Err(StateError::Empty));
    assert_eq!(
        State::new(vec![0, 2]),
        Err(StateError::EntryTooLarge { index: 1, value: 2, bound: 1 })
    );

    assert_eq!(
        State::new(vec![0, 0, 1]),
        Err(StateError::NotFixedPoint { index: 2, value: 1, owner: 0 })
    );
}

#[test]
fn rejects_replacements_and_leaves_the_action() {
    let mut action = Action::all_zero(2);
    assert_eq!(action.replace(2, 0), Err(StateError::LayerOutOfRange { layer: 2, n_layers: 2 }));
    assert_eq!(
        action.replace(1, 2),
        Err(StateError::EntryTooLarge { index: 1, value: 2, bound: 1 })
    );
    assert_eq!(action, Action::all_zero(2));
}

#[test]
fn rejects_decisions_and_leaves_the_recording() {
    let mut recording = Recording::new(3);
    recording.push(15, Action::all_zero(3), None).unwrap();

    let before = recording.clone();
    let mut push =
        |step, n_layers, layer| recording.push(step, Action::all_zero(n_layers), layer).map(|_| ());
    assert_eq!(push(15, 4, None), Err(StateError::DepthMismatch { expected: 3, got: 4 }));
    assert_eq!(push(15, 3, Some(3)), Err(StateError::LayerOutOfRange { layer: 3, n_layers: 3 }));
    assert_eq!(push(14, 3, None), Err(StateError::StepDecreased { previous: 15, step: 14 }));
    assert_eq!(recording, before);
}

#[test]
fn rejects_refused_decisions_and_leaves_the_recording() {
    let mut plain = Recording::new(3);
    let refused = plain.push_refused(15, Action::all_zero(3), None).map(|_| ());
    assert_eq!((refused, plain), (Err(StateError::NotGated), Recording::new(3)));

    let mut recording = Recording::gated(State::independent(3));
    recording.push(15, Action::all_zero(3), None).unwrap();

    let before = recording.clone();
    let mut push = |step, n_layers, layer| {
        recording.push_refused(step, Action::all_zero(n_layers), layer).map(|_| ())
    };
    assert_eq!(push(15, 4, None), Err(StateError::DepthMismatch { expected: 3, got: 4 }));
    assert_eq!(push(15, 3, Some(3)), Err(StateError::LayerOutOfRange { layer: 3, n_layers: 3 }));
    assert_eq!(push(14, 3, None), Err(StateError::StepDecreased { previous: 15, step: 14 }));
    assert_eq!(recording, before);
}

#[test]
fn rejects_lines_of_refused_decisions_that_cannot_be() {
    let refused = |action: &str, refused: &str| {
        format!(r#"{{"step":30,"action":{action},"state":{action},"refused":{refused}}}"#)
    };
    assert_eq!(row_error(&refused("[0,1,0]", "[0,0,0]")), StateError::NotGated);

    let gated = |row: &str| {
        let good = r#"{"step":15,"action":[0,1,0],"state":[0,1,0]}"#;
        let header = HEADER.replace("\"version\":1", "\"version\":2");
        error_at(3, &format!("{header}\n{good}\n{row}\n"))
    };

    assert_eq!(
        gated(&refused("[0,1,1]", "[0,0,0]")),
        StateError::RefusedChanges { layer: 2, expected: 0, got: 1 }
    );

    assert_eq!(
        gated(&refused("[0,1]", "[0,0,0]")),
        StateError::DepthMismatch { expected: 3, got: 2 }
    );

    assert_eq!(
        gated(&refused("[0,1,0]", "[0,0]")),
        StateError::DepthMismatch { expected: 3, got: 2 }
    );

    assert_eq!(
        gated(&refused("[0,1,0]", "[0,0,3]")),
        StateError::EntryTooLarge { index: 2, value: 3, bound: 2 }
    );

    assert_eq!(
        gated(r#"{"step":30,"action":[0,1,0],"state":[0,1,1],"refused":[0,0,0]}"#),
        StateError::StateMismatch { layer: 2, expected: 0, got: 1 }
    );

    let twice =
        r#"{"step":30,"action":[0,1,0],"state":[0,1,0],"refused":[0,0,0],"refused":[0,0,0]}"#;
    assert_eq!(gated(twice), StateError::DuplicateKey { key: "refused" });
}

#[test]
fn rejects_values_without_a_layer() {
    type Maker = fn();
    let makers: [Maker; 4] = [
        || drop(Action::all_zero(0)),
        || drop(State::all_tied(0)),
        || drop(State::independent(0)),
        || drop(Recording::new(0)),
    ];

    for maker in makers {
        let panic = std::panic::catch_unwind(maker).unwrap_err();
        let message = panic.downcast_ref::<&str>().unwrap();
        assert_eq!(*message, "expected at least one layer, got none");
    }
}

#[test]
fn rejects_headers_of_another_kind() {
    assert_eq!(error_at(1, ""), syntax(1, "`{`", None));
    assert_eq!(
        error_at(1, r#"{"format":"states","version":1,"n_layers":3}"#),
        StateError::UnknownFormat { got: "states".into(), expected: "dlt-states" }
    );

    assert_eq!(
        error_at(1, r#"{"format":"dlt-states","version":3,"n_layers":3}"#),
        StateError::UnknownVersion { got: 3, newest: 2 }
    );

    assert_eq!(
        error_at(1, r#"{"format":"dlt-states","version":0,"n_layers":3}"#),
        StateError::UnknownVersion { got: 0, newest: 2 }
    );

    for (key, text) in [
        ("format", r#"{"version":1,"n_layers":3}"#),
        ("version", r#"{"format":"dlt-states","n_layers":3}"#),
        ("n_layers", r#"{"format":"dlt-states","version":1}"#),
    ] {
        assert_eq!(error_at(1, text), StateError::MissingKey { key });
    }
}

#[test]
fn rejects_headers_with_impossible_depths() {
    let header =
        |rest: &str| error_at(1, &format!(r#"{{"format":"dlt-states","version":1,{rest}}}"#));
    assert_eq!(header(r#""n_layers":0"#), StateError::Empty);
    assert_eq!(
        header(r#""n_layers":4000000000"#),
        StateError::TooDeep { n_layers: 4_000_000_000, limit: 65_536 }
    );

    let blanks = " ".repeat(800_000);
    assert!(matches!(header(&format!(r#""n_layers":3{blanks}"#)), StateError::LongLine { .. }));

    assert_eq!(
        header(r#""n_layers":3,"initial":[0,1]"#),
        StateError::DepthMismatch { expected: 3, got: 2 }
    );

    assert_eq!(
        header(r#""n_layers":3,"initial":[0,0,1]"#),
        StateError::NotFixedPoint { index: 2, value: 1, owner: 0 }
    );
}

#[test]
fn rejects_rows_that_contradict_themselves_or_others() {
    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1,1],"state":[0,1,0]}"#),
        StateError::StateMismatch { layer: 2, expected: 1, got: 0 }
    );

    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1,0],"state":[0,1]}"#),
        StateError::DepthMismatch { expected: 3, got: 2 }
    );

    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1],"state":[0,1]}"#),
        StateError::DepthMismatch { expected: 3, got: 2 }
    );

    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1,3],"state":[0,1,0]}"#),
        StateError::EntryTooLarge { index: 2, value: 3, bound: 2 }
    );
    assert_eq!(row_error(r#"{"step":30,"action":[],"state":[]}"#), StateError::Empty);

    assert_eq!(
        row_error(r#"{"step":14,"action":[0,1,0],"state":[0,1,0]}"#),
        StateError::StepDecreased { previous: 15, step: 14 }
    );

    assert_eq!(
        row_error(r#"{"step":30,"layer":3,"action":[0,1,0],"state":[0,1,0]}"#),
        StateError::LayerOutOfRange { layer: 3, n_layers: 3 }
    );
}

#[test]
fn rejects_rows_with_wrong_keys() {
    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1,0],"state":[0,1,0],"loss":1}"#),
        StateError::UnknownKey { key: "loss".into() }
    );

    assert_eq!(
        row_error(r#"{"step":30,"action":[0,1,0],"state":[0,1,0],"step":31}"#),
        StateError::DuplicateKey { key: "step" }
    );

    for (key, row) in [
        ("step", r#"{"action":[0,1,0],"state":[0,1,0]}"#),
        ("action", r#"{"step":30,"state":[0,1,0]}"#),
        ("state", r#"{"step":30,"action":[0,1,0]}"#),
    ] {
        assert_eq!(row_error(row), StateError::MissingKey { key });
    }
}

#[test]
fn rejects_rows_that_are_no_lines_of_the_form() {
    for (row, column, expected, got) in [
        ("", 1, "`{`", None),
        ("[0]", 1, "`{`", Some('[')),
        ("{}", 2, "a key", Some('}')),
        (r#"{"step"}"#, 8, "`:`", Some('}')),
        (r#"{"step":30"#, 11, "`,` or `}`", None),
        (r#"{"step":30,}"#, 12, "a key", Some('}')),
        (r#"{"step":-1}"#, 9, "a whole number", Some('-')),
        (r#"{"step":1.5}"#, 10, "`,` or `}`", Some('.')),
        (r#"{"step":1e3}"#, 10, "`,` or `}`", Some('e')),
        (r#"{"step":"1"}"#, 9, "a whole number", Some('"')),
        (r#"{"step":null}"#, 9, "a whole number", Some('n')),
        (r#"{"step":007}"#, 9, "a whole number without leading zeros", Some('0')),
        (
            r#"{"step":99999999999999999999}"#,
            9,
            "a number that fits the machine's words",
            Some('9'),
        ),
        (r#"{"action":0}"#, 11, "`[`", Some('0')),
        (r#"{"action":[0,]}"#, 14, "a whole number", Some(']')),
        (r#"{"action":[0 1]}"#, 14, "`,` or `]`", Some('1')),
        (r#"{"action":[0,1"#, 15, "`,` or `]`", None),
        (r#"{"é\u0070":1}"#, 4, "`\"` or a character without an escape", Some('\\')),
        (r#"{"step"#, 7, "`\"` or a character without an escape", None),
        (
            r#"{"step":30,"action":[0,1,0],"state":[0,1,0]} {}"#,
            46,
            "the end of the line",
            Some('{'),
        ),
    ] {
        assert_eq!(row_error(row), syntax(column, expected, got), "{row}");
    }
}

/// Every message says what was expected, what was found and where; none is just a name.
#[test]
fn messages_say_what_was_expected_and_found() {
    let messages = [
        (row_error("{}"), r#"column 2: expected a key, got '}'"#),
        (row_error(""), "column 1: expected `{`, got the end of the line"),
        (StateError::Empty, "expected at least one layer, got none"),
        (
            StateError::EntryTooLarge { index: 2, value: 7, bound: 2 },
            "entry 2 is 7: expected at most 2",
        ),
        (
            StateError::NotFixedPoint { index: 2, value: 1, owner: 0 },
            "entry 2 is 1: expected an owner, but layer 1 is owned by layer 0",
        ),
        (StateError::DepthMismatch { expected: 3, got: 4 }, "expected 3 layers, got 4"),
        (StateError::TooDeep { n_layers: 9, limit: 8 }, "expected at most 8 layers, got 9"),
        (StateError::LongLine { bytes: 9, limit: 8 }, "expected a line of at most 8 bytes, got 9"),
        (
            StateError::LayerOutOfRange { layer: 3, n_layers: 3 },
            "expected one of the 3 layers, got layer 3",
        ),
        (
            StateError::NotPermutation { index: 1, value: 3, n_layers: 3 },
            "entry 1 of the permutation is 3: expected each of 0..3 once",
        ),
        (StateError::GroupCount { groups: 5, n_layers: 4 }, "expected 1 to 4 groups, got 5"),
        (
            StateError::StepDecreased { previous: 15, step: 14 },
            "expected a step of at least 15, got 14",
        ),
        (
            StateError::StateMismatch { layer: 2, expected: 1, got: 0 },
            "owner of layer 2 is 0: expected 1 by Eq. 1 of the action",
        ),
        (StateError::UnknownKey { key: "loss".into() }, r#"unknown key "loss""#),
        (StateError::DuplicateKey { key: "step" }, r#"key "step" appears twice"#),
        (StateError::MissingKey { key: "step" }, r#"key "step" is missing"#),
        (
            StateError::UnknownFormat { got: "states".into(), expected: "dlt-states" },
            r#"expected format "dlt-states", got "states""#,
        ),
        (StateError::UnknownVersion { got: 3, newest: 2 }, "expected a version from 1 to 2, got 3"),
        (
            StateError::NotAnOwner { layer: 2, owner: 0 },
            "expected the owner of a group, got layer 2, which layer 0 owns",
        ),
        (
            StateError::NotAMember { layer: 3, owner: 0 },
            "expected layers of the group of layer 0, got layer 3",
        ),
        (
            StateError::NotRising { previous: 2, layer: 1 },
            "expected layers in rising order, got 1 after 2",
        ),
        (
            StateError::EmptyPart { owner: 0 },
            "expected at least one layer of the group of layer 0, got none",
        ),
        (
            StateError::WholeGroup { owner: 0 },
            "expected a part of the group of layer 0, got all of it",
        ),
        (
            StateError::SameGroup { owner: 1 },
            "expected two groups to merge, got the group of layer 1 twice",
        ),
        (
            StateError::NotGated,
            "expected a recording of version 2 for a refused decision, got one of version 1",
        ),
        (
            StateError::RefusedChanges { layer: 2, expected: 0, got: 1 },
            "entry 2 next to a refused action is 1: expected 0, as before it",
        ),
        (
            StateError::Line { line: 4, error: Box::new(StateError::Empty) },
            "line 4: expected at least one layer, got none",
        ),
    ];

    for (error, message) in messages {
        assert_eq!(error.to_string(), message);
    }
}
