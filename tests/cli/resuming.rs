//! `dlt train --resume`, and the ways to stop a run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

use dlt_spec::record::without_times;

use crate::workplace::{Said, Workplace};

/// Starts a run of very many steps. Returns it after its first step, with the rest of its standard
/// error.
fn started(place: &Workplace, run: &str, more: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut arguments =
        vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "100000", "--out", run];
    arguments.extend(more);

    let mut child =
        place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();

    while !line.starts_with("step") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the run ended before its first step");
    }

    (child, lines)
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn ended(mut child: Child, mut lines: BufReader<ChildStderr>) -> Said {
    let mut err = String::new();
    lines.read_to_string(&mut err).unwrap();
    Said { code: child.wait().unwrap().code(), out: String::new(), err }
}

#[cfg(unix)]
#[test]
fn a_signal_saves_the_run_and_says_how_to_go_on() {
    let place = Workplace::new();
    for signal in ["-INT", "-TERM"] {
        let run = format!("run{signal}");
        let (child, lines) = started(&place, &run, &[]);
        send(signal, &child);

        let said = ended(child, lines);
        assert_eq!(said.code, Some(130), "{said:?}");
        assert!(
            said.err.contains("interrupted: after step") && said.err.contains("--resume"),
            "{said:?}"
        );
        assert!(!place.path(&format!("{run}/summary.json")).exists());

        let steps =
            place.read(&format!("{run}/metrics.jsonl")).matches("\"kind\":\"step\"").count();
        let name = format!("{run}/checkpoint/step-{steps:012}.safetensors");
        assert!(place.path(&name).is_file(), "the step that was under way is saved: {name}");

        let more = (steps + 4).to_string();
        let said = place.dlt(&["train", "--resume", &run, "--steps", &more]).ok();
        assert!(said.err.contains(&format!("resuming after step {steps}")), "{}", said.err);
        assert!(said.err.contains("changed: `training.steps`: 100000 became"), "{}", said.err);

        let rows = place.read(&format!("{run}/metrics.jsonl")).matches("\"kind\":\"step\"").count();
        assert_eq!(rows, steps + 4, "no line is doubled or lost");

        let resumed = &place.json(&format!("{run}/provenance.json"))["resumed"][0];
        assert_eq!(
            (resumed["step"].as_u64(), &resumed["changed"][0]),
            (Some(steps as u64), &"training.steps".into())
        );
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once_and_leaves_the_last_checkpoint() {
    let place = Workplace::new();
    // Steps so long that both signals arrive during one step.
    let more = ["--set", "training.batch=256", "--set", "checkpoint.every_steps=1"];
    let (child, lines) = started(&place, "run", &more);

    send("-INT", &child);
    std::thread::sleep(std::time::Duration::from_millis(20));
    send("-INT", &child);

    let said = ended(child, lines);
    assert_eq!(said.code, Some(130), "{said:?}");

    let said = place.dlt(&["train", "--resume", "run", "--steps", "3"]);
    assert!(said.code == Some(0) || said.err.contains("steps are done"), "{said:?}");
}

#[cfg(unix)]
#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let place = Workplace::new();
    let (mut child, _lines) = started(&place, "run", &[]);
    let said = place.dlt(&["train", "--resume", "run"]);

    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains(&format!("run is held by process {}", child.id())), "{}", said.err);
    child.kill().unwrap();
    child.wait().unwrap();

    let said = place.dlt(&["train", "--resume", "run", "--steps", "3"]).ok();

    assert!(
        said.err.contains("there is no checkpoint yet"),
        "a killed process holds nothing: {}",
        said.err
    );
}

/// Every file of a run folder by its path in it.
fn files(place: &Workplace, run: &str) -> BTreeMap<String, Vec<u8>> {
    let root = place.path(run);
    let mut files = BTreeMap::new();

    for folder in [root.clone(), root.join("checkpoint"), root.join("tensorboard")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }

    files
}

