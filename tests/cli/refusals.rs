//! Every bad input gives one clear message, its exit code, and leaves nothing behind.

use dlt_spec::ExitCode;

use crate::workplace::Workplace;

/// Runs the program and checks its exit code, that it gives one message with all `parts`, and that
/// it leaves no run folder.
fn refused(place: &Workplace, arguments: &[&str], code: ExitCode, parts: &[&str]) {
    let said = place.dlt(arguments);
    assert_eq!(said.code, Some(i32::from(code.number())), "{said:?}");
    assert_eq!(said.out, "", "{said:?}");
    assert_eq!(said.err.matches("error:").count(), 1, "{}", said.err);

    let message = &said.err[said.err.find("error:").unwrap()..];
    parts.iter().for_each(|part| assert!(message.contains(part), "{part} is missing in {message}"));

    for noise in ["panicked", "backtrace", "Caused by", "Error {"] {
        assert!(!said.err.contains(noise), "{}", said.err);
    }

    assert!(!place.path("runs").exists(), "a refused start left a folder");
}

/// Checks that `dlt train --preset smoke` with more arguments is refused.
fn train_refused(place: &Workplace, more: &[&str], code: ExitCode, parts: &[&str]) {
    let mut arguments = vec!["train", "--preset", "smoke"];
    arguments.extend(more);
    refused(place, &arguments, code, parts);
}

#[test]
fn rejects_an_empty_text() {
    let place = Workplace::new();
    place.write("empty.txt", "");
    train_refused(
        &place,
        &["--data", "empty.txt"],
        ExitCode::BadData,
        &["empty.txt", "holds no text"],
    );
}

#[test]
fn rejects_a_text_that_is_not_utf8() {
    let place = Workplace::new();
    place.write("latin.txt", b"caf\xe9 au lait");
    train_refused(
        &place,
        &["--data", "latin.txt"],
        ExitCode::BadData,
        &["latin.txt is not UTF-8", "offset 3"],
    );
}

#[test]
fn rejects_a_missing_path() {
    let place = Workplace::new();
    train_refused(
        &place,
        &["--data", "no/such.txt"],
        ExitCode::BadData,
        &["no/such.txt", "shakespeare"],
    );
    refused(&place, &["train", "no.toml"], ExitCode::BadSpec, &["cannot read the spec no.toml"]);
    refused(&place, &["eval", "no-run"], ExitCode::BadData, &["no-run: no such run folder"]);
    refused(&place, &["inspect", "no-run"], ExitCode::BadData, &["no-run: no such run folder"]);
    refused(&place, &["generate", "no-run", "--prompt", "x"], ExitCode::BadData, &["no-run"]);
}

#[test]
fn rejects_a_wrong_type_in_a_spec() {
    let place = Workplace::new();
    place.write("spec.toml", "[model]\nlayers = \"many\"\n");

    let parts = ["spec.toml: `model.layers` must be a whole number", "\"many\""];
    refused(&place, &["train", "spec.toml"], ExitCode::BadSpec, &parts);
    place.write("spec.toml", "[model\n");

    refused(
        &place,
        &["train", "spec.toml"],
        ExitCode::BadSpec,
        &["spec.toml, line 1", "not valid TOML"],
    );
}

#[test]
fn rejects_an_unknown_key_and_names_the_nearest() {
    let place = Workplace::new();
    place.write("spec.toml", "[tying]\ndecide_evry = 4\n");

    let parts = ["unknown key `tying.decide_evry`", "nearest is `tying.decide_every`"];
    refused(&place, &["train", "spec.toml"], ExitCode::BadSpec, &parts);
    train_refused(&place, &["--set", "tying.decide_evry=4"], ExitCode::BadSpec, &parts);

    train_refused(
        &place,
        &["--set", "tying.decide_every"],
        ExitCode::Usage,
        &["expected key=value"],
    );
}

#[test]
fn rejects_a_model_that_cannot_be() {
    let place = Workplace::new();
    train_refused(
        &place,
        &["--set", "model.layers=0"],
        ExitCode::BadSpec,
        &["`model.layers` is 0"],
    );

    let parts = ["`model.heads` is 5", "divisor of model.width = 32"];
    train_refused(&place, &["--set", "model.heads=5"], ExitCode::BadSpec, &parts);

    let parts = ["model.vocabulary", "50257", "100"];
    train_refused(&place, &["--set", "model.vocabulary=100"], ExitCode::BadSpec, &parts);
    train_refused(&place, &["--steps", "0"], ExitCode::BadSpec, &["`training.steps` is 0"]);
}

