//! The user's own data: folders with splits, tables and labels; and caches that fail.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::workplace::{Said, Workplace};

/// How long a run may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(120);

fn json_of(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// Trains on a folder or a file for a few steps.
fn train(place: &Workplace, data: &str, more: &[&str]) -> Said {
    let fixed = [
        "train",
        "--preset",
        "smoke",
        "--data",
        data,
        "--steps",
        "4",
        "--set",
        "data.tokenizer=bytes",
    ];

    place.dlt(&[&fixed[..], &["--set", "tying.decide_every=2"], more].concat())
}

/// A folder of the first and the last part of `text.txt` under these names.
fn folder(place: &Workplace, name: &str, files: &[&str]) {
    let text = place.read("text.txt");
    let cut = text.len() * 3 / 4;
    fs::create_dir_all(place.path(name)).unwrap();

    for (file, part) in files.iter().zip([&text[..cut], &text[cut..], &text[cut / 2..cut]]) {
        place.write(&format!("{name}/{file}"), part);
    }
}

#[test]
fn without_a_test_split_there_are_no_test_figures() {
    let place = Workplace::new();
    folder(&place, "corpus", &["train.txt", "validation.txt"]);

    let said = train(&place, "corpus", &["--out", "run"]).ok();
    assert!(
        said.err.contains("no test split") && !said.out.contains("test perplexity"),
        "{said:?}"
    );

    let summary = place.json("run/summary.json");
    let keys: Vec<&String> =
        summary.as_object().unwrap().keys().filter(|key| key.contains("test")).collect();
    assert_eq!(keys, Vec::<&String>::new());
    assert!(summary["validation_perplexity"].is_f64());

    let data = &place.json("run/provenance.json")["data"];
    assert_eq!(data.get("test_tokens"), None);
    assert_eq!(data["plan"]["validation"], json!(["validation.txt"]));

    for reader in [
        &["inspect", "run"][..],
        &["report", "run", "--out", "page.html"],
        &["convert", "run", "--to", "csv", "--out", "csv"],
        &["export", "run", "--format", "hf", "--out", "exported"],
        &["doctor", "run"],
    ] {
        place.dlt(reader).ok();
    }

    assert!(!place.read("page.html").contains("NaN"));
    let refused = place.dlt(&["eval", "run", "--split", "test"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("corpus has no test split"), "{refused:?}");

    let refused = train(
        &place,
        "corpus",
        &["--set", "evaluation.select_on=validation-and-test", "--out", "b"],
    );
    assert_eq!(refused.code, Some(4), "{refused:?}");
}

#[test]
fn a_folder_is_shown_before_it_is_trained_on() {
    let place = Workplace::new();
    folder(&place, "corpus", &["train-00000-of-00001.txt", "validation-0.txt", "test-0.txt"]);
    place.write("corpus/README.txt", "about it");

    let shown = place.dlt(&["data", "info", "corpus"]).ok().out;
    for part in [
        "train-00000-of-00001.txt",
        "validation 1 file",
        "test     1 file",
        "README.txt: a file about",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }

    let said = train(&place, "corpus", &["--out", "run"]).ok();
    assert!(said.err.contains("left out: 1"), "{said:?}");

    let plan = &place.json("run/provenance.json")["data"]["plan"];
    assert_eq!(plan["division"], "names");
    assert_eq!(plan["left_out"], json!([{ "file": "README.txt", "reason": "about-data" }]));
    place.write("corpus/more.txt", "more");

    for arguments in
        [&["data", "info", "corpus"][..], &["train", "--preset", "smoke", "--data", "corpus"]]
    {
        let refused = place.dlt(arguments);
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(refused.err.contains("more.txt say none"), "{refused:?}");
    }
}

#[test]
fn rows_are_evaluated_as_they_are_trained_on() {
    let place = Workplace::new();
    let rows: Vec<String> = place.read("text.txt").lines().take(60).map(str::to_owned).collect();
    let table: String =
        rows.iter().map(|row| format!("{}\n", json!({ "id": "x", "body": row }))).collect();

    place.write("rows.jsonl", &table);
    place.write("joined.txt", rows.join("\n"));
    place.train("run", &["--set", "data.tokenizer=bytes"]);

    let eval =
        |run: &str, text: &str| json_of(&place.dlt(&["eval", run, "--text", text, "--json"]).ok());

    // A run that was trained on plain text reads rows as lines.
    assert_eq!(eval("run", "rows.jsonl::body"), eval("run", "joined.txt"));
    assert_eq!(train(&place, "rows.jsonl::body", &["--out", "of-rows"]).ok().code, Some(0));
    assert_eq!(place.json("of-rows/provenance.json")["data"]["boundary"], "end-of-text");

    // A run that was trained on rows puts the end of text between them. It is one token, like a
    // line end, so the number of tokens is the same.
    let documents = rows.iter().filter(|row| !row.is_empty()).count();
    let bytes: usize = rows.iter().map(String::len).sum();
    assert_eq!(eval("of-rows", "rows.jsonl::body")["tokens"], bytes + documents - 2);
    fs::create_dir(place.path("folder")).unwrap();

    for split in ["train", "valid", "test"] {
        place.write(&format!("folder/{split}.jsonl"), &table);
    }

    let refused = place.dlt(&["eval", "run", "--text", "folder::body", "--json"]);
    assert!(refused.code == Some(4) && refused.err.contains("--split"), "{refused:?}");

    let of_folder =
        place.dlt(&["eval", "run", "--text", "folder::body", "--split", "test", "--json"]).ok();
    assert_eq!(json_of(&of_folder), eval("run", "rows.jsonl::body"));
}

#[test]
fn labels_of_a_table_are_learned() {
    let place = Workplace::new();
    let row = |row: usize| {
        format!(
            "{} {row},{}\n",
            ["dark and cold", "bright and warm"][row % 2],
            ["bad", "good"][row % 2]
        )
    };

    place.write("reviews.csv", format!("text,label\n{}", (0..200).map(row).collect::<String>()));
    place.train("run", &["--set", "data.tokenizer=bytes"]);

    let learn =
        ["--set", "training.batch=8", "--set", "training.steps=6", "--set", "model.context=32"];
    let said = place
        .dlt(
            &[&["finetune", "run", "--data", "reviews.csv", "--out", "tuned"][..], &learn].concat(),
        )
        .ok();

    assert!(
        said.out.contains("validation accuracy") && said.out.contains("test accuracy"),
        "{said:?}"
    );
    let data = &place.json("tuned/provenance.json")["data"];
    assert_eq!(data["class_names"], json!(["bad", "good"]));
    assert_eq!(data["plan"]["division"], "checksums");
    assert!(place.json("tuned/summary.json")["test_scores"]["majority_accuracy"].is_f64());
    place.write("other.csv", "body,stars\ngood,1\nbad,2\n");

    let refused = place.dlt(&["finetune", "run", "--data", "other.csv", "--out", "never"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("PATH::TEXT,LABEL"), "{refused:?}");

    let neither = place.dlt(&["finetune", "run", "--out", "never"]);
    assert_eq!(neither.code, Some(2), "{neither:?}");
}

#[test]
fn tokens_beyond_the_limit_are_refused_with_the_setting() {
    let place = Workplace::new();
    place.write("large.txt", place.read("text.txt").repeat(20));

    let tokenize = |limit: &str| {
        let mut command = place.command(&["data", "tokenize", "large.txt", "--tokenizer", "bytes"]);
        Said::by(command.env("DLT_CACHE", place.path("cache")).env("DLT_CACHE_LIMIT", limit))
    };

    let refused = tokenize("1MB");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.err.contains("DLT_CACHE_LIMIT") && refused.err.contains("1.0 MB"),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(place.path("cache")).unwrap().count(), 0, "something is left");
    tokenize("1GB").ok();

    let refused = tokenize("lots");
    assert!(refused.code == Some(2) && refused.err.contains("as in 100GB"), "{refused:?}");
}

/// The limit of the shell on the size of a file has the same effect as a full disk.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_grow_is_an_error_and_not_a_signal() {
    let place = Workplace::new();
    let dlt = place.command(&[]).get_program().to_string_lossy().into_owned();
    let script = format!("ulimit -f 40; exec '{dlt}' data tokenize text.txt --tokenizer bytes");
    let mut command = Command::new("sh");

    command.args(["-c", &script]).current_dir(place.path("")).stdin(Stdio::null());
    let said = Said::by(command.env("DLT_CACHE", place.path("cache")));
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("DLT_CACHE") && said.err.contains("cannot write"), "{said:?}");
}

#[cfg(unix)]
#[test]
fn a_cache_that_is_cut_under_a_run_ends_it_with_a_message() {
    let place = Workplace::new();
    let arguments =
        ["train", "--preset", "smoke", "--data", "text.txt", "--steps", "1000000", "--out", "run"];
    let mut command = place
        .command(&[&arguments[..], &["--set", "data.tokenizer=bytes", "--threads", "1"]].concat());

    command.env("DLT_CACHE", place.path("cache")).stderr(Stdio::piped()).stdout(Stdio::null());
    let run = command.spawn().unwrap();
    let began = Instant::now();
    let has_begun = || {
        fs::read_to_string(place.path("run/metrics.jsonl"))
            .is_ok_and(|text| text.contains("\"step\":3,"))
    };

    while !has_begun() && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }

    for file in fs::read_dir(place.path("cache")).unwrap() {
        let file = fs::OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
        file.set_len(1000).unwrap();
    }

    let output = run.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(message.contains("were changed while they were used"), "{message}");
}