/// The first process is paused while its folder is replaced, each time at another point of its
/// loop.
#[cfg(unix)]
#[test]
fn law_a_run_whose_folder_was_moved_stops_and_leaves_the_one_in_its_place_alone() {
    let place = Workplace::new();
    let saves =
        ["--set", "checkpoint.every_steps=2", "--set", "evaluation.every_steps=3", "--tensorboard"];

    for (round, ms) in [0, 3, 9, 20].into_iter().enumerate() {
        let run = format!("run-{round}");
        let moved = format!("moved-{round}");
        let (child, lines) = started(&place, &run, &saves);

        std::thread::sleep(std::time::Duration::from_millis(ms));
        send("-STOP", &child);
        std::fs::rename(place.path(&run), place.path(&moved)).unwrap();
        place.train(&run, &[&saves[..], &["--seed", "7"]].concat());

        let other = files(&place, &run);
        send("-CONT", &child);

        let said = ended(child, lines);
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(
            said.err.contains(&format!("{run} is no longer the folder of this run")),
            "{}",
            said.err
        );

        assert!(
            files(&place, &run) == other,
            "{run}: the other run was written into: {}",
            said.err
        );
        place.dlt(&["doctor", &run]).ok();

        let steps =
            place.read(&format!("{moved}/metrics.jsonl")).matches("\"kind\":\"step\"").count();
        let more = (steps + 4).to_string();
        let said = place.dlt(&["train", "--resume", &moved, "--steps", &more, "--quiet"]).ok();

        assert_eq!(place.json(&format!("{moved}/summary.json"))["seed"], 1, "{said:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_was_removed_says_so_and_stops() {
    let place = Workplace::new();
    let (child, lines) = started(&place, "run", &[]);
    send("-STOP", &child);
    std::fs::remove_dir_all(place.path("run")).unwrap();
    send("-CONT", &child);

    let said = ended(child, lines);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("removed") && !said.err.contains("panicked"), "{}", said.err);
    assert!(!place.path("run").exists(), "it is not made again");
}

/// The second process needs less memory than the first, so the peak of the run is that of the
/// first.
#[cfg(target_os = "linux")]
#[test]
fn law_peaks_of_memory_survive_a_stop() {
    let place = Workplace::new();
    place.train("run", &["--threads", "1", "--set", "training.batch=48"]);

    let figure = |name: &str| place.json("run/summary.json")[name].as_f64().unwrap();
    let before = ["peak_rss_mb", "predicted_peak_rss_mb"].map(figure);
    let lean = ["--steps", "14", "--threads", "1", "--set", "training.micro_batch=1", "--quiet"];

    place.dlt(&[&["train", "--resume", "run"], &lean[..]].concat()).ok();
    let after = ["peak_rss_mb", "predicted_peak_rss_mb"].map(figure);

    // The last checkpoint was made a moment before the first process ended.
    assert!(
        after.iter().zip(before).all(|(after, before)| *after > 0.97 * before),
        "{before:?} {after:?}"
    );
    let metrics = place.read("run/metrics.jsonl");

    let last = metrics.lines().rfind(|line| line.contains("\"kind\":\"step\"")).unwrap();
    let now = serde_json::from_str::<serde_json::Value>(last).unwrap()["current_rss_mb"]
        .as_f64()
        .unwrap();
    assert!(now < 0.9 * before[0], "the second process should need less: {now} of {}", before[0]);
    assert!(figure("peak_rss_mb") >= figure("mean_rss_mb"));
}

#[test]
fn law_a_run_made_longer_is_the_long_run() {
    let place = Workplace::new();
    place.train("long", &["--threads", "1"]);
    place.train("short", &["--threads", "1", "--set", "training.steps=8"]);
    place.dlt(&["train", "--resume", "short", "--steps", "12", "--threads", "1"]).ok();

    let lines = |run: &str| -> Vec<String> {
        place.read(&format!("{run}/metrics.jsonl")).lines().map(without_times).collect()
    };
    assert_eq!(lines("long"), lines("short"));
    assert_eq!(place.read("long/states.jsonl"), place.read("short/states.jsonl"));

    let said = place.dlt(&["train", "--resume", "short", "--threads", "2", "--steps", "13"]).ok();
    assert!(said.err.contains("began with threads 1, and now has 2"), "{}", said.err);
}

#[test]
fn rejects_what_would_be_another_run_and_leaves_it_alone() {
    let place = Workplace::new();
    place.train("run", &[]);

    let before = (
        place.read("run/spec.toml"),
        place.read("run/summary.json"),
        place.read("run/metrics.jsonl"),
    );

    for (more, code, says) in [
        (&["--seed", "7"][..], 3, "`seed`: 1 became 7"),
        (&["--set", "model.layers=4"], 3, "`model.layers`: 3 became 4"),
        (&["--steps", "5"], 2, "12 steps are done, but training.steps is only 5"),
        (&[], 2, "finished after 12 steps; raise --steps"),
        (&["--set", "model.heads=5"], 3, "`model.heads` is 5"),
        (&["--preset", "smoke"], 2, "cannot be used with"),
        (&["--out", "other"], 2, "cannot be used with"),
        (&["--steps", "20", "--data", "no.txt"], 4, "no.txt"),
    ] {
        let said = place.dlt(&[&["train", "--resume", "run"], more].concat());
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(says), "{says} is missing in {}", said.err);
    }

    let after = (
        place.read("run/spec.toml"),
        place.read("run/summary.json"),
        place.read("run/metrics.jsonl"),
    );
    assert_eq!(before, after);
    place.write("text2.txt", place.read("text.txt"));
    place.dlt(&["train", "--resume", "run", "--steps", "14", "--data", "text2.txt"]).ok();
}

