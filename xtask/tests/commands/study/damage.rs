//! Existing results with other settings, of somebody else, or damaged.

use std::fs;

use serde_json::Value;

use super::{RUNS, Study, row};

/// Changes a JSON file of the runs.
fn change(study: &Study, path: &str, with: impl FnOnce(&mut Value)) {
    let path = study.path(RUNS).join(path);
    let mut value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    with(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Changes arguments to those of a run with more steps.
fn of_more_steps(arguments: &mut Value) {
    let words = arguments.as_array_mut().unwrap();
    let steps = words.iter_mut().find(|word| *word == "training.steps=12").unwrap();
    *steps = "training.steps=13".into();
}

#[test]
fn a_cell_of_other_settings_is_set_aside_with_what_follows_it_and_run_again() {
    let study = Study::new();
    let arguments = ["ablation", "--only", "iii,vii"];
    let table = study.succeed(&arguments);

    // As if they had run when the grid had more steps for the full method.
    change(&study, "shakespeare/full-1.cell.json", |note| of_more_steps(&mut note["arguments"]));
    change(&study, "shakespeare/iii-1.cell.json", |note| {
        of_more_steps(&mut note["needs"]["shakespeare/full-1"])
    });
    fs::write(study.path(RUNS).join("shakespeare/full-1/mine"), "mine").unwrap();
    assert_eq!(row(&study.succeed(&["status"]), "shakespeare/full-1")[1], "stale: other settings");

    assert_eq!(study.succeed(&arguments), table);

    for (row, runs) in [("full", 2), ("iii", 2), ("vii", 1)] {
        assert_eq!(study.runs_of(&format!("shakespeare/{row}-1")).len(), runs, "{row}");
    }

    assert_eq!(study.read("shakespeare/full-1.before-1/mine"), "mine");
    assert_eq!(study.read("shakespeare/iii-1.before-1/metrics.jsonl").lines().count(), 5);

    let log = study.read("shakespeare/full-1.log");
    let said =
        format!("the old result has other settings: moved to {RUNS}/shakespeare/full-1.before-1\n");
    assert!(log.contains(&said), "{log}");

    // The second time has another name. A cell that only predicts is set aside too.
    change(&study, "shakespeare/full-1.cell.json", |note| of_more_steps(&mut note["arguments"]));
    study.succeed(&["ablation", "--only", "full"]);
    assert!(study.path(RUNS).join("shakespeare/full-1.before-2/summary.json").is_file());
    study.succeed(&["table", "3"]);
    change(&study, "memory-paper/conventional-1.cell.json", |note| {
        note["arguments"] = Value::Array(vec![])
    });
    study.succeed(&["table", "3"]);
    assert_eq!(study.read("memory-paper/conventional-1.before-1").lines().count(), 3);
}

#[test]
fn a_foreign_folder_in_the_place_of_a_cell_is_set_aside() {
    let study = Study::new();
    let place = study.path(RUNS).join("shakespeare");
    fs::create_dir_all(place.join("vii-1")).unwrap();
    fs::write(place.join("vii-1/summary.json"), "mine").unwrap();
    fs::write(place.join("viii-1"), "a file").unwrap();
    study.succeed(&["ablation", "--only", "vii,viii"]);
    assert_eq!(study.read("shakespeare/vii-1.before-1/summary.json"), "mine");
    assert_eq!(study.read("shakespeare/viii-1.before-1"), "a file");
}

#[test]
fn a_damaged_cell_fails_with_a_reason_and_the_others_continue() {
    let study = Study::new();
    study.succeed(&["ablation", "--only", "conventional,vii,viii,v"]);

    let place = study.path(RUNS).join("shakespeare");
    for (path, text) in [
        ("vii-1.cell.json", "garbage"),
        ("viii-1/summary.json", "{\"schema\":1}"),
        ("v-1/states.jsonl", "garbage"),
        ("conventional-1/provenance.json", ""),
    ] {
        fs::write(place.join(path), text).unwrap();
    }

    let arguments = ["ablation", "--only", "conventional,vii,viii,v,ix"];
    let (table, said) = study.fail(&arguments);

    for (label, path, away) in [
        ("(vii)", "vii-1.cell.json", "vii-1.cell.json"),
        ("(viii)", "viii-1/summary.json", "viii-1"),
        ("(v)", "v-1/states.jsonl", "v-1"),
        ("Conventional training", "conventional-1/provenance.json", "conventional-1"),
    ] {
        let failed = format!("FAILED, seed 1: damaged: {RUNS}/shakespeare/{path}: ");
        let cell = *row(&table, label).last().unwrap();
        assert!(cell.starts_with(&failed), "{cell}");

        let advice = format!("; move {RUNS}/shakespeare/{away} away to run it again");
        assert!(cell.contains(&advice) && said.contains(&advice), "{cell}\n{said}");
    }

    assert_eq!(row(&table, "(ix)").last(), Some(&"150.2"), "{table}");
    assert!(said.contains("1 done, 4 failed, 0 left; "), "{said}");

    let status = study.succeed(&["status"]);
    assert_eq!(row(&status, "shakespeare/vii-1")[1], "FAILED", "{status}");
    assert_eq!(study.read("shakespeare/vii-1.cell.json"), "garbage");
    assert!(
        study
            .succeed(&["ablation", "--all", "--dry-run"])
            .contains("| shakespeare/viii-1 | FAILED |")
    );

    // Following the advice helps.
    for path in ["vii-1.cell.json", "viii-1", "v-1", "conventional-1"] {
        fs::rename(place.join(path), place.join(format!("{path}.away"))).unwrap();
    }

    let table = study.succeed(&arguments);
    assert!(!table.contains("FAILED"), "{table}");
    assert_eq!(study.runs_of("shakespeare/ix-1").len(), 1);
}

#[test]
fn a_damaged_prediction_is_a_failed_cell() {
    let study = Study::new();
    study.succeed(&["table", "3"]);
    fs::write(study.path(RUNS).join("memory-paper/conventional-1.memory.jsonl"), "{}\n").unwrap();

    let (table, said) = study.fail(&["table", "3"]);
    let failed =
        "damaged: runs/study/smoke/memory-paper/conventional-1.memory.jsonl: line 1: no `state`";
    assert!(table.contains(failed) && said.contains(failed), "{table}\n{said}");
}

#[test]
fn incomplete_metrics_are_resumed_or_named() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/full-1");
    study.fail(&["ablation", "--only", "full"]);

    let metrics = study.path(RUNS).join("shakespeare/full-1/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, &text[..text.len() - 40]).unwrap();
    study.succeed(&["status"]);
    study.with("FAKE_FAILS", "");
    study.succeed(&["ablation", "--only", "full"]);
    assert_eq!(fs::read_to_string(&metrics).unwrap().lines().count(), 5);

    // In a finished run they are an error when the run is to be kept. The tables are made all the
    // same.
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, &text[..text.len() - 40]).unwrap();

    let (_, said) = study.fail(&["report", "--out", "kept"]);
    let named =
        "FAILED: shakespeare/full-1: runs/study/smoke/shakespeare/full-1/metrics.jsonl: line ";
    assert!(said.contains(named), "{said}");
    assert!(fs::read_to_string(study.path("kept/table-4.md")).unwrap().contains("150.2"));
}
