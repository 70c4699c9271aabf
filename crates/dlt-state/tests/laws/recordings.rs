//! Recordings and their text form.

use dlt_state::{Action, EventCounts, Recording, State};
use proptest::prelude::*;

use crate::strategies;

fn action(values: &[usize]) -> Action {
    Action::new(values.to_vec()).unwrap()
}

/// A recording with every kind of line.
fn example() -> Recording {
    let mut recording = Recording::starting_from(State::new(vec![0, 1, 0]).unwrap());
    recording.push(0, action(&[0, 1, 1]), Some(2)).unwrap();
    recording.push(15, action(&[0, 0, 1]), None).unwrap();
    recording
}

const EXAMPLE_TEXT: &str = r#"{"format":"dlt-states","version":1,"n_layers":3,"initial":[0,1,0]}
{"step":0,"layer":2,"action":[0,1,1],"state":[0,1,1]}
{"step":15,"action":[0,0,1],"state":[0,0,0]}
"#;

#[test]
fn text_form_is_as_documented() {
    assert_eq!(example().to_text(), EXAMPLE_TEXT);
    assert_eq!(Recording::parse(EXAMPLE_TEXT), Ok(example()));
}

/// Every kind of line where decisions may be refused.
fn gated_example() -> Recording {
    let mut recording = Recording::gated(State::new(vec![0, 1, 0]).unwrap());
    recording.push_refused(0, action(&[0, 0, 0]), None).unwrap();
    recording.push(15, action(&[0, 1, 1]), None).unwrap();
    recording.push_refused(30, action(&[0, 1, 2]), Some(2)).unwrap();
    recording
}

const GATED_TEXT: &str = r#"{"format":"dlt-states","version":2,"n_layers":3,"initial":[0,1,0]}
{"step":0,"action":[0,1,0],"state":[0,1,0],"refused":[0,0,0]}
{"step":15,"action":[0,1,1],"state":[0,1,1]}
{"step":30,"layer":2,"action":[0,1,1],"state":[0,1,1],"refused":[0,1,2]}
"#;

#[test]
fn text_form_of_version_2_is_as_documented() {
    assert_eq!(gated_example().to_text(), GATED_TEXT);
    assert_eq!(Recording::parse(GATED_TEXT), Ok(gated_example()));
    assert_eq!((example().version(), gated_example().version()), (1, 2));
}

#[test]
fn refused_decision_leaves_action_and_state_in_force() {
    let recording = gated_example();
    let refused: Vec<_> =
        recording.rows().iter().map(|row| row.refused().map(Action::values)).collect();
    assert_eq!(refused, [Some(&[0, 0, 0][..]), None, Some(&[0, 1, 2])]);
    assert_eq!(recording.state_at(40).owners(), [0, 1, 1]);
    assert_eq!(recording.event_counts(), EventCounts { tied: 1, untied: 0 });
    assert_eq!(recording.steps_independent(40), [40, 40, 0]);
}

#[test]
fn text_form_is_json_lines() {
    for line in EXAMPLE_TEXT.lines().chain(GATED_TEXT.lines()) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.is_object());
    }
}

#[test]
fn reader_takes_blanks_any_order_of_keys_and_no_last_end_of_line() {
    let text = "\t{ \"version\" : 1 , \"n_layers\":3,\"initial\": [ 0,1 , 0 ],\"format\":\"dlt-states\"} \r\n\
                {\"state\":[0,1,1],\"step\":0,\"action\":[0 ,1,1],\"layer\":2}\r\n\
                {\"step\":15,\"action\":[0,0,1],\"state\":[0,0,0]}";
    assert_eq!(Recording::parse(text), Ok(example()));
}

#[test]
fn recording_without_decisions_is_its_header() {
    let recording = Recording::new(3);
    assert_eq!(recording.to_text(), "{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":3}\n");
    assert_eq!(Recording::parse(&recording.to_text()), Ok(recording));
}

#[test]
fn last_decision_of_a_step_counts() {
    let mut recording = Recording::new(2);
    recording.push(5, action(&[0, 1]), None).unwrap();
    recording.push(5, action(&[0, 0]), None).unwrap();
    assert_eq!(recording.state_at(5), &State::all_tied(2));
    assert_eq!(recording.steps_independent(10), [10, 0]);
    assert_eq!(recording.event_counts(), EventCounts { tied: 1, untied: 1 });
}

proptest! {
    #[test]
    fn law_text_round_trips(recording in strategies::recording()) {
        let text = recording.to_text();
        prop_assert_eq!(Recording::parse(&text), Ok(recording.clone()));

        // A run that appends line by line writes the same file.
        let mut lines = vec![recording.header_line()];
        lines.extend(recording.rows().iter().map(dlt_state::Row::to_line));
        prop_assert_eq!(text, lines.join("\n") + "\n");
    }

    #[test]
    fn law_text_lines_are_what_a_json_reader_sees(recording in strategies::recording()) {
        let text = recording.to_text();

        for (line, row) in text.lines().skip(1).zip(recording.rows()) {
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&read["step"], row.step());
            prop_assert_eq!(&read["action"], &serde_json::json!(row.action().values()));
            prop_assert_eq!(&read["state"], &serde_json::json!(row.state().owners()));

            let refused = row.refused().map(|asked| serde_json::json!(asked.values()));
            prop_assert_eq!(read.get("refused"), refused.as_ref());
            prop_assert_eq!(read.get("layer").map(|layer| layer.as_u64().unwrap() as usize), row.layer());
        }
    }

    #[test]
    fn law_parse_never_panics(text in "[ -~\n]{0,80}") {
        // Such a text practically never has a valid header, so it is also an error.
        prop_assert!(Recording::parse(&text).is_err());
    }

    #[test]
    fn law_damaged_text_is_an_error_or_another_recording(recording in strategies::recording(), place in any::<prop::sample::Index>(), by in "[ -~\n]") {
        let text = recording.to_text();
        let place = place.index(text.len());
        let damaged = [&text[..place], &by, &text[place + 1..]].concat();

        if let Ok(read) = Recording::parse(&damaged) {
            prop_assert_eq!(Recording::parse(&read.to_text()), Ok(read));
        }
    }

    #[test]
    fn law_counts_over_steps_match_a_walk_through_them(recording in strategies::recording(), until_step in 0..400_usize) {
        let mut expected = vec![0; recording.n_layers()];
        for step in 0..until_step {
            let made = recording.iter().filter(|&(made, _)| made <= step).last();
            let state = made.map_or(recording.initial(), |(_, state)| state);
            prop_assert_eq!(recording.state_at(step), state);

            for (layer, steps) in expected.iter_mut().enumerate() {
                *steps += usize::from(state.is_independent(layer));
            }
        }

        prop_assert_eq!(recording.steps_independent(until_step), expected);
    }

    #[test]
    fn law_events_replay_to_the_recorded_states(recording in strategies::recording()) {
        let mut owners = recording.initial().owners().to_vec();
        let mut counts = EventCounts::default();
        let mut n_transitions = 0;

        for ((step, transition), row) in recording.transitions().zip(recording.rows()) {
            for event in transition.events() {
                owners[event.layer()] = event.new_owner();
            }

            prop_assert_eq!(step, row.step());
            prop_assert_eq!(&owners, row.state().owners());
            counts += transition.event_counts();
            n_transitions += 1;
        }

        prop_assert_eq!(n_transitions, recording.rows().len());
        prop_assert_eq!(recording.event_counts(), counts);
    }
}