#[test]
fn rejects_more_tokens_than_there_are() {
    let place = Workplace::new();
    place.write("short.txt", "Brevity is the soul of wit.");
    train_refused(
        &place,
        &["--data", "short.txt"],
        ExitCode::BadData,
        &["short.txt has", "takes 33"],
    );

    let large = ["--data", "text.txt", "--set", "training.batch=100000"];

    train_refused(
        &place,
        &large,
        ExitCode::BadData,
        &["a batch of 100000 windows cannot be drawn"],
    );
}

#[test]
fn rejects_a_folder_that_is_there_already() {
    let place = Workplace::new();
    place.train("run", &[]);
    let before = place.read("run/summary.json");
    train_refused(&place, &["--out", "run"], ExitCode::Usage, &["run already exists", "--out"]);
    assert_eq!(place.read("run/summary.json"), before);
}

#[test]
fn rejects_names_that_are_no_preset_or_method() {
    let place = Workplace::new();
    refused(
        &place,
        &["train", "--preset", "smok"],
        ExitCode::Usage,
        &["`smok`", "nearest is `smoke`"],
    );
    refused(&place, &["spec", "smok"], ExitCode::Usage, &["`smok`", "nearest is `smoke`"]);

    train_refused(
        &place,
        &["--method", "papper"],
        ExitCode::Usage,
        &["`papper`", "nearest is `paper`"],
    );
}

#[test]
fn rejects_a_gpu_that_is_not_there() {
    let place = Workplace::new();
    train_refused(&place, &["--device", "cuda:99"], ExitCode::Resources, &["device cuda:99"]);
    train_refused(
        &place,
        &["--device", "gpu"],
        ExitCode::Usage,
        &["expected auto, cpu, cuda or cuda:N"],
    );
}

#[test]
fn rejects_a_recording_that_cannot_be_replayed() {
    let place = Workplace::new();
    let replay = |path: &str| format!("agent.recording={path}");
    let asked = |path: &str| {
        ["--set".to_owned(), "agent.policy=replay".into(), "--set".into(), replay(path)]
    };

    let refuse = |path: &str, code, parts: &[&str]| {
        let more = asked(path);
        train_refused(&place, &more.each_ref().map(String::as_str), code, parts);
    };

    refuse("nowhere", ExitCode::BadData, &["agent.recording", "nowhere"]);
    place.write("damaged.jsonl", "{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":3}\n{}\n");
    refuse("damaged.jsonl", ExitCode::BadData, &["damaged.jsonl: line 2"]);
    place.write("deeper.jsonl", "{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":4}\n");
    refuse("deeper.jsonl", ExitCode::BadSpec, &["4"]);
}

#[test]
fn rejects_files_that_are_no_model() {
    let place = Workplace::new();
    refused(
        &place,
        &["inspect", "text.txt"],
        ExitCode::BadData,
        &["text.txt: not a safetensors file"],
    );
    refused(&place, &["eval", "."], ExitCode::BadData, &["not a run folder"]);
}

#[test]
fn rejects_texts_and_draws_that_cannot_be_used() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.write("empty.txt", "");

    let empty = ["eval", "run", "--text", "empty.txt", "--json"];
    refused(&place, &empty, ExitCode::BadData, &["empty.txt", "holds no text"]);
    place.write("word.txt", "H");
    refused(&place, &["eval", "run", "--text", "word.txt"], ExitCode::BadData, &["windows"]);

    let hot = ["generate", "run", "--prompt", "x", "--temperature", "-1"];
    refused(&place, &hot, ExitCode::Usage, &["temperature"]);
}

#[test]
fn rejects_a_command_line_that_says_nothing() {
    let place = Workplace::new();
    refused(&place, &["trian"], ExitCode::Usage, &["trian", "train"]);
    refused(&place, &["train", "--threads", "0"], ExitCode::Usage, &["--threads"]);
    refused(&place, &["generate", "run"], ExitCode::Usage, &["--prompt"]);
}
