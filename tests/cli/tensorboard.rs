//! `dlt train --tensorboard` and `dlt convert`: event files and tables of real runs.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::workplace::Workplace;

#[path = "../../crates/dlt-report/tests/records/reader.rs"]
mod reader;

use reader::{Event, read};

/// Values that depend on the clock or on the machine.
const TIMES: [&str; 2] = ["train/tokens_per_s", "memory/resident_mb"];

/// The one event file of a run.
fn event_file(place: &Workplace, run: &str) -> PathBuf {
    let mut files = fs::read_dir(place.path(&format!("{run}/tensorboard"))).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "there must be one event file, or steps are shown twice");
    file
}

fn events(place: &Workplace, run: &str) -> Vec<Event> {
    read(&fs::read(event_file(place, run)).unwrap()).unwrap()
}

/// Events without their times.
fn timeless(events: Vec<Event>) -> Vec<Event> {
    let timeless = |mut event: Event| {
        event.values.retain(|(tag, _)| !TIMES.contains(&tag.as_str()));
        Event { wall_time: 0.0, ..event }
    };
    events.into_iter().map(timeless).collect()
}

fn steps(place: &Workplace, run: &str) -> usize {
    let metrics =
        fs::read_to_string(place.path(&format!("{run}/metrics.jsonl"))).unwrap_or_default();
    metrics.matches("\"kind\":\"step\"").count()
}

#[test]
fn law_a_killed_and_resumed_run_has_the_events_of_one_that_was_left_alone() {
    let place = Workplace::new();
    let arguments = |run: &'static str| {
        let mut arguments =
            vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "40", "--out", run];

        for setting in
            ["tying.decide_every=3", "evaluation.every_steps=7", "checkpoint.every_steps=4"]
        {
            arguments.extend(["--set", setting]);
        }

        arguments.extend(["--threads", "1", "--tensorboard", "--quiet"]);
        arguments
    };

    place.dlt(&arguments("whole")).ok();
    let mut child = place.command(&arguments("killed")).stdout(Stdio::null()).spawn().unwrap();
    while steps(&place, "killed") < 10 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        sleep(Duration::from_millis(2));
    }

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("killed/summary.json").exists(), "the run was over before it was killed");

    let before = event_file(&place, "killed");
    let step = |event: &Event| {
        event.values.first().filter(|(tag, _)| tag == "train/loss").map(|_| event.step)
    };
    let seen = read(&fs::read(&before).unwrap()).unwrap().iter().filter_map(step).max();

    assert!(seen >= Some(9), "events come while a run is under way: {seen:?}");

    // A run that has an event file continues it.
    place.dlt(&["train", "--resume", "killed", "--threads", "1", "--quiet"]).ok();
    assert_eq!(event_file(&place, "killed"), before);

    let whole = events(&place, "whole");
    let killed = events(&place, "killed");
    assert!(killed.iter().filter_map(step).eq(1..=40));
    assert!(whole[1].wall_time > whole[0].wall_time);
    assert_eq!(timeless(whole), timeless(killed));

    // It depends only on the metrics.
    let said = place.dlt(&["convert", "killed", "--to", "tensorboard", "--out", "again"]).ok();
    let again = fs::read(place.path(said.out.trim())).unwrap();
    assert_eq!(fs::read(before).unwrap(), again);
}

#[test]
fn only_who_asks_gets_event_files_but_may_ask_later() {
    let place = Workplace::new();
    place.train("run", &[]);
    assert!(!place.path("run/tensorboard").exists());
    place.dlt(&["train", "--resume", "run", "--steps", "14", "--tensorboard"]).ok();

    let losses = events(&place, "run").iter().filter(|event| event.values.len() > 7).count();
    assert!(losses >= 14, "the steps before are there too");

    let said = place.dlt(&["convert", "run", "--to", "tensorboard"]).ok();
    assert_eq!(
        place.path(said.out.trim()),
        event_file(&place, "run"),
        "it is replaced by the new one"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_goes_on_where_its_event_file_cannot_be_written() {
    let place = Workplace::new();
    place.train("run", &["--tensorboard"]);

    let file = event_file(&place, "run");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();

    let said = place.dlt(&["train", "--resume", "run", "--steps", "14"]).ok();
    assert_eq!(said.err.matches("continues without its event file").count(), 1, "{}", said.err);
    assert!(said.err.contains("it is a link"), "{}", said.err);
    assert_eq!(steps(&place, "run"), 14);

    place.train("other", &[]);
    place.write("other/tensorboard", "not a folder");

    let said = place.dlt(&["train", "--resume", "other", "--steps", "14", "--tensorboard"]).ok();
    assert_eq!(said.err.matches("continues without its event file").count(), 1, "{}", said.err);
    assert_eq!(place.read("other/tensorboard"), "not a folder");
}

#[test]
fn tables_have_a_line_for_each_row() {
    let place = Workplace::new();
    place.train("run", &[]);

    let said = place.dlt(&["convert", "run", "--to", "csv"]).ok();
    assert_eq!(said.out, "run/csv/steps.csv\nrun/csv/evaluations.csv\nrun/csv/decisions.csv\n");

    let metrics = place.read("run/metrics.jsonl");
    for (kind, name) in
        [("step", "steps"), ("evaluation", "evaluations"), ("decision", "decisions")]
    {
        let rows = metrics.matches(&format!("\"kind\":\"{kind}\"")).count();
        assert_eq!(place.read(&format!("run/csv/{name}.csv")).lines().count(), rows + 1, "{name}");
    }

    place.dlt(&["convert", "run", "--to", "csv"]).ok();
}

#[test]
fn rejects_to_convert_what_is_no_run_or_to_write_over_what_is_there() {
    let place = Workplace::new();
    place.train("run", &[]);
    fs::create_dir(place.path("there")).unwrap();

    for (arguments, code, says) in [
        (&["convert", "there", "--to", "csv"][..], 4, "there: not a run folder"),
        (&["convert", "there", "--to", "tensorboard"], 4, "there: not a run folder"),
        (&["convert", "run", "--to", "csv", "--out", "there"], 2, "there already exists"),
        (&["convert", "run", "--to", "tensorboard", "--out", "text.txt"], 2, "already exists"),
        (&["convert", "run", "--to", "excel"], 2, "possible values: tensorboard, csv"),
        (&["convert", "run"], 2, "--to"),
    ] {
        let said = place.dlt(arguments);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(says), "{says} is missing in {}", said.err);
    }

    assert_eq!(fs::read_dir(place.path("there")).unwrap().count(), 0);
    fs::create_dir(place.path("run/csv")).unwrap();
    place.write("run/csv/steps.csv", "mine\n");

    let said = place.dlt(&["convert", "run", "--to", "csv"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert_eq!(place.read("run/csv/steps.csv"), "mine\n");
}
