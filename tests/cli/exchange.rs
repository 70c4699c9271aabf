//! `dlt export` and `dlt import`: models are written and read back, bit for bit.

use std::fs;
#[cfg(unix)]
use std::process::Command;

use serde_json::Value;

use crate::models::{Kind, SCALED, loss, place, train};
use crate::workplace::Workplace;

/// Files of an export that depend only on the weights and the config.
const DECIDED: [&str; 6] = [
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
];

fn export(place: &Workplace, run: &str, format: &str, out: &str) -> String {
    place.dlt(&["export", run, "--format", format, "--out", out]).ok().out
}

/// The bytes of each of these files; `None` for one that does not exist.
fn decided(place: &Workplace, folder: &str) -> Vec<Option<Vec<u8>>> {
    DECIDED.iter().map(|file| fs::read(place.path(&format!("{folder}/{file}"))).ok()).collect()
}

fn files(place: &Workplace, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(folder)).unwrap();
    let mut files: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

/// The state calls layers tied although they have their own weights. These weights are exported and
/// imported.
#[test]
fn law_a_model_of_replicated_layers_comes_back_bit_for_bit() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &["--set", "tying.tie=replicate"]);

    let expected = loss(&place, "run");

    for format in ["hf", "tied"] {
        export(&place, "run", format, format);
        let back = format!("back-{format}");
        place.dlt(&["import", format, "--out", &back]).ok();
        assert_eq!(loss(&place, &back), expected, "{format}");

        let shown = place.dlt(&["inspect", &back]).ok().out;
        let distinct =
            shown.lines().find(|line| line.contains("distinct layers in memory")).unwrap();
        assert!(distinct.ends_with(" 4"), "{format}: {shown}");
    }
}

#[test]
fn law_models_of_every_family_come_back_bit_for_bit() {
    for kind in Kind::ALL {
        let place = place();
        train(&place, kind, "run", &["--set", "training.steps=7"]);

        let expected = loss(&place, "run");
        for format in ["hf", "tied"] {
            let [out, back, again] =
                ["out", "back", "again"].map(|name| format!("{name}-{format}"));
            export(&place, "run", format, &out);
            place.dlt(&["import", &out, "--out", &back]).ok();
            assert_eq!(loss(&place, &back), expected, "{kind:?} {format}");
            export(&place, &back, format, &again);
            assert_eq!(decided(&place, &out), decided(&place, &again), "{kind:?} {format}");
            assert_eq!(files(&place, &out), files(&place, &again), "{kind:?} {format}");
        }

        // Equal layers share their weights again, so the forms can be converted into each other.
        export(&place, "back-hf", "tied", "crossed");
        place.dlt(&["import", "crossed", "--out", "back-crossed"]).ok();
        assert_eq!(loss(&place, "back-crossed"), expected, "{kind:?}");
        export(&place, "back-crossed", "hf", "crossed-hf");
        assert_eq!(decided(&place, "out-hf"), decided(&place, "crossed-hf"), "{kind:?}");
        assert!(!files(&place, ".").iter().any(|file| file.ends_with(".partial")));
    }
}

/// Other programs know no factors of residual branches. An export has them in its weights, and says
/// so.
#[test]
fn law_scaled_branches_leave_in_the_weights() {
    for kind in Kind::ALL {
        let place = place();
        train(&place, kind, "run", &SCALED);

        let expected = loss(&place, "run");
        for format in ["hf", "tied"] {
            let back = format!("back-{format}");
            let said = place.dlt(&["export", "run", "--format", format, "--out", format]).ok();
            assert!(said.err.contains("tying.residual_scale"), "{}", said.err);

            let spec = format!("{format}/spec.toml");
            let card = place.read(&format!("{format}/README.md"));
            assert!(place.read(&spec).contains("residual_scale = \"none\""), "{kind:?} {format}");
            assert!(card.contains("0.250, 0.250, 0.250, 0.250"), "{card}");
            place.dlt(&["import", format, "--out", &back]).ok();
            assert_eq!(loss(&place, &back), expected, "{kind:?} {format}");

            let shown = place.dlt(&["inspect", &back]).ok().out;
            assert!(shown.contains("0 1 2 2"), "{kind:?} {format}: {shown}");
        }

        assert!(place.read("run/spec.toml").contains("residual_scale = \"uses\""));
    }
}

