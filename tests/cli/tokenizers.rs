//! The tokenizer of a model goes where the model goes: runs keep it, imports read it from the
//! folder, exports write it back.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::models::{Kind, loss, place, train};
use crate::workplace::{Said, Workplace};

/// Trains a tokenizer on a text.
fn make_tokenizer(place: &Workplace, text: &str, vocabulary: &str, out: &str) {
    let _ = fs::remove_file(place.path(out));
    place.dlt(&["data", "tokenizer", "train", text, "--vocabulary", vocabulary, "--out", out]).ok();
}

/// A small GPT-2, `run`, with its own tokenizer, `tok.json`.
fn own_tokenizer() -> Workplace {
    let place = place();
    place.write("other.txt", "zebras quickly vex jumping foxes; wizards box. ".repeat(400));
    make_tokenizer(&place, "text.txt", "300", "tok.json");
    train(&place, Kind::Gpt2, "run", &["--set", "data.tokenizer=tok.json"]);
    place
}

/// A folder in Hugging Face's layout of a model of bytes, without the files that only this program
/// writes.
fn published(kind: Kind, out: &str) -> Workplace {
    let place = place();
    train(&place, kind, "run", &[]);
    place.dlt(&["export", "run", "--format", "hf", "--out", out]).ok();

    for file in ["spec.toml", "README.md"] {
        fs::remove_file(place.path(&format!("{out}/{file}"))).unwrap();
    }

    place
}

/// Starts a run with the weights of a model; it learns nothing.
fn from(place: &Workplace, model: &str, out: &str, more: &[&str]) -> Said {
    let arguments = [
        "train",
        "--from",
        model,
        "--data",
        "text.txt",
        "--steps",
        "2",
        "--out",
        out,
        "--threads",
        "1",
    ];

    let still = ["--set", "optimizer.learning_rate=1e-30", "--set", "optimizer.weight_decay=0"];
    place.dlt(&[&arguments[..], &still, more].concat())
}

/// Windows as long as in training; with others the loss differs.
const WINDOWS: [&str; 2] = ["--set", "model.context=24"];

fn loss_of_text(place: &Workplace, run: &str, text: &str) -> Value {
    let said = place.dlt(&["eval", run, "--text", text, "--json", "--threads", "1"]).ok();
    serde_json::from_str::<Value>(&said.out).unwrap()["loss"].clone()
}

/// Puts a template around the texts of a tokenizer: the end of text before and after them.
fn with_template(place: &Workplace, file: &str) {
    let mut json = place.json(file);
    let mark = json!({"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});

    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [mark, text("A")],
        "pair": [mark, text("A"), text("B")],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [256], "tokens": ["<|endoftext|>"]},
        },
    });

    place.write(file, json.to_string());
}

#[test]
fn regression_a_run_keeps_its_tokenizer() {
    let place = own_tokenizer();
    let expected = loss(&place, "run");
    let made = fs::read(place.path("tok.json")).unwrap();

    assert_eq!(fs::read(place.path("run/companions/tokenizer.json")).unwrap(), made);
    make_tokenizer(&place, "other.txt", "300", "tok.json");
    assert_ne!(fs::read(place.path("tok.json")).unwrap(), made);

    let said = place.dlt(&["eval", "run", "--json", "--threads", "1"]).ok();
    assert!(said.err.contains("the run's own copy"), "{}", said.err);
    assert_eq!(loss(&place, "run"), expected);
    place.dlt(&["export", "run", "--format", "hf", "--out", "hf"]).ok();
    assert_eq!(fs::read(place.path("hf/tokenizer.json")).unwrap(), made);
    assert!(place.dlt(&["doctor", "run"]).ok().out.contains("companions/tokenizer.json"));

    // A run that starts from it gets the same tokenizer, and a resumed run keeps it.
    from(&place, "run", "on", &[]).ok();
    assert_eq!(fs::read(place.path("on/companions/tokenizer.json")).unwrap(), made);
    fs::remove_file(place.path("tok.json")).unwrap();
    place.dlt(&["train", "--resume", "run", "--steps", "8", "--quiet", "--threads", "1"]).ok();
    place.dlt(&["generate", "run", "--prompt", "To be", "--tokens", "3"]).ok();
}

