//! `dlt train --from`: runs that start with the weights of a model.

use std::fs;

use dlt_hub_stand_in::{Repository, StandIn};
use dlt_spec::Spec;
use dlt_spec::spec::{Initial, InitialName};

use crate::models::{Kind, loss, place, train};
use crate::workplace::{Said, Workplace};

/// Settings for one step that changes no weight, except tiny ones.
const STILL: [&str; 10] = [
    "--set",
    "optimizer.learning_rate=1e-30",
    "--set",
    "optimizer.weight_decay=0",
    "--set",
    "agent.policy=none",
    "--steps",
    "1",
    "--threads",
    "1",
];

fn spec(place: &Workplace, run: &str) -> Spec {
    toml::from_str(&place.read(&format!("{run}/spec.toml"))).unwrap()
}

fn from(place: &Workplace, model: &str, data: &str, out: &str, more: &[&str]) -> Said {
    place
        .dlt(&[&["train", "--from", model, "--data", data, "--quiet", "--out", out], more].concat())
}

#[test]
fn every_family_begins_with_the_weights_of_a_model() {
    for kind in Kind::ALL {
        let place = place();
        train(&place, kind, "run", &[]);
        place.dlt(&["export", "run", "--format", "hf", "--out", "hf"]).ok();
        place.dlt(&["export", "run", "--format", "tied", "--out", "tied"]).ok();

        let still =
            [&STILL[..], &["--set", "training.batch=4"], &["--set", "model.context=24"]].concat();

        for model in ["run", "run/model.safetensors", "hf", "tied"] {
            let out = format!("from-{}", model.replace('/', "-"));
            from(&place, model, kind.data(), &out, &still).ok();
            assert_eq!(loss(&place, &out), loss(&place, "run"), "{kind:?} {model}");

            let spec = spec(&place, &out);
            assert_eq!(std::path::Path::new(&spec.model.start), place.path(model));
            assert_eq!(spec.tying.initial, Initial::Named(InitialName::Independent));
            assert_eq!(spec.model.width, 16);
        }
    }
}

/// Weights that were trained with factors of residual branches compute the same only with these
/// factors.
#[test]
fn a_start_has_the_factors_of_its_weights() {
    let place = place();
    let uses = ["--set", "tying.initial=tied", "--set", "tying.residual_scale=uses"];
    train(&place, Kind::Gpt2, "scaled", &[&uses[..], &["--set", "agent.policy=none"]].concat());
    train(&place, Kind::Gpt2, "plain", &[]);

    let still =
        [&STILL[..], &["--set", "training.batch=4", "--set", "model.context=24"], &uses].concat();
    from(&place, "scaled", "text.txt", "same", &still).ok();
    assert_eq!(loss(&place, "same"), loss(&place, "scaled"));

    for (model, more) in [("scaled", &uses[..2]), ("scaled", &uses[2..]), ("plain", &uses)] {
        let said = from(&place, model, "text.txt", "new", &[&STILL[..], more].concat());
        assert_eq!(said.code, Some(3), "{model} {more:?} {said:?}");
        assert!(
            said.err.contains("`tying.residual_scale`") && said.err.contains(model),
            "{}",
            said.err
        );
        assert!(!place.path("new").exists(), "{model} {more:?}");
    }
}

#[test]
fn every_method_ties_a_model_that_is_there() {
    let place = place();
    train(
        &place,
        Kind::Gpt2,
        "run",
        &["--set", "tying.initial=independent", "--set", "agent.policy=none"],
    );

    for method in ["paper", "reference"] {
        let out = format!("on-{method}");
        let more = ["--method", method, "--steps", "8", "--set", "tying.decide_every=2"];
        from(&place, "run", "text.txt", &out, &more).ok();
        assert!(place.read(&format!("{out}/states.jsonl")).lines().count() > 2, "{method} decides");

        let spec = spec(&place, &out);
        // A method's activation is not that of the weights.
        assert_eq!((spec.model.gelu, spec.model.layers), (dlt_spec::spec::Gelu::Tanh, 4));

        // The preset's windows are longer than what the model can read.
        assert_eq!(spec.model.context, 40);
    }
}

#[test]
fn a_run_from_a_model_goes_on_as_if_never_stopped() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);

    let more =
        ["--set", "tying.decide_every=2", "--set", "checkpoint.every_steps=3", "--threads", "1"];
    from(&place, "run", "text.txt", "whole", &[&more[..], &["--steps", "6"]].concat()).ok();
    from(&place, "run", "text.txt", "parts", &[&more[..], &["--steps", "3"]].concat()).ok();

    // With a checkpoint, the model that it started from is not needed.
    fs::rename(place.path("run"), place.path("moved")).unwrap();
    place.dlt(&["train", "--resume", "parts", "--steps", "6", "--quiet", "--threads", "1"]).ok();

    let end = |run: &str| place.json(&format!("{run}/summary.json"))["validation_loss"].to_string();
    assert_eq!(end("parts"), end("whole"));

    // Without a checkpoint, it is needed.
    fs::remove_dir_all(place.path("parts/checkpoint")).unwrap();
    let said = place.dlt(&["train", "--resume", "parts", "--steps", "7"]);
    assert!(said.code == Some(4) && said.err.contains("run: no such run folder"), "{said:?}");
    fs::rename(place.path("moved"), place.path("run")).unwrap();
    place.dlt(&["train", "--resume", "parts", "--steps", "6", "--quiet", "--threads", "1"]).ok();
    assert_eq!(end("parts"), end("whole"));
}