#[test]
fn a_block_with_two_factors_leaves_as_two_blocks() {
    let place = place();
    let scaled = [
        "tying.initial=[0,0,2,3]",
        "tying.residual_scale=uses",
        "agent.policy=fixed",
        "agent.pattern=tied",
    ];

    let sets: Vec<_> = scaled.iter().flat_map(|set| ["--set", set]).collect();
    train(&place, Kind::Gpt2, "run", &sets);

    let said = place.dlt(&["export", "run", "--format", "tied", "--out", "tied"]).ok();
    assert!(
        said.err.contains("different factors, so 2 blocks are written instead of 1"),
        "{}",
        said.err
    );
    place.dlt(&["import", "tied", "--out", "back"]).ok();
    assert_eq!(loss(&place, "back"), loss(&place, "run"));

    let shown = place.dlt(&["inspect", "back"]).ok().out;
    assert!(shown.contains("0 0 2 2"), "{shown}");
}

#[test]
fn an_export_holds_what_its_reader_asks_for() {
    let place = place();
    train(&place, Kind::Gpt2, "text", &[]);
    export(&place, "text", "hf", "text-hf");

    let expected = [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "spec.toml",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(files(&place, "text-hf"), expected);

    let config = place.json("text-hf/config.json");
    assert_eq!(
        (&config["architectures"][0], &config["n_positions"]),
        (&"GPT2LMHeadModel".into(), &40.into())
    );

    let tokens = place.json("text-hf/tokenizer_config.json");
    assert_eq!(tokens["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(
        (&tokens["eos_token"], &config["eos_token_id"]),
        (&"<|endoftext|>".into(), &256.into())
    );

    let card = place.read("text-hf/README.md");
    for part in ["AutoModelForCausalLM", "Who uses whose weights", "perplexity", "text.txt", "ICLR"]
    {
        assert!(card.contains(part), "{part} is missing in\n{card}");
    }

    let path = place.path("").to_string_lossy().into_owned();
    assert!(!card.contains(&path), "{card}");

    train(&place, Kind::Vit, "seen", &["--set", "data.normalise=half"]);
    export(&place, "seen", "hf", "seen-hf");

    let processor = place.json("seen-hf/preprocessor_config.json");
    assert_eq!(processor["size"]["height"], 32);
    assert_eq!(processor["image_mean"], serde_json::json!([0.5, 0.5, 0.5]));
    assert!(place.read("seen-hf/README.md").contains("accuracy"));

    // Without spec.toml, preprocessor_config.json is enough to prepare pictures as in training.
    fs::remove_file(place.path("seen-hf/spec.toml")).unwrap();
    place.dlt(&["import", "seen-hf", "--out", "back", "--data", "pictures.bin"]).ok();
    assert_eq!(loss(&place, "back"), loss(&place, "seen"));

    place.write(
        "seen-hf/preprocessor_config.json",
        r#"{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#,
    );
    let said = place.dlt(&["import", "seen-hf", "--out", "other"]);
    assert!(said.code == Some(4) && said.err.contains("got [0.0, 0.0, 0.0]"), "{said:?}");
}

#[test]
fn the_compact_form_is_smaller_by_the_share_of_tied_weights() {
    let place = place();
    train(
        &place,
        Kind::Gpt2,
        "run",
        &["--set", "tying.initial=[0,0,0,0]", "--set", "agent.policy=none"],
    );

    let said = export(&place, "run", "tied", "tied");
    assert_eq!(
        fs::read(place.path("tied/model.safetensors")).unwrap(),
        fs::read(place.path("run/model.safetensors")).unwrap()
    );

    // Width C = 16: a block has 12 C^2 + 13 C parameters, the rest of the model (V + T + 2) C.
    let block = 12 * 256 + 13 * 16;
    let shared = (257 + 40 + 2) * 16;
    let stored = 4 * (shared + block);
    let expanded = 4 * (shared + 4 * block);
    let share = format!("{:.3}", stored as f64 / expanded as f64);

    let digits: String = said.chars().filter(|letter| *letter != ',').collect();

    for number in [stored.to_string(), expanded.to_string(), share] {
        assert!(digits.contains(&number), "{number} is missing in {said}");
    }
}

#[test]
fn an_imported_model_is_a_run_for_every_task() {
    let place = place();
    train(
        &place,
        Kind::Gpt2,
        "run",
        &["--set", "tying.initial=[0,0,2,2]", "--set", "agent.policy=none"],
    );
    export(&place, "run", "hf", "out");
    place.dlt(&["import", "out", "--out", "back"]).ok();

    let map = place.dlt(&["inspect", "back"]).ok().out;
    assert!(map.contains("0 0 2 2") && map.contains("of step 0"), "{map}");
    assert_eq!(place.dlt(&["doctor", "back"]).ok().err, "");

    let write = |run: &str| {
        place
            .dlt(&["generate", run, "--prompt", "To be", "--tokens", "9", "--threads", "1"])
            .ok()
            .out
    };

    assert_eq!(write("back"), write("run"));
    // A run that starts from it begins with its weights: after a step that learns nothing, the loss
    // is the same.
    let still = ["--set", "optimizer.learning_rate=1e-30", "--set", "optimizer.weight_decay=0"];

    place
        .dlt(
            &[
                &["train", "--from", "back", "--data", "text.txt", "--steps", "1", "--out", "on"],
                &still[..],
            ]
            .concat(),
        )
        .ok();
    place.dlt(&["train", "--resume", "back", "--quiet"]).ok();
    assert!(place.path("back/summary.json").is_file());

    let moved = place.dlt(&["import", "out", "--out", "other", "--data", "no such text"]).ok();
    assert!(moved.out.contains("parameters"), "{moved:?}");

    let said = place.dlt(&["eval", "other"]);
    assert!(said.err.contains("no such text"), "{}", said.err);
}

#[test]
fn models_made_elsewhere_are_read() {
    let place = place();
    let fixtures =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures/huggingface");

    // 37 letters, so that the fixture's tokens have a text.
    let vocabulary: serde_json::Map<String, Value> = ('a'..='z')
        .chain('0'..='9')
        .chain([' '])
        .zip(0..)
        .map(|(letter, id)| (letter.to_string(), id.into()))
        .collect();

    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": " "},
    });

    place.write("letters.json", tokenizer.to_string());
    let model = fixtures.join("gpt2-causal").to_string_lossy().into_owned();
    let set = ["--set", "data.tokenizer=letters.json"];

    place.dlt(&[&["import", &model, "--out", "run", "--data", "text.txt"], &set[..]].concat()).ok();
    let oracle = candle_core::safetensors::load(
        fixtures.join("gpt2-causal/oracle.safetensors"),
        &candle_core::Device::Cpu,
    )
    .unwrap();

    let ids: Vec<u32> = oracle["input_ids"].get(0).unwrap().to_vec1().unwrap();
    let text: String = ids
        .iter()
        .map(|id| {
            vocabulary
                .iter()
                .find(|(_, value)| value.as_u64() == Some(u64::from(*id)))
                .unwrap()
                .0
                .as_str()
        })
        .collect();
    place.write("said.txt", &text);

    let said = place.dlt(&["eval", "run", "--text", "said.txt", "--json"]).ok();
    let measured: Value = serde_json::from_str(&said.out).unwrap();

    // The oracle's logits of the same tokens, and their loss in plain arithmetic.
    let logits: Vec<Vec<f32>> = oracle["logits"].get(0).unwrap().to_vec2().unwrap();
    let losses = ids[1..].iter().zip(&logits).map(|(&id, row)| {
        let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        total.ln() - f64::from(row[id as usize])
    });

    let expected = losses.sum::<f64>() / (ids.len() - 1) as f64;
    // Rounding of a sum of some hundred products in f32.
    assert!((measured["loss"].as_f64().unwrap() - expected).abs() < 1e-4, "{measured} {expected}");
}