#[test]
fn a_built_in_tokenizer_is_noted() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);

    let note = place.json("run/companions/built-in.json");
    assert_eq!((&note["name"], note["sha256"].as_str().unwrap().len()), (&"bytes".into(), 64));
    assert!(place.dlt(&["doctor", "run"]).ok().out.contains("bytes, built in"));
    place.write("run/companions/built-in.json", r#"{"name": "bytes", "sha256": "0"}"#);

    for command in ["eval", "doctor", "inspect"] {
        let said = place.dlt(&[command, "run"]);
        assert_eq!(said.code, Some(4), "{command} {said:?}");
    }
}

/// The output of each command that uses the tokenizer.
fn users(place: &Workplace, run: &str) -> Vec<(&'static str, Said)> {
    let commands: [(&str, Vec<&str>); 6] = [
        ("eval", vec!["eval", run, "--threads", "1"]),
        ("eval --text", vec!["eval", run, "--text", "text.txt", "--threads", "1"]),
        ("generate", vec!["generate", run, "--prompt", "To be", "--tokens", "2"]),
        ("export", vec!["export", run, "--format", "hf", "--out", "new"]),
        (
            "finetune",
            vec![
                "finetune",
                run,
                "--task",
                "glue/sst2",
                "--data",
                "SST",
                "--steps",
                "1",
                "--out",
                "new",
            ],
        ),
        (
            "train --from",
            vec!["train", "--from", run, "--data", "text.txt", "--steps", "1", "--out", "new"],
        ),
    ];

    let mut said = Vec::new();
    for (name, arguments) in commands {
        said.push((name, place.dlt(&arguments)));
        let _ = fs::remove_dir_all(place.path("new"));
    }

    said.push(("resume", place.dlt(&["train", "--resume", run, "--steps", "7", "--quiet"])));
    said
}

#[test]
fn rejects_another_tokenizer_than_the_runs() {
    let place = own_tokenizer();
    let made = fs::read(place.path("tok.json")).unwrap();
    make_tokenizer(&place, "other.txt", "300", "other.json");

    let other = fs::read(place.path("other.json")).unwrap();
    let refused = |what: &str| {
        for (command, said) in users(&place, "run") {
            assert_eq!(said.code, Some(4), "{what}: {command} {said:?}");
            let says = "is not the tokenizer that run was trained with: expected sha256:";
            assert!(said.err.contains(says), "{what}: {command} {}", said.err);
        }

        let said = place.dlt(&["doctor", "run"]);
        assert!(
            said.code == Some(4) && said.out.contains("not the tokenizer that the run was trained"),
            "{said:?}"
        );
    };

    place.write("run/companions/tokenizer.json", &other);
    refused("another copy");

    // Earlier versions kept no copy. Such a run knows its tokenizer only by the checksum.
    fs::remove_dir_all(place.path("run/companions")).unwrap();
    place.write("tok.json", &other);
    refused("no copy");
    place.write("tok.json", &made);

    for (command, said) in users(&place, "run") {
        assert!(
            said.code == Some(0) && said.err.contains("as in training") || command == "resume",
            "{command} {said:?}"
        );
    }

    assert_eq!(
        fs::read(place.path("run/companions/tokenizer.json")).unwrap(),
        made,
        "resuming makes the copy"
    );
}

#[test]
fn a_run_works_from_any_folder() {
    let place = own_tokenizer();
    let expected = loss(&place, "run");
    fs::remove_file(place.path("tok.json")).unwrap();
    fs::create_dir(place.path("elsewhere")).unwrap();

    let away = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.current_dir(place.path("elsewhere"));
        Said::by(&mut command).ok()
    };

    let said = away(&["eval", "../run", "--json", "--threads", "1"]);
    let line: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(line["loss"].to_string(), expected);
    away(&["generate", "../run", "--prompt", "To be", "--tokens", "2"]);
    away(&["train", "--resume", "../run", "--steps", "7", "--quiet", "--threads", "1"]);

    let spec: dlt_spec::Spec = toml::from_str(&place.read("run/spec.toml")).unwrap();
    assert_eq!(Path::new(&spec.data.source), place.path("text.txt"));
}