#[test]
fn a_model_of_the_hub_is_fetched_and_pinned() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    place.dlt(&["export", "run", "--format", "hf", "--out", "hf"]).ok();

    let read = |file: &str| fs::read(place.path(&format!("hf/{file}"))).unwrap();
    let repository = |name: &str, files: &[&str]| {
        files
            .iter()
            .fold(Repository::model(name), |repository, file| repository.file(file, read(file)))
    };

    let files = ["config.json", "model.safetensors", "tokenizer.json", "spec.toml", "README.md"];
    let small = repository("someone/small", &files[..3]);
    let hub = StandIn::start();
    let pinned = format!("hf:someone/small@{}", small.commit());

    hub.serve(small);
    hub.serve(repository("someone/whole", &files));

    let dlt = |arguments: &[&str], is_offline: bool| -> Said {
        let mut command = place.command(arguments);
        for name in
            ["HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_CACHE"]
        {
            command.env_remove(name);
        }

        command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", place.path("hf-home"));
        command.env("HF_HUB_OFFLINE", if is_offline { "1" } else { "0" });

        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    };

    let train = |model: &str, out: &str, is_offline| {
        let arguments = [
            "train",
            "--from",
            model,
            "--data",
            "text.txt",
            "--out",
            out,
            "--set",
            "model.context=24",
        ];
        dlt(&[&arguments[..], &STILL].concat(), is_offline)
    };

    train("hf:someone/small", "first", false).ok();
    let spec = spec(&place, "first");
    assert_eq!((&spec.model.start, &spec.data.tokenizer), (&pinned, &pinned));
    train("hf:someone/small", "second", true).ok();
    assert_eq!(place.read("first/spec.toml"), place.read("second/spec.toml"));

    assert_eq!(
        place.json("first/summary.json")["validation_loss"],
        place.json("second/summary.json")["validation_loss"]
    );

    // Windows and batches as in training: another order of sums has other last bits.
    let same = ["--set", "model.context=24", "--set", "training.batch=4"];
    let back = ["import", "hf:someone/small", "--out", "back", "--data", "text.txt"];
    dlt(&[&back[..], &same].concat(), true).ok();
    assert!(place.path("back/companions/tokenizer.json").is_file());
    assert_eq!(loss(&place, "back"), loss(&place, "run"));

    // An export of this program says itself what it was trained on, so no `--data` is needed.
    dlt(&["import", "hf:someone/whole", "--out", "whole"], false).ok();
    assert_eq!(loss(&place, "whole"), loss(&place, "run"));

    let said = train("hf:someone/other", "third", true);
    assert!(said.code == Some(4) && said.err.contains("someone/other"), "{said:?}");
    assert!(!place.path("third").exists());
}

#[test]
fn rejects_what_contradicts_the_model() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    place.write("wide.toml", "[model]\nwidth = 32\n");
    place.dlt(&["export", "run", "--format", "hf", "--out", "hf"]).ok();
    fs::remove_file(place.path("hf/tokenizer.json")).unwrap();
    fs::remove_file(place.path("hf/spec.toml")).unwrap();

    for (arguments, code, word) in [
        (
            &["--from", "run", "--set", "model.width=32"][..],
            3,
            "`model.width` is 32, but the model has 16",
        ),
        (&["--from", "run", "wide.toml"], 3, "`model.width` is 32, but the model has 16"),
        (
            &["--from", "run", "--set", "model.gelu=erf"],
            3,
            "`model.gelu` is \"erf\", but the model has \"tanh\"",
        ),
        (&["--from", "run", "--set", "model.context=64"], 3, "at least model.context = 64"),
        (&["--from", "run", "--set", "tying.initial=frozen"], 3, "`tying.initial`"),
        (&["--from", "run", "--set", "data.tokenizer=gpt2"], 3, "257"),
        (&["--from", "gone"], 4, "gone: no such run folder"),
        (&["--from", "hf"], 3, "it has no tokenizer.json"),
        (&["--from", "hf:a/b/c"], 4, "OWNER/NAME"),
        (&["--from", "run", "--resume", "run"], 2, "--resume"),
        (
            &["--set", "model.start=run", "--set", "tying.initial=tied"],
            3,
            "the spec contradicts run",
        ),
    ] {
        let said =
            place.dlt(&[&["train", "--data", "text.txt", "--out", "new"], arguments].concat());
        assert_eq!(said.code, Some(code), "{arguments:?} {said:?}");
        assert!(said.err.contains(word), "{word} in {}", said.err);
        assert!(!place.path("new").exists(), "{arguments:?}");
    }
}
