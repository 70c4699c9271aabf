//! `dlt inspect` of a run, of a model file and of a recording.

use crate::workplace::Workplace;

#[test]
fn a_run_shows_its_sharing_its_parameters_and_its_decisions() {
    let place = Workplace::new();
    place.train("run", &[]);

    let shown = place.dlt(&["inspect", "run"]).ok().out;
    for part in [
        "smoke, seed 1: finished after 12 steps",
        "State (the owner of each layer): 0",
        "● independent",
        "transformer.wte.weight",
        "50257 x 32",
        "transformer.h.N.attn.c_attn.weight",
        "with no layer tied",
        "Decisions: 5",
        "steps independent",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }

    let conventional = place.json("run/summary.json")["conventional_parameters"].as_u64().unwrap();
    let digits: String = shown
        .lines()
        .find(|line| line.contains("with no layer tied"))
        .and_then(|line| line.split_whitespace().last())
        .unwrap()
        .replace(',', "");
    assert_eq!(digits, conventional.to_string());
}

#[test]
fn a_model_file_is_described_by_itself() {
    let place = Workplace::new();
    place.train("run", &["--set", "tying.initial=[0, 1, 0]", "--set", "agent.policy=none"]);
    std::fs::rename(place.path("run/model.safetensors"), place.path("alone.safetensors")).unwrap();

    let shown = place.dlt(&["inspect", "alone.safetensors"]).ok().out;
    assert!(shown.contains("State (the owner of each layer): 0 1 0"), "{shown}");
    assert!(shown.contains("╭───────╮") && shown.contains("2 groups:  0 2  |  1"), "{shown}");
}

#[test]
fn frozen_layers_are_told_from_tied_ones() {
    let place = Workplace::new();
    place.train("run", &["--set", "agent.policy=none"]);
    let shown = place.dlt(&["inspect", "run"]).ok().out;
    assert!(shown.contains("●   ◌   ◌") && shown.contains("1 group, 2 frozen"), "{shown}");
}

/// Replicated layers are tied in the state, but have their own blocks.
#[test]
fn replicated_layers_are_tied_in_the_state_and_blocks_of_their_own() {
    let place = Workplace::new();
    let sets = ["tying.tie=replicate", "agent.policy=fixed", "agent.pattern=[0, 1, 0]"];
    let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();

    place.train("run", &sets);
    let shown = place.dlt(&["inspect", "run"]).ok().out;
    let cells = |name: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line[line.find(name).unwrap() + name.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };

    assert_eq!(cells("independent layers"), ["2"], "{shown}");
    assert_eq!(cells("distinct layers in memory"), ["3"], "{shown}");
    assert_eq!(cells("trainable now"), cells("with no layer tied"), "{shown}");
    assert!(shown.contains("State (the owner of each layer): 0 1 0"), "{shown}");
    assert!(shown.contains("Storage (the lowest layer with the same weights): 0 1 2"), "{shown}");

    let memory = |more: &[&str]| {
        let said = place.dlt(&[&["inspect", "--memory", "run", "--json"], more].concat()).ok().out;
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        said.lines().map(|text| line(text)["trained_blocks"].as_u64().unwrap()).collect::<Vec<_>>()
    };

    assert_eq!(memory(&[]), [1, 3]);
    assert_eq!(memory(&["--owners", "0,1,0"]), [3]);
}

#[test]
fn predicted_memory_knows_the_layers_that_no_tie_may_touch() {
    let place = Workplace::new();
    let base = ["inspect", "--memory", "smoke", "--json", "--set", "model.layers=12"];
    let base = [&base[..], &["--set", "tying.exempt=ends"]].concat();

    let said = place.dlt(&base).ok().out;
    let blocks = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["trained_blocks"].as_u64().unwrap()
    };
    let rows: Vec<_> = said.lines().map(blocks).collect();
    // 1 + 1/2 + … + 1/10 is about 3, and two layers are exempt.
    assert_eq!(rows[1..], [5, 12], "{said}");

    let tied = ["--owners", "0,0,0,0,0,0,0,0,0,0,0,0"];
    let refused = place.dlt(&[&base[..], &tied].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("expected no tie with a layer of tying.exempt"), "{refused:?}");
}

#[test]
fn a_recording_shows_how_long_each_layer_was_independent() {
    let place = Workplace::new();
    let rows = [
        r#"{"format":"dlt-states","version":1,"n_layers":3}"#,
        r#"{"step":10,"action":[0,1,1],"state":[0,1,1]}"#,
        r#"{"step":20,"action":[0,0,0],"state":[0,0,0]}"#,
    ];
    place.write("states.jsonl", rows.join("\n") + "\n");

    let shown = place.dlt(&["inspect", "states.jsonl"]).ok().out;
    assert!(shown.contains("Decisions: 2; tied events: 3; untied events: 1"), "{shown}");

    let cells = |line: &str| line.split_whitespace().take(6).map(str::to_owned).collect::<Vec<_>>();
    let table = shown.lines().skip_while(|line| !line.contains("steps independent"));
    let layer = table.map(cells).find(|cells| cells[0] == "1").unwrap();

    assert_eq!(layer, ["1", "0", "1", "1", "10", "0.50"], "{shown}");
}

#[test]
fn a_picture_is_drawn_and_a_file_that_is_there_stays() {
    let place = Workplace::new();
    let rows = [
        r#"{"format":"dlt-states","version":1,"n_layers":3}"#,
        r#"{"step":10,"action":[0,1,1],"state":[0,1,1]}"#,
    ];
    place.write("states.jsonl", rows.join("\n") + "\n");
    place.dlt(&["inspect", "states.jsonl", "--svg", "map.svg"]).ok();

    let picture = place.read("map.svg");
    assert!(
        picture.contains("after step 10") && picture.matches("class=\"arc\"").count() == 1,
        "{picture}"
    );

    let again = place.dlt(&["inspect", "states.jsonl", "--svg", "map.svg"]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert_eq!(place.read("map.svg"), picture);
}

#[test]
fn a_recording_with_a_gate_says_how_many_decisions_were_undone() {
    let place = Workplace::new();
    let mut recording = dlt_state::Recording::gated(dlt_state::State::independent(3));
    recording.push(2, dlt_state::Action::new(vec![0, 0, 2]).unwrap(), None).unwrap();

    for step in [4, 6] {
        recording.push_refused(step, dlt_state::Action::all_zero(3), None).unwrap();
    }

    place.write("states.jsonl", recording.to_text());
    let shown = place.dlt(&["inspect", "states.jsonl"]).ok().out;
    assert!(shown.contains("Decisions: 3 (2 undone by the gate); tied events: 1;"), "{shown}");
    place.train("run", &[]);
    assert!(!place.dlt(&["inspect", "run"]).ok().out.contains("undone"));
}