#[test]
fn files_from_before_tokenizer_json_are_read() {
    let place = own_tokenizer();
    place.dlt(&["export", "run", "--format", "hf", "--out", "hf"]).ok();

    let json = place.json("hf/tokenizer.json");
    let mut vocabulary = json["model"]["vocab"].clone();
    vocabulary["<|endoftext|>"] = 299.into();

    let merges = json["model"]["merges"].as_array().unwrap().iter().map(|pair| match pair {
        Value::String(pair) => format!("{pair}\n"),
        pair => format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    });

    place.write("hf/merges.txt", format!("#version: 0.2\n{}", merges.collect::<String>()));
    place.write("hf/vocab.json", vocabulary.to_string());

    for file in ["tokenizer.json", "tokenizer_config.json", "spec.toml"] {
        fs::remove_file(place.path(&format!("hf/{file}"))).unwrap();
    }

    place.write("hf/tokenizer_config.json", r#"{"tokenizer_class": "GPT2Tokenizer"}"#);
    place
        .dlt(&[&["import", "hf", "--out", "back", "--data", "text.txt"], &WINDOWS[..]].concat())
        .ok();
    assert_eq!(loss_of_text(&place, "back", "text.txt"), loss_of_text(&place, "run", "text.txt"));
    from(&place, "hf", "on", &WINDOWS).ok();
    assert_eq!(loss_of_text(&place, "on", "text.txt"), loss_of_text(&place, "run", "text.txt"));

    place.write("hf/tokenizer_config.json", r#"{"tokenizer_class": "OtherTokenizer"}"#);

    let said = place.dlt(&["import", "hf", "--out", "new"]);
    assert!(said.code == Some(4) && said.err.contains("OtherTokenizer"), "{said:?}");
    fs::remove_file(place.path("hf/merges.txt")).unwrap();

    let said = place.dlt(&["import", "hf", "--out", "new"]);
    assert!(said.code == Some(4) && said.err.contains("no merges.txt"), "{said:?}");
}

#[test]
fn a_folder_without_a_tokenizer_asks_for_it() {
    let place = published(Kind::Gpt2, "hf");
    fs::remove_file(place.path("hf/tokenizer.json")).unwrap();
    fs::remove_file(place.path("hf/tokenizer_config.json")).unwrap();

    let said = place.dlt(&["import", "hf", "--out", "new"]);
    assert!(said.code == Some(3) && said.err.contains("--set data.tokenizer=PATH"), "{said:?}");
    assert!(!place.path("new").exists());

    // A tokenizer of another model is recognised by its size.
    let said = place.dlt(&["import", "hf", "--out", "new", "--set", "data.tokenizer=gpt2"]);
    assert!(said.code == Some(3) && said.err.contains("has 257 rows"), "{said:?}");

    let given =
        ["import", "hf", "--out", "back", "--data", "text.txt", "--set", "data.tokenizer=bytes"];
    place.dlt(&[&given[..], &WINDOWS].concat()).ok();
    assert_eq!(loss_of_text(&place, "back", "text.txt"), loss_of_text(&place, "run", "text.txt"));

    // Settings for generation do not depend on the tokenizer, so they are kept.
    assert!(place.path("back/companions/generation_config.json").is_file());
}

#[test]
fn the_end_of_a_text_is_what_the_model_s_files_say() {
    let place = published(Kind::Gpt2, "hf");
    let first = |run: &str| -> Value {
        let arguments =
            ["generate", run, "--prompt", "To be", "--tokens", "4", "--temperature", "0", "--json"];
        serde_json::from_str(&place.dlt(&arguments).ok().out).unwrap()
    };

    let whole = first("run");
    assert_eq!((&whole["reason"], &whole["tokens"]), (&"length".into(), &4.into()), "{whole}");

    let letter = whole["continuation"].as_str().unwrap().chars().next().unwrap();
    assert!(letter.is_ascii(), "the greedy text begins with a byte: {whole}");

    let name = if letter == ' ' { "Ġ".to_owned() } else { letter.to_string() };
    let name = if letter == '\n' { "Ċ".to_owned() } else { name };
    let id = place.json("hf/tokenizer.json")["model"]["vocab"][&name].as_u64().unwrap();

    let write = |file: &str, key: &str, value: Value| {
        let mut json = place.json(&format!("hf/{file}"));
        json[key] = value;
        place.write(&format!("hf/{file}"), json.to_string());
    };

    // The first of the files that names an end counts, and a list names several.
    write("config.json", "eos_token_id", json!(256));
    write("generation_config.json", "eos_token_id", json!([256, id]));
    write("tokenizer_config.json", "eos_token", json!("<|endoftext|>"));
    place.dlt(&["import", "hf", "--out", "back", "--data", "text.txt"]).ok();

    let ended = first("back");
    assert_eq!((&ended["reason"], &ended["tokens"]), (&"end-of-text".into(), &0.into()), "{ended}");
    assert_eq!(ended["token"], name);

    let said = place.dlt(&["generate", "back", "--prompt", "To be", "--temperature", "0"]).ok();
    assert!(said.err.contains("the end of the text"), "{}", said.err);

    // It stays so after training and after an export.
    place.dlt(&["export", "back", "--format", "hf", "--out", "again"]).ok();
    assert_eq!(place.json("again/config.json")["eos_token_id"], 256, "as the config said");
    assert_eq!(place.read("again/generation_config.json"), place.read("hf/generation_config.json"));
    from(&place, "back", "on", &[]).ok();
    assert_eq!(first("on")["reason"], "end-of-text");
}

#[test]
fn the_marks_of_a_template_go_with_the_model() {
    let place = published(Kind::Llama, "hf");
    with_template(&place, "hf/tokenizer.json");
    place.dlt(&["import", "hf", "--out", "marked", "--data", "text.txt"]).ok();
    place
        .dlt(&["import", "hf", "--out", "bare", "--data", "text.txt", "--set", "data.marks=none"])
        .ok();

    // Where a text spells the mark out, a model without marks sees the same tokens.
    let text = "To be, or not to be: that is the question.";
    place.write("short.txt", text);
    place.write("spelled.txt", format!("<|endoftext|>{text}"));

    let marked = loss_of_text(&place, "marked", "short.txt");
    let spelled = loss_of_text(&place, "bare", "spelled.txt");
    assert_eq!(marked, spelled);
    assert_ne!(marked, loss_of_text(&place, "bare", "short.txt"));

    let prompt = |run: &str| -> Value {
        let said = place.dlt(&["generate", run, "--prompt", "To", "--tokens", "1", "--json"]).ok();
        serde_json::from_str::<Value>(&said.out).unwrap()["prompt_tokens"].clone()
    };

    assert_eq!((prompt("marked"), prompt("bare")), (3.into(), 2.into()));

    // An export agrees with the training.
    place.dlt(&["export", "marked", "--format", "hf", "--out", "marked-hf"]).ok();
    assert_eq!(place.read("marked-hf/tokenizer.json"), place.read("hf/tokenizer.json"));
    place.dlt(&["export", "bare", "--format", "hf", "--out", "bare-hf"]).ok();
    assert!(!place.read("bare-hf/tokenizer.json").contains("TemplateProcessing"));
    assert_eq!(place.json("bare-hf/tokenizer_config.json")["add_bos_token"], false);
    train(&place, Kind::Gpt2, "scratch", &["--set", "data.tokenizer=hf/tokenizer.json"]);
    place.dlt(&["export", "scratch", "--format", "hf", "--out", "scratch-hf"]).ok();
    assert!(!place.read("scratch-hf/tokenizer.json").contains("TemplateProcessing"));
    assert!(place.read("scratch-hf/README.md").contains("nothing is put around a text"));

    // Training with marks begins with them: one token more for each split.
    let tokens = |run: &str| {
        place.json(&format!("{run}/provenance.json"))["data"]["train_tokens"].as_u64().unwrap()
    };
    let set = ["--set", "data.tokenizer=hf/tokenizer.json", "--set", "data.marks=template"];
    train(&place, Kind::Gpt2, "with-marks", &set);
    assert_eq!(tokens("with-marks"), tokens("scratch") + 1);
    from(&place, "hf", "on", &[]).ok();
    assert!(place.read("on/spec.toml").contains("marks = \"template\""));
}

#[test]
fn a_vocabulary_that_has_grown_gets_rows() {
    let place = published(Kind::Llama, "hf");
    let mut json = place.json("hf/tokenizer.json");
    let mut user = json["added_tokens"][0].clone();

    (user["id"], user["content"]) = (257.into(), "<|user|>".into());
    json["added_tokens"].as_array_mut().unwrap().push(user);
    place.write("hf/tokenizer.json", json.to_string());

    let said = place.dlt(&["import", "hf", "--out", "back", "--data", "text.txt"]).ok();
    for part in ["258 tokens", "257 rows", "<|user|>", "--resize-vocabulary"] {
        assert!(said.err.contains(part), "{part} is missing in {}", said.err);
    }

    let refused = from(&place, "hf", "new", &[]);
    assert!(refused.code == Some(3) && refused.err.contains("258"), "{refused:?}");
    from(&place, "hf", "grown", &["--resize-vocabulary"]).ok();

    let weights = |run: &str| {
        let path = place.path(&format!("{run}/model.safetensors"));
        candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap()
    };

    place.dlt(&["export", "grown", "--format", "hf", "--out", "grown-hf"]).ok();
    let before = weights("hf");
    let after = weights("grown-hf");

    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let rows = |all: &std::collections::HashMap<String, candle_core::Tensor>| {
            all[name].to_vec2::<f32>().unwrap()
        };
        let before = rows(&before);
        let after = rows(&after);

        assert_eq!((before.len(), after.len()), (257, 258), "{name}");
        assert_eq!(before, after[..257], "{name}");

        let mean =
            |column: usize| before.iter().map(|row| f64::from(row[column])).sum::<f64>() / 257.0;

        // Sums of 257 numbers below 1 in f32.
        assert!(
            (0..16).all(|column| (f64::from(after[257][column]) - mean(column)).abs() < 1e-5),
            "{name}"
        );
    }

    // Without a checkpoint it begins again, and grows again.
    fs::remove_dir_all(place.path("grown/checkpoint")).unwrap();
    place.dlt(&["train", "--resume", "grown", "--steps", "3", "--quiet", "--threads", "1"]).ok();
    place.write("user.txt", "To be<|user|>or not");
    assert!(loss_of_text(&place, "grown", "user.txt").is_number());

    let said = place.dlt(&["train", "--resize-vocabulary", "--data", "text.txt"]);
    assert!(said.code == Some(2) && said.err.contains("--from"), "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Everything in a folder that this program does not compute with is exported unchanged.
    #[test]
    fn law_import_and_export_are_the_identity_for_what_is_not_computed(
        template in "[ -~é\n]{0,60}",
        more in "[ -~]{0,20}",
        temperature in 0.1_f64..2.0,
        maximum in 1_u32..9000,
        special in prop::option::of("[a-z_]{1,8}"),
    ) {
        let place = &*PUBLISHED;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);

        fs::create_dir_all(path("hf/additional_chat_templates")).unwrap();
        for entry in fs::read_dir(place.path("hf")).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, path("hf").join(from.file_name().unwrap())).unwrap();
        }

        let mut tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": maximum, "eos_token": "<|endoftext|>",
            "pad_token": {"content": "<|endoftext|>", "lstrip": false}, "chat_template": template, "more": more,
        });

        if let Some(key) = special {
            tokenizer_config[format!("{key}_token")] = json!("a");
        }

        let tokenizer = fs::read_to_string(path("hf/tokenizer.json")).unwrap();
        let files = [
            ("tokenizer.json", format!("{tokenizer}\n")),
            ("tokenizer_config.json", format!("{tokenizer_config:#}")),
            ("special_tokens_map.json", json!({"eos_token": "<|endoftext|>", "more": more}).to_string()),
            ("generation_config.json", json!({"temperature": temperature, "eos_token_id": [256, 7]}).to_string()),
            ("added_tokens.json", json!({"<|endoftext|>": 256}).to_string()),
            ("vocab.json", format!("{{}} {more}")),
            ("merges.txt", template.clone()),
            ("chat_template.jinja", template),
            ("preprocessor_config.json", format!(" {}", json!({"more": more}))),
            ("additional_chat_templates/tool.jinja", more),
        ];

        for (name, content) in &files {
            fs::write(path("hf").join(name), content).unwrap();
            // A file that is read-only in the folder must be writable where it is copied to.
            let mut permissions = fs::metadata(path("hf").join(name)).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(path("hf").join(name), permissions).unwrap();
        }

        let dlt = |arguments: &[&str]| {
            let mut command = place.command(arguments);
            command.current_dir(folder.path());
            Said::by(&mut command).ok()
        };

        dlt(&["import", "hf", "--out", "run", "--data", "text.txt"]);

        for (run, out) in [("run", "first"), ("tied-run", "second")] {
            if run == "tied-run" {
                dlt(&["export", "run", "--format", "tied", "--out", "tied"]);
                dlt(&["import", "tied", "--out", run]);
            }

            dlt(&["export", run, "--format", "hf", "--out", out]);
            for (name, content) in &files {
                let path = path(out).join(name);
                prop_assert_eq!(&fs::read_to_string(&path).unwrap(), content, "{} of {}", name, out);
                prop_assert!(!fs::metadata(&path).unwrap().permissions().readonly(), "{} of {}", name, out);
            }

            let config: Value = serde_json::from_slice(&fs::read(path(out).join("config.json")).unwrap()).unwrap();
            prop_assert_eq!(&config["eos_token_id"], &json!(256), "as the config of the folder said");
        }
    }
}

static PUBLISHED: std::sync::LazyLock<Workplace> =
    std::sync::LazyLock::new(|| published(Kind::Gpt2, "hf"));