#[test]
fn a_spec_that_was_edited_in_the_folder_is_compared_with_the_checkpoint() {
    let place = Workplace::new();
    place.train("run", &[]);

    let spec = place.read("run/spec.toml");
    place.write("run/spec.toml", spec.replace("learning_rate = 0.001", "learning_rate = 0.1"));

    let said = place.dlt(&["train", "--resume", "run", "--steps", "14"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("`optimizer.learning_rate`: 0.001 became 0.1"), "{}", said.err);
}

/// A learning rate with which nothing is finite after one step.
const DIVERGES: [&str; 6] = [
    "--set",
    "optimizer.learning_rate=1e30",
    "--set",
    "optimizer.clip_norm=inf",
    "--set",
    "tying.decide_every=50",
];

#[test]
fn a_run_that_diverges_names_step_loss_tensor_and_what_is_left() {
    let place = Workplace::new();
    let mut arguments =
        vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "12", "--out", "run"];
    arguments.extend(DIVERGES);

    let said = place.dlt(&arguments);
    assert_eq!(said.code, Some(6), "{said:?}");

    for part in ["training diverged at step 1", "loss", "tensor", "there is no checkpoint yet"] {
        assert!(said.err.contains(part), "{part} is missing in {}", said.err);
    }

    assert!(!said.err.contains("panicked"), "{}", said.err);
}

#[test]
fn a_loss_that_explodes_is_warned_of_while_it_is_still_finite() {
    let place = Workplace::new();
    let mut arguments =
        vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "60", "--out", "run"];

    // The rate rises from nothing to far too much.
    arguments.extend(["--set", "optimizer.learning_rate=30", "--set", "optimizer.warmup_steps=60"]);
    arguments.extend(["--set", "evaluation.every_steps=1000", "--quiet"]);

    let said = place.dlt(&arguments);
    assert!(said.err.contains("the loss is far above the median of recent losses"), "{said:?}");
    assert!(!place.train("calm-too", &["--quiet"]).err.contains("far above the median"));
}

/// Only runs with bf16 activations multiply bf16 matrices.
#[test]
fn another_engine_for_products_of_bf16_is_a_warning_where_they_are_used() {
    let place = Workplace::new();
    for (activations, warns) in [("bf16", true), ("f32", false)] {
        let of = format!("training.activations={activations}");
        place.train(activations, &["--device", "cpu", "--set", &of]);

        let record = format!("{activations}/provenance.json");
        let mut provenance = place.json(&record);
        assert!(provenance["host"]["product_engine"].is_string(), "{provenance}");
        provenance["host"]["product_engine"] = "abacus".into();
        place.write(&record, provenance.to_string());

        let said = place.dlt(&["train", "--resume", activations, "--steps", "16"]).ok();
        let warning = "the run began with products of bf16 by abacus, and now has ";
        assert_eq!(said.err.contains(warning), warns, "{activations}: {}", said.err);
    }
}
