//! Studies and runs that are killed or fail, and what the same command does afterwards.

use std::fs::{self, File};

use super::{RUNS, Study, kill, row, wait_for};

/// Conventional training, the full method, and a row that needs it.
const COMMAND: [&str; 3] = ["ablation", "--only", "conventional,ii"];

/// When something is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// The second cell's `dlt` has just been started.
    Begun,
    /// It has made a step.
    Under,
}

const MOMENTS: [Moment; 2] = [Moment::Begun, Moment::Under];

/// A study at that moment, and the processes of the study and of its second cell.
fn at(moment: Moment) -> (Study, std::process::Child, u32) {
    let mut study = Study::new();
    study.with("FAKE_STEP_S", "0.1").with("FAKE_SLOW", "*/full-1");

    let child = study.start(&COMMAND);
    wait_for("the second cell", || study.cells().len() == 2);

    if moment == Moment::Under {
        wait_for("a step", || {
            study.read("shakespeare/full-1/metrics.jsonl").contains(r#""step":1,"#)
        });
    }

    let (process, _) = study.started()[1];
    study.with("FAKE_STEP_S", "");
    (study, child, process)
}

/// Checks that the same command finishes the rest, and runs nothing again that was finished.
fn finish(study: &Study, runs_of_full: usize) {
    let table = study.succeed(&COMMAND);
    for label in ["(ii)", "Conventional training", "Full method"] {
        assert_eq!(row(&table, label).last(), Some(&"150.2"), "{table}");
    }

    assert_eq!(study.runs_of("shakespeare/conventional-1").len(), 1);
    assert_eq!(study.runs_of("shakespeare/ii-1").len(), 1);
    assert_eq!(study.runs_of("shakespeare/full-1").len(), runs_of_full, "{:?}", study.commands());

    let metrics = study.read("shakespeare/full-1/metrics.jsonl");
    assert_eq!(metrics.lines().count(), 5, "{metrics}");

    // The checkpoints are gone, whichever process finished the run.
    assert!(!study.path(RUNS).join("shakespeare/full-1/checkpoint").exists());
    let before = study.commands();
    assert_eq!(study.succeed(&COMMAND), table);
    assert_eq!(study.commands(), before);
}

#[test]
fn a_run_that_outlives_its_study_is_waited_for_and_not_doubled() {
    for moment in MOMENTS {
        let (study, mut xtask, _) = at(moment);
        xtask.kill().unwrap();
        xtask.wait().unwrap();
        finish(&study, 1);
    }
}

#[test]
fn a_run_that_is_killed_fails_and_resumes_the_next_time() {
    for moment in MOMENTS {
        let (study, mut xtask, dlt) = at(moment);
        kill(dlt);
        assert_eq!(xtask.wait().unwrap().code(), Some(1));

        let said = fs::read_to_string(study.path("stderr")).unwrap();
        assert!(
            said.contains("shakespeare/full-1 FAILED: dlt was ended by the system (signal: 9"),
            "{said}"
        );
        finish(&study, 2);

        if moment == Moment::Under {
            let again = &study.runs_of("shakespeare/full-1")[1];
            assert!(
                again.starts_with(&format!("train --resume {RUNS}/shakespeare/full-1 --threads ")),
                "{again}"
            );
        }
    }
}

#[test]
fn a_study_that_is_killed_with_its_run_resumes() {
    for moment in MOMENTS {
        let (study, mut xtask, dlt) = at(moment);
        xtask.kill().unwrap();
        xtask.wait().unwrap();
        kill(dlt);
        finish(&study, 2);

        if moment == Moment::Under {
            assert!(study.runs_of("shakespeare/full-1")[1].starts_with("train --resume "));
            assert!(!study.path(RUNS).join("shakespeare/full-1.before-1").exists());
        }
    }
}

#[test]
fn two_studies_at_once_share_the_cells() {
    let mut study = Study::new();
    study.with("FAKE_STEP_S", "0.02");

    let rows = ["ablation", "--only", "conventional,ii,vii,viii"];
    let mut other = study.start(&rows);
    let table = study.succeed(&rows);

    assert!(
        other.wait().unwrap().success(),
        "{}",
        fs::read_to_string(study.path("stderr")).unwrap()
    );
    let mut cells = study.cells();
    cells.sort();

    let expected =
        ["conventional", "full", "ii", "vii", "viii"].map(|row| format!("shakespeare/{row}-1"));
    assert_eq!(cells, expected);
    assert_eq!(row(&table, "(viii)").last(), Some(&"150.2"));
}

#[test]
fn a_run_that_was_started_by_hand_is_waited_for() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/vii-1");
    study.fail(&["ablation", "--only", "vii"]);
    study.with("FAKE_FAILS", "");

    // `dlt train --resume` locks this file first.
    let lock = File::create(study.path(RUNS).join("shakespeare/vii-1/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(row(&study.succeed(&["status"]), "shakespeare/vii-1")[1..3], ["running", "2"]);

    let mut xtask = study.start(&["ablation", "--only", "vii,viii"]);
    let said = || fs::read_to_string(study.path("stderr")).unwrap();
    wait_for("word of the other process", || {
        said().contains("shakespeare/vii-1: another process runs it, waiting for that process")
    });
    wait_for("the other cell", || study.runs_of("shakespeare/viii-1").len() == 1);
    assert_eq!(study.runs_of("shakespeare/vii-1").len(), 1);
    drop(lock);
    assert!(xtask.wait().unwrap().success(), "{}", said());
    assert_eq!(study.runs_of("shakespeare/vii-1").len(), 2);
}

#[test]
fn a_cell_that_fails_is_in_the_table_and_the_others_continue() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/full-1 */vii-1");

    let arguments = ["ablation", "--only", "i,iii,vii,viii"];
    let (table, said) = study.fail(&arguments);
    let log = format!("{RUNS}/shakespeare/vii-1.log");
    let failed = format!("FAILED, seed 1: training diverged (exit code 6), {log}");

    assert_eq!(row(&table, "(vii)").last(), Some(&&*failed), "{table}");
    assert!(
        fs::read_to_string(study.path(&log))
            .unwrap()
            .ends_with("error: the loss is not a finite number\n")
    );
    assert_eq!(row(&table, "(viii)").last(), Some(&"150.2"), "{table}");

    let left = "seed 1 not run, as it needs shakespeare/full-1, which FAILED";
    assert_eq!(row(&table, "(i)").last(), Some(&left), "{table}");
    assert_eq!(study.cells(), ["full", "vii", "viii"].map(|row| format!("shakespeare/{row}-1")));

    for text in [
        "shakespeare/vii-1 FAILED: training diverged (exit code 6); see runs/",
        "left (needs shakespeare/full-1, which failed): shakespeare/i-1, shakespeare/iii-1\n",
        "1 done, 2 failed, 2 left; ",
    ] {
        assert!(said.contains(text), "no {text} in\n{said}");
    }

    let status = study.succeed(&["status"]);
    let why = format!("training diverged (exit code 6); {log}");
    assert_eq!(row(&status, "shakespeare/vii-1")[1..], ["FAILED", "", "", &why], "{status}");

    let waits = row(&status, "shakespeare/iii-1");
    assert_eq!(waits[1..], ["waits for another", "", "", "needs shakespeare/full-1"], "{status}");
    assert_eq!(row(&status, "shakespeare/viii-1")[1..4], ["done", "4", "148.50"], "{status}");

    study.with("FAKE_FAILS", "");

    let table = study.succeed(&arguments);
    assert!(!table.contains("FAILED"), "{table}");
    assert!(study.runs_of("shakespeare/vii-1")[1].starts_with("train --resume "));
    assert_eq!(study.runs_of("shakespeare/viii-1").len(), 1);
    assert_eq!(row(&study.succeed(&["status"]), "shakespeare/vii-1")[1], "done");
}

#[test]
fn an_unknown_exit_code_is_shown_unchanged() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/vii-1").with("FAKE_CODE", "77");

    let (table, _) = study.fail(&["ablation", "--only", "vii"]);
    assert!(
        row(&table, "(vii)")[4].starts_with("FAILED, seed 1: dlt ended with exit code 77, "),
        "{table}"
    );
}

#[test]
fn an_interrupted_run_ends_the_study_and_resumes_the_next_time() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/vii-1").with("FAKE_CODE", "130");

    let arguments = ["ablation", "--only", "vii,viii"];
    let (table, said) = study.fail(&arguments);
    assert!(said.contains("left (interrupted): shakespeare/vii-1, shakespeare/viii-1\n"), "{said}");
    assert!(!table.contains("FAILED"), "{table}");
    assert_eq!(row(&study.succeed(&["status"]), "shakespeare/vii-1")[1..3], ["stopped", "2"]);
    study.with("FAKE_FAILS", "");
    study.succeed(&arguments);
    assert!(study.runs_of("shakespeare/vii-1")[1].starts_with("train --resume "));
}