#[test]
fn a_model_of_others_is_refused_with_the_command_that_makes_a_run_of_it() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    export(&place, "run", "hf", "an export");
    fs::create_dir_all(place.path("runs/anexport")).unwrap();

    let mut runs = Vec::new();
    for task in
        [&["eval", "an export"][..], &["generate", "an export", "--prompt", "a", "--tokens", "2"]]
    {
        let said = place.dlt(task);
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(
            said.err.contains("an export: expected a run, got a model in Hugging Face's layout"),
            "{said:?}"
        );

        let command = said.err.split('`').nth(1).unwrap();
        // The words as a shell would split them, for the program of this test.
        let words = command.replace("'an export'", "an_export");
        let words: Vec<_> = words.split(' ').skip(1).map(|word| word.replace('_', " ")).collect();

        place.dlt(&words.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let run = words.last().unwrap().clone();
        place.dlt(&[&[task[0], &run][..], &task[2..]].concat()).ok();
        runs.push(run);
    }

    assert_eq!(runs, ["runs/anexport-2", "runs/anexport-3"]);
    let said = place.dlt(&["eval", "hf:some/model"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.err.contains("`dlt import hf:some/model --out runs/model`"), "{said:?}");
}

#[cfg(unix)]
#[test]
fn companions_that_are_no_files_are_refused_by_name() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    export(&place, "run", "hf", "out");

    let spec = fs::read_to_string(place.path("out/spec.toml")).unwrap();
    place.write(
        "out/spec.toml",
        spec.replace("tokenizer = \"tokenizer.json\"", "tokenizer = \"bytes\""),
    );
    assert!(place.read("out/spec.toml").contains("tokenizer = \"bytes\""));

    let refused = |name: &str, words: &[&str]| {
        for task in [
            &["import", "out", "--out", "new"][..],
            &["train", "--from", "out", "--data", "text.txt", "--steps", "1", "--out", "new"],
        ] {
            let said = place.dlt(task);
            assert_eq!(said.code, Some(4), "{name} {said:?}");
            assert!(words.iter().all(|word| said.err.contains(word)), "{name}: {}", said.err);
            assert!(!place.path("new").exists(), "{name}");
        }
    };

    for name in [
        "tokenizer.json",
        "generation_config.json",
        "chat_template.jinja",
        "config.json",
        "vocab.json",
    ] {
        let path = place.path("out").join(name);
        let before = fs::read(&path).ok();
        let _ = fs::remove_file(&path);

        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(name, &[name, "it is a pipe, expected a file"]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused(name, &[name, "it is a folder, expected a file"]);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("gone", &path).unwrap();
        refused(name, &[name, "it is a link to gone, which does not exist"]);
        fs::remove_file(&path).unwrap();

        if let Some(before) = before {
            fs::write(&path, before).unwrap();
        }
    }

    place.write("out/additional_chat_templates", "text");
    refused(
        "additional_chat_templates",
        &["additional_chat_templates", "it is a file, expected a folder"],
    );
    fs::remove_file(place.path("out/additional_chat_templates")).unwrap();
    place.dlt(&["import", "out", "--out", "new"]).ok();
}

#[test]
fn rejects_what_cannot_leave_or_come() {
    let place = place();
    train(&place, Kind::BertMasked, "run", &[]);
    export(&place, "run", "hf", "out");
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("odd")).unwrap();
    place.write("odd/config.json", r#"{"model_type": "t5"}"#);
    fs::create_dir(place.path("bare")).unwrap();

    for file in ["config.json", "tokenizer.json"] {
        fs::copy(place.path(&format!("out/{file}")), place.path(&format!("bare/{file}"))).unwrap();
    }

    for (arguments, code, word) in [
        (&["export", "run", "--format", "hf", "--out", "out"][..], 2, "out already exists"),
        (&["export", "gone", "--format", "hf", "--out", "new"], 4, "gone: no such run folder"),
        (&["export", "empty", "--format", "tied", "--out", "new"], 4, "empty: not a run folder"),
        (&["export", "run", "--out", "new"], 2, "--format"),
        (&["import", "out", "--out", "run"], 2, "run"),
        (&["import", "gone", "--out", "new"], 4, "gone: no such run folder or model file"),
        (&["import", "odd", "--out", "new"], 4, "model_type"),
        (&["import", "bare", "--out", "new"], 4, "model.safetensors"),
        (
            &["import", "out", "--out", "new", "--set", "model.width=32"],
            3,
            "`model.width` is 32, but the model has 16",
        ),
        (
            &["generate", "run", "--prompt", "a"],
            4,
            "predicts the next token, got one that predicts masked",
        ),
    ] {
        let said = place.dlt(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?} {said:?}");
        assert!(said.err.contains(word), "{word} in {}", said.err);
        assert!(!place.path("new").exists(), "{arguments:?}");
    }

    // A file that was cut short is named, and nothing is left behind.
    let file = place.path("out/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();

    let said = place.dlt(&["import", "out", "--out", "new"]);
    assert!(said.code == Some(4) && said.err.contains("model.safetensors"), "{said:?}");
    assert!(!place.path("new").exists());
}
