//! Inputs from outside, and how much of them reaches the terminal: options, folders in the
//! environment, the hub's cache, control characters.

use std::fs;

use dlt_hub_stand_in::{Repository, StandIn};

use crate::data::World;
use crate::workplace::{Said, Workplace};

/// Control characters that clear a screen and rename a window.
const ESCAPE: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}2J";

/// Checks that line feeds and tabs are the only control characters.
fn is_harmless(said: &Said) {
    for text in [&said.out, &said.err] {
        let raw: Vec<char> = text
            .chars()
            .filter(|letter| letter.is_control() && !"\n\t".contains(*letter))
            .collect();
        assert_eq!(raw, [], "{said:?}");
    }
}

#[test]
fn regression_control_characters_of_files_and_names_are_shown_as_digits() {
    let place = Workplace::new();
    place.write("keys.toml", "\"\\u001b[2J\\u009b\\u0007key\" = 1\n");

    let row = serde_json::json!({ format!("{ESCAPE}a"): "x", "b": "y" });
    place.write("columns.jsonl", format!("{row}\n").repeat(50));
    place.write("columns.csv", format!("{ESCAPE}a,b\n{}", "x,y\n".repeat(50)));
    fs::create_dir(place.path("model")).unwrap();
    place.write("model/config.json", serde_json::json!({ "model_type": ESCAPE }).to_string());

    let mut shown = 0;
    for arguments in [
        vec!["train", "keys.toml"],
        vec!["train", "--preset", ESCAPE],
        vec!["train", "--set", ESCAPE],
        vec!["train", "--data", ESCAPE],
        vec!["train", "--no-such-option", ESCAPE],
        vec![ESCAPE],
        vec!["data", "tokenize", "columns.jsonl"],
        vec!["data", "tokenize", "columns.csv"],
        vec!["import", "model", "--out", "run"],
        vec!["doctor", ESCAPE],
        vec!["eval", ESCAPE],
        vec!["generate", ESCAPE, "--prompt", "a"],
        vec!["figure", "loss", ESCAPE, "--out", "loss.svg"],
    ] {
        let said = place.dlt(&arguments);
        assert!(said.code.is_some_and(|code| code > 0), "{said:?}");
        is_harmless(&said);
        shown += usize::from(said.err.contains("\\u001b[2J"));
    }

    assert!(shown >= 8, "only {shown} of them say what was wrong");
}

#[test]
fn regression_control_characters_in_a_run_are_shown_as_digits() {
    let place = Workplace::new();
    let run = format!("run{ESCAPE}");
    is_harmless(&place.train(&run, &[]));

    let path = format!("{run}/provenance.json");
    let provenance = place.read(&path);
    place.write(&path, provenance.replace("\"device\"", &format!("\"{ESCAPE}\": 1, \"device\"")));

    for arguments in [vec!["inspect", &run], vec!["doctor", &run], vec!["train", "--resume", &run]]
    {
        is_harmless(&place.dlt(&arguments));
    }

    // The log is harmless too.
    let mut command = place.command(&["eval", &run, "-vv"]);
    is_harmless(&Said::by(command.env("DLT_LOG", "trace")));
}

#[test]
fn long_values_are_cut() {
    let place = Workplace::new();
    place.write("long.toml", format!("\"{}\" = 1\n", "k".repeat(1_000_000)));

    let said = place.dlt(&["train", "long.toml"]);
    assert_eq!(said.code, Some(3), "{}", said.err.len());
    assert!(said.err.len() < 5_000, "{} bytes are shown", said.err.len());

    assert!(
        said.err.contains("unknown key `kkk") && said.err.contains("the nearest is"),
        "{}",
        said.err
    );
}

#[test]
fn regression_a_tilde_in_the_environment_is_the_home_folder() {
    let world = World::new();
    let home = world.place.path("home");
    fs::create_dir(&home).unwrap();

    let fetch = |data: &str, name: &str, value: &str| {
        let mut command = world.command(&["data", "fetch", data]);
        command.env_remove("HF_HOME").env_remove("DLT_CACHE").env("HOME", &home).env("BIG", &home);
        Said::by(command.env(name, value))
    };

    let run = |name: &str, value: &str| fetch("wikitext-2", name, value);
    for (name, value, made) in [
        ("HF_HOME", "~/hf", "hf/hub"),
        ("HF_HUB_CACHE", "~/cache", "cache"),
        ("XDG_CACHE_HOME", "~/xdg", "xdg/huggingface/hub"),
        ("HF_HOME", "$BIG/big", "big/hub"),
        ("DLT_CACHE", "~/tokens", "tokens/hub"),
    ] {
        run(name, value).ok();
        assert!(home.join(made).is_dir(), "{name}={value} did not make {made}");
    }

    assert!(!world.place.path("~").exists() && !world.place.path("$BIG").exists());
    let said = run("HF_HOME", "~somebody/hf");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("HF_HOME") && said.err.contains("~somebody/hf"), "{}", said.err);

    let said = run("DLT_MOST_FETCHED_GB", "many");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("DLT_MOST_FETCHED_GB"), "{}", said.err);

    let said = fetch("lambada", "DLT_MOST_FETCHED_GB", "0");
    assert!(said.err.contains("more than the 0 GB that are allowed"), "{}", said.err);
}

