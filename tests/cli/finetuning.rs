//! `dlt finetune`: a model learns the classes of a task while its tying stays fixed.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use dlt_hub_stand_in::{StandIn, catalogue};
use dlt_spec::Spec;
use dlt_spec::spec::{Initial, ResidualScale};

use crate::models::{Kind, SCALED, loss, place, train};
use crate::workplace::{Said, Workplace};

/// Settings with which layers share weights, and no decision is made.
const TIED: [&str; 4] = ["--set", "tying.initial=[0,0,2,2]", "--set", "agent.policy=none"];

fn finetune(place: &Workplace, run: &str, out: &str, more: &[&str]) -> Said {
    let data =
        ["finetune", run, "--task", "glue/sst2", "--data", "SST", "--out", out, "--threads", "1"];
    place.dlt(&[&data[..], more].concat()).ok()
}

fn weights(place: &Workplace, run: &str) -> BTreeMap<String, Vec<u32>> {
    let path = place.path(&format!("{run}/model.safetensors"));
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let bits = |tensor: Tensor| -> Vec<u32> {
        tensor
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f32::to_bits)
            .collect()
    };

    tensors.into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
}

fn spec(place: &Workplace, run: &str) -> Spec {
    toml::from_str(&place.read(&format!("{run}/spec.toml"))).unwrap()
}

#[test]
fn texts_are_told_apart_with_the_tying_held() {
    for kind in [Kind::Gpt2, Kind::Llama] {
        let place = place();
        train(&place, kind, "run", &TIED);

        let learn =
            ["--set", "optimizer.learning_rate=3e-3", "--set", "training.batch=8", "--steps", "60"];
        let said = finetune(&place, "run", "tuned", &learn);

        for part in
            ["validation accuracy", "majority class", "Matthews correlation", "F1 of class 1"]
        {
            assert!(said.out.contains(part), "{part} is missing in\n{}", said.out);
        }

        assert!(said.err.contains("new and drawn at random"), "{}", said.err);
        let scores = place.json("tuned/summary.json")["validation_scores"].clone();
        assert_eq!(scores["majority_accuracy"], 0.5);
        assert!(scores["accuracy"].as_f64().unwrap() > 0.9, "{kind:?} {scores}");

        let tuned = spec(&place, "tuned");
        assert_eq!(tuned.tying.initial, Initial::Owners(vec![0, 0, 2, 2]));

        let start = place.path("run").to_string_lossy().into_owned();
        assert_eq!(
            (tuned.model.start, tuned.model.dropout),
            (start, spec(&place, "run").model.dropout)
        );

        let map = place.dlt(&["inspect", "tuned"]).ok().out;
        assert!(map.contains("0 0 2 2"), "{map}");

        for text in [&said.err, &said.out, &map] {
            assert!(!text.contains("perplexity"), "classes have no perplexity:\n{text}");
        }

        // A fine-tuned model can be exported and imported like any other.
        place.dlt(&["export", "tuned", "--format", "hf", "--out", "out"]).ok();
        place.dlt(&["import", "out", "--out", "back"]).ok();
        assert_eq!(loss(&place, "back"), loss(&place, "tuned"));
    }
}

/// Layers keep the factors that their weights were trained with, or the run is refused.
#[test]
fn scaled_branches_are_held_with_the_tying() {
    let place = place();
    train(
        &place,
        Kind::Gpt2,
        "held",
        &[&TIED[..], &["--set", "tying.residual_scale=uses"]].concat(),
    );
    finetune(&place, "held", "tuned", &["--method", "reference-glue", "--steps", "2"]);
    assert_eq!(spec(&place, "tuned").tying.residual_scale, ResidualScale::Uses);

    // Groups that are no longer those of the start would get other factors.
    train(&place, Kind::Gpt2, "grown", &SCALED);
    let arguments =
        ["--task", "glue/sst2", "--data", "SST", "--out", "none", "--threads", "1", "--steps", "2"];
    let said = place.dlt(&[&["finetune", "grown"], &arguments[..]].concat());

    assert_eq!(said.code, Some(3), "{said:?}");
    for part in
        ["`tying.residual_scale`", "[0.25, 0.25, 0.25, 0.25]", "[1.0, 1.0, 0.5, 0.5]", "dlt import"]
    {
        assert!(said.err.contains(part), "{part} is missing in {}", said.err);
    }

    assert!(!place.path("none").exists());
    // What the message advises works.
    place.dlt(&["export", "grown", "--format", "hf", "--out", "out"]).ok();
    place.dlt(&["import", "out", "--out", "plain"]).ok();
    finetune(&place, "plain", "tuned-plain", &["--steps", "2"]);
    assert_eq!(spec(&place, "tuned-plain").tying.residual_scale, ResidualScale::None);
}

