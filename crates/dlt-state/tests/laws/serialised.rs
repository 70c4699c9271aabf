//! The optional serde forms. Reading checks them.

use dlt_state::binding::{Binding, Retied};
use dlt_state::{Action, ActionSpace, Event, EventCounts, Recording, State, Transition};
use proptest::prelude::*;
use serde_json::{from_str, from_value, json, to_value};

use crate::strategies;

#[test]
fn serde_forms_are_as_plain_as_they_can_be() {
    let state = State::new(vec![0, 1, 0]).unwrap();
    let transition = State::all_tied(3).transition_to(&state).unwrap();
    assert_eq!(to_value(Action::all_zero(2)).unwrap(), json!([0, 0]));
    assert_eq!(to_value(&state).unwrap(), json!([0, 1, 0]));
    assert_eq!(to_value(&transition).unwrap(), json!({"from": [0, 0, 0], "to": [0, 1, 0]}));
    assert_eq!(to_value(ActionSpace::new(3)).unwrap(), json!({"n_layers": 3}));

    assert_eq!(
        to_value(EventCounts { tied: 1, untied: 2 }).unwrap(),
        json!({"tied": 1, "untied": 2})
    );

    assert_eq!(
        to_value(transition.events()).unwrap(),
        json!([{"untied": {"layer": 1, "from": 0}}])
    );

    assert_eq!(
        to_value(Event::Tied { layer: 2, from: 2, to: 0 }).unwrap(),
        json!({"tied": {"layer": 2, "from": 2, "to": 0}})
    );
}

#[test]
fn serde_form_of_a_recording_without_refusals_is_the_old_one() {
    let mut recording = Recording::new(2);
    recording.push(5, Action::new(vec![0, 1]).unwrap(), None).unwrap();
    assert_eq!(
        to_value(&recording).unwrap(),
        json!({"initial": [0, 0], "rows": [{"step": 5, "layer": null, "action": [0, 1]}]})
    );
}

#[test]
fn rejects_serde_forms_of_invalid_values() {
    let message = |error: serde_json::Error| error.to_string();
    let action = from_str::<Action>("[0,2]").map_err(message);
    assert_eq!(action, Err("entry 1 is 2: expected at most 1".into()));
    assert_eq!(
        from_str::<Action>("[]").map_err(message),
        Err("expected at least one layer, got none".into())
    );

    let state = from_str::<State>("[0,0,1]").map_err(message);
    assert_eq!(
        state,
        Err("entry 2 is 1: expected an owner, but layer 1 is owned by layer 0".into())
    );

    let transition = from_str::<Transition>(r#"{"from":[0,0],"to":[0]}"#).map_err(message);
    assert_eq!(transition, Err("expected 2 layers, got 1".into()));

    let recording = |rows: &str| {
        from_str::<Recording>(&format!(r#"{{"initial":[0,0],"rows":[{rows}]}}"#)).map_err(message)
    };
    let refused = r#"{"step":4,"action":[0,1],"layer":null,"refused":[0,0]}"#;

    assert_eq!(
        recording(refused),
        Err("expected a recording of version 2 for a refused decision, got one of version 1".into())
    );

    let gated = format!(r#"{{"initial":[0,0],"gated":true,"rows":[{refused}]}}"#);
    assert_eq!(
        from_str::<Recording>(&gated).map_err(message),
        Err("entry 1 next to a refused action is 1: expected 0, as before it".into())
    );

    let row = r#"{"step":5,"layer":null,"action":[0,1]}"#;
    assert_eq!(recording(row).map(|recording| recording.rows().len()), Ok(1));

    assert_eq!(
        recording(&format!(r#"{row},{{"step":4,"action":[0,1]}}"#)),
        Err("expected a step of at least 5, got 4".into())
    );

    assert_eq!(
        recording(r#"{"step":4,"action":[0,1],"layer":2}"#),
        Err("expected one of the 2 layers, got layer 2".into())
    );

    assert!(
        recording(r#"{"step":4,"action":[0,1],"state":[0,1]}"#)
            .unwrap_err()
            .starts_with("unknown field")
    );
}

proptest! {
    #[test]
    fn law_serde_round_trips(recording in strategies::recording()) {
        let text = serde_json::to_string(&recording).unwrap();
        prop_assert_eq!(from_str::<Recording>(&text).unwrap(), recording.clone());

        for (_, transition) in recording.transitions() {
            let text = serde_json::to_string(&transition).unwrap();
            prop_assert_eq!(from_str::<Transition>(&text).unwrap(), transition);
        }
    }
}

#[test]
fn serde_form_of_a_binding_is_its_saved_one() {
    let binding = Binding::frozen(2);
    let form = json!({"storage": [0, 1], "frozen": [1], "independent": [0], "next": 2});
    assert_eq!(to_value(&binding).unwrap(), form);
    assert_eq!(from_value::<Binding>(form.clone()).unwrap(), binding);
    assert_eq!(to_value(Retied::Keep).unwrap(), json!("keep"));

    let mut wrong = form;
    wrong["next"] = json!(1);
    let error = from_value::<Binding>(wrong).unwrap_err().to_string();
    assert_eq!(error, "expected storages below 1, got storage 1");
}