#[test]
fn regression_what_is_in_the_cache_whole_needs_no_hub() {
    let world = World::new();
    let tiny =
        ["train", "--preset", "smoke", "--data", "text.txt", "--steps", "2", "--out", "tiny"];
    world.place.dlt(&tiny).ok();
    world.place.dlt(&["export", "tiny", "--format", "hf", "--out", "tiny-hf"]).ok();

    let mut model = Repository::model("someone/tiny");
    for file in fs::read_dir(world.place.path("tiny-hf")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        model = model.file(&name, fs::read(&path).unwrap());
    }

    world.hub.serve(model);
    Said::by(&mut world.command(&["import", "hf:someone/tiny", "--out", "online"])).ok();
    Said::by(&mut world.command(&["data", "fetch", "wikitext-2"])).ok();

    let gone = StandIn::start().endpoint();
    let away = |arguments: &[&str]| Said::by(world.command(arguments).env("HF_ENDPOINT", &gone));
    let said = away(&["import", "hf:someone/tiny", "--out", "away"]).ok();

    assert!(
        said.err.contains("cannot reach the hub") && said.err.contains("of the cache"),
        "{}",
        said.err
    );
    let loss = |run: &str| world.place.dlt(&["eval", run, "--text", "text.txt", "--json"]).ok().out;
    assert_eq!(loss("away"), loss("online"));

    // Without the lock file, as after a fetch by Python, and with it.
    let mut command = world.command(&["data", "tokenize", "wikitext-2"]);
    Said::by(command.env("HF_ENDPOINT", &gone).env("DLT_CACHE", world.place.path("fresh"))).ok();
    away(&["data", "tokenize", "wikitext-2"]).ok();

    let said = away(&["import", "hf:someone/other", "--out", "other"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.err.contains("HF_HUB_OFFLINE"), "{}", said.err);

    let mut command = world.command(&["import", "hf:someone/other", "--out", "other"]);
    let said = Said::by(command.env("HF_HUB_OFFLINE", "1"));

    for part in ["someone/other at main", "is not in the hub's cache", "HF_HUB_OFFLINE"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
}

#[test]
fn data_needs_no_option_and_common_settings_have_one() {
    let place = Workplace::new();
    let common = ["--steps", "2", "--preset", "smoke"];
    let with = |more: &[&str]| place.dlt(&[&["train"], more, &common].concat());

    with(&["text.txt", "--out", "a"]).ok();
    with(&["--data", "text.txt", "--out", "b"]).ok();
    assert_eq!(place.read("a/spec.toml"), place.read("b/spec.toml"));
    assert_eq!(place.read("a/states.jsonl"), place.read("b/states.jsonl"));

    let more =
        ["--lr", "3e-4", "--batch", "2", "--epochs", "1", "--tokenizer", "bytes", "--out", "c"];
    place.write("small.txt", &place.read("text.txt")[..8_000]);
    place.dlt(&[&["train", "small.txt", "--preset", "smoke"], &more[..]].concat()).ok();

    let spec = place.read("c/spec.toml");
    for line in [
        "learning_rate = 0.0003",
        "batch = 2",
        "steps = \"auto\"",
        "epochs = 1",
        "tokenizer = \"bytes\"",
    ] {
        assert!(spec.lines().any(|found| found.starts_with(line)), "{line} is not in\n{spec}");
    }

    // A spec and data, in either order.
    place.write("small.toml", "[training]\nsteps = 3\n");
    place.dlt(&["train", "text.txt", "small.toml", "--preset", "smoke", "--out", "d"]).ok();
    assert!(place.read("d/spec.toml").contains("\nsteps = 3"));
}

#[test]
fn rejects_arguments_that_say_two_things() {
    let place = Workplace::new();
    place.train("run", &[]);

    for (arguments, says) in [
        (
            vec!["train", "text.txt", "--data", "other.txt"],
            "data may be named once, got text.txt and other.txt",
        ),
        (vec!["train", "text.txt", "other.txt"], "data may be named once"),
        (vec!["train", "a.toml", "b.toml"], "a spec may be named once"),
        (vec!["train", "run"], "--resume run to continue it"),
        (vec!["train", "text.txt", "--epochs", "1", "--steps", "2"], "cannot be used with"),
    ] {
        let said = place.dlt(&arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(said.err.contains(says), "{arguments:?}: {}", said.err);
    }

    for (key, ours) in [
        ("lr=1e-3", "here this is called `optimizer.learning_rate`"),
        ("training.batch_size=8", "here this is called `training.batch`"),
        ("n_layer=8", "here this is called `model.layers`"),
        ("training.stepz=8", "the nearest is `training.steps`"),
    ] {
        let said = place.dlt(&["train", "--set", key]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains(ours), "{key}: {}", said.err);
    }
}

#[test]
fn regression_a_folder_that_is_taken_is_passed_over_unless_it_was_named() {
    let place = Workplace::new();
    let train = |more: &[&str]| {
        let tiny = ["train", "--preset", "smoke", "--data", "text.txt", "--steps", "1"];
        place.dlt(&[&tiny[..], more].concat())
    };

    for _ in 0..2 {
        train(&[]).ok();
    }

    assert!(place.path("runs/smoke-text-1/summary.json").is_file());
    assert!(place.path("runs/smoke-text-1-2/summary.json").is_file());
    train(&["--set", "agent.policy=random"]).ok();
    assert!(place.path("runs/smoke-text-random-1/summary.json").is_file());

    let said = train(&["--out", "runs/smoke-text-1"]);
    assert_eq!(said.code, Some(2), "{said:?}");
}

#[test]
fn a_rehearsal_is_said_and_is_on_only_where_it_is_asked_for() {
    let place = Workplace::new();
    let rehearse = |value: &str| {
        let arguments =
            ["train", "--data", "text.txt", "--out", &format!("run-{value}")].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Said::by(place.command(&arguments).env("DLT_REHEARSAL", value))
    };

    let said = rehearse("1").ok();
    assert!(said.err.contains("DLT_REHEARSAL is set"), "{}", said.err);
    assert!(place.read("run-1/spec.toml").contains("\nwidth = 16"));

    let said = rehearse("yes");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("expected 1 for a rehearsal, or 0; got yes"), "{}", said.err);
}