#[test]
fn a_frozen_body_stays_as_it_is_to_the_last_bit() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &TIED);

    let before = weights(&place, "run");
    let steps = ["--steps", "4", "--set", "training.batch=8"];
    finetune(&place, "run", "frozen", &[&steps[..], &["--freeze"]].concat());

    let after = weights(&place, "frozen");
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new, ["transformer.score.weight"]);

    for (name, bits) in &before {
        assert_eq!(after.get(name), Some(bits), "{name}");
    }

    finetune(&place, "run", "free", &steps);
    let moved = weights(&place, "free");
    assert!(before.iter().any(|(name, bits)| moved[name] != *bits));
}

#[test]
fn a_finetuned_run_goes_on_bit_for_bit() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &TIED);

    let more = [
        "--set",
        "training.batch=8",
        "--set",
        "checkpoint.every_steps=2",
        "--set",
        "optimizer.schedule=constant",
    ];
    finetune(&place, "run", "whole", &[&more[..], &["--steps", "6"]].concat());
    finetune(&place, "run", "parts", &[&more[..], &["--steps", "2"]].concat());
    place.dlt(&["train", "--resume", "parts", "--steps", "6", "--quiet", "--threads", "1"]).ok();
    assert_eq!(weights(&place, "parts"), weights(&place, "whole"));
}

#[test]
fn the_reference_reads_classes_as_its_code_does() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &TIED);
    finetune(
        &place,
        "run",
        "tuned",
        &["--method", "reference-glue", "--steps", "2", "--set", "training.batch=8"],
    );

    let tuned = serde_json::to_value(spec(&place, "tuned")).unwrap();
    let model = &tuned["model"];
    assert_eq!((&model["pooling"], &model["classes"]), (&"last-position".into(), &1.into()));
    assert_eq!((&model["gelu"], &tuned["tying"]["gradient"]), (&"tanh".into(), &"owner".into()));
    assert_eq!(tuned["tying"]["initial"], serde_json::json!([0, 0, 2, 2]));
}

#[test]
fn a_task_of_the_hub_is_fetched() {
    let place = place();
    let hub = StandIn::start();
    catalogue(96).into_iter().for_each(|repository| hub.serve(repository));
    train(&place, Kind::Gpt2, "run", &TIED);

    for task in ["glue/cola", "glue/mrpc"] {
        let out = task.replace('/', "-");
        let mut command =
            place.command(&["finetune", "run", "--task", task, "--steps", "2", "--out", &out]);

        for name in
            ["HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "HF_HUB_CACHE"]
        {
            command.env_remove(name);
        }

        command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", place.path("hf"));
        let output = command.env("DLT_CACHE", place.path("cache")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Matthews correlation"));
        assert_eq!(spec(&place, &out).data.source, task);
    }
}

#[test]
fn pictures_are_told_apart() {
    let place = place();
    train(&place, Kind::Vit, "run", &TIED);

    let data = [
        "finetune",
        "run",
        "--task",
        "cifar10",
        "--data",
        "pictures.bin",
        "--out",
        "tuned",
        "--steps",
        "3",
    ];

    let said = place.dlt(&[&data[..], &["--set", "training.batch=8"]].concat()).ok();
    assert!(said.out.contains("validation accuracy"), "{}", said.out);
    assert_eq!(spec(&place, "tuned").tying.initial, Initial::Owners(vec![0, 0, 2, 2]));
}

#[test]
fn rejects_what_cannot_be_learnt() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &TIED);
    train(&place, Kind::Vit, "seen", &TIED);

    for (arguments, code, word) in [
        (&["run", "--task", "glue/sst3"][..], 2, "expected one of"),
        (&["run", "--task", "wikitext-2"], 2, "glue/sst2"),
        (&["run", "--task", "cifar10", "--data", "pictures.bin"], 2, "run reads tokens"),
        (&["seen", "--task", "glue/sst2", "--data", "SST"], 2, "seen reads pictures"),
        (&["gone", "--task", "glue/sst2", "--data", "SST"], 4, "gone: no such run folder"),
        (&["run", "--task", "glue/sst2", "--data", "NONE"], 4, "NONE"),
        (
            &["run", "--task", "glue/sst2", "--data", "SST", "--set", "model.layers=3"],
            3,
            "but the model has 4",
        ),
        (
            &["run", "--task", "glue/sst2", "--data", "SST", "--set", "model.pooling=first"],
            3,
            "`model.pooling`",
        ),
        (&["run", "--task", "glue/sst2", "--data", "SST", "--out", "seen"], 2, "seen"),
        (&["run"], 2, "--task"),
    ] {
        let out: &[&str] = if arguments.contains(&"--out") { &[] } else { &["--out", "new"] };
        let said = place.dlt(&[&["finetune"], arguments, out].concat());
        assert_eq!(said.code, Some(code), "{arguments:?} {said:?}");
        assert!(said.err.contains(word), "{word} in {}", said.err);
        assert!(!place.path("new").exists(), "{arguments:?}");
    }
}
