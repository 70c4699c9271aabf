//! What several processes print and record, and tasks other than training.

use std::process::Command;

use super::bits::{bits, letters};
use super::job::Job;
use crate::models::{Kind, place, train};
use crate::workplace::Workplace;

#[test]
fn only_process_0_prints() {
    let place = letters(4);
    let line = ["train", "spec.toml", "--steps", "12", "--threads", "1", "--out", "run"];
    let said = Job::dlt(&place, &[&line[..], &["--processes", "4"]].concat()).end().ok();

    for (text, part) in [
        (&said.err, "4 processes over Open MPI "),
        (&said.err, "data: letters.txt"),
        (&said.err, "run folder: run"),
        (&said.err, "12 steps done"),
        (&said.out, "killed, seed 1: 12 steps"),
        (&said.out, "The best model on validation"),
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
    }
    for step in 1..=12 {
        let begin = format!("step {step:>2}/12 ");
        assert_eq!(said.err.matches(&begin).count(), 1, "{begin} in {}", said.err);
    }
    assert!(!said.err.contains("mpirun"), "{}", said.err);

    let summary = place.json("run/summary.json");
    assert_eq!(summary["processes"], 4);
    assert!(summary["sent_bytes_per_step"].as_f64().unwrap() > 1000.0, "{summary}");

    let host = Command::new("hostname").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let processes = &place.json("run/provenance.json")["processes"];
    assert_eq!(processes["hosts"], serde_json::Value::from(vec![host.trim(); 4]));
    assert!(processes["engine"].as_str().unwrap().starts_with("Open MPI "), "{processes}");
}

#[test]
fn an_evaluation_prints_what_one_process_prints() {
    let place = letters(1);
    place.dlt(&["train", "spec.toml", "--steps", "6", "--out", "run", "--threads", "1"]).ok();

    for more in [&["--json"][..], &["--split", "test"], &["--text", "letters.txt"]] {
        let line = [&["eval", "run", "--threads", "1"], more].concat();
        let alone = place.dlt(&line).ok();
        let shared = Job::dlt(&place, &[&line[..], &["--processes", "2"]].concat()).end().ok();
        assert_eq!(shared.out, alone.out, "{more:?}");
    }

    let line = ["eval", "none", "--processes", "2"];
    let said = Job::dlt(&place, &line).end();
    assert_eq!(super::job::one_error(&said), place.dlt(&line[..2]).err.trim());
}

#[test]
fn a_finetuned_model_has_the_bits_of_one_process() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);

    let finetune = |out: &str, processes: &str| {
        let line = ["finetune", "run", "--task", "glue/sst2", "--data", "SST", "--out", out];
        let more = ["--steps", "4", "--threads", "1", "--processes", processes, "--quiet"];
        let shards = ["--set", "training.shards=2", "--set", "training.batch=8"];
        let line = [&line[..], &more, &shards].concat();
        Job::dlt(&place, &line).end().ok()
    };
    let [alone, shared] =
        [("alone", "1"), ("shared", "2")].map(|(out, count)| finetune(out, count));
    assert!(bits(&place, "alone") == bits(&place, "shared"));

    // Times and the folder's name are in the text.
    let scores = |out: &str| out.lines().find(|line| line.contains("accuracy")).map(str::to_owned);
    assert_eq!(scores(&alone.out), scores(&shared.out));
}

#[test]
fn a_step_is_measured_in_two_processes() {
    let place = Workplace::new();
    let line = ["bench", "step", "--layers", "2", "--width", "16", "--heads", "2", "--vocab", "30"];
    let size = ["--seq", "8", "--batch", "4", "--steps", "2", "--json", "--processes", "2"];
    let said = Job::dlt(&place, &[&line[..], &size].concat()).end().ok();
    let figures: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(figures["processes"], 2, "{figures}");
}

#[test]
fn processes_share_the_moments_in_a_prediction() {
    let place = Workplace::new();
    let moments = |processes: &str| {
        let line = ["inspect", "--memory", "smoke", "--json", "--processes", processes];
        let more = ["--set", "training.batch=8", "--set", "training.shards=4"];
        let out = place.dlt(&[&line[..], &more].concat()).ok().out;
        let row: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        row["moment_bytes"].as_u64().unwrap()
    };

    let [one, four] = ["1", "4"].map(moments);
    assert!(four < one / 3, "{four} of {one}");
}
