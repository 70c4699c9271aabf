//! Models that are written for transformers.

use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_models::binding::Binding;
use dlt_models::huggingface::{Annotations, config, export, read_config};
use dlt_spec::spec::{Architecture, Attention, Objective, Output, Pooling, Size};
use dlt_spec::{CheckedSpec, Overlay, Spec};
use dlt_state::State;
use serde_json::Value;

use super::bits;
use super::cases::{CASES, Case, architecture, load, read_all, spec};
use crate::fixtures::{PAPER, distance, json};

fn annotations(config: &Value) -> Annotations {
    let token = |key: &str| config[key].as_u64().map(|token| token as u32);
    Annotations {
        labels: Vec::new(),
        begin: token("bos_token_id"),
        ends: token("eos_token_id").into_iter().collect(),
        padding: token("pad_token_id"),
    }
}

/// A file that is read and written again is the same: the same names, shapes and bits.
#[test]
fn law_what_is_read_is_written_again() {
    for name in CASES {
        let case = Case::new(name);
        let folder = tempfile::tempdir().expect("a folder");
        let model = case.model(Kernels::Fused);
        let given = json(&format!("huggingface/{name}/config.json"));

        export(&model, &case.spec, &annotations(&given), folder.path()).expect("written");
        let again = read_all(&folder.path().join("model.safetensors"));
        let expected = case.file();
        let names = |tensors: &[(String, Tensor)]| {
            tensors.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };

        assert_eq!(names(&again), names(&expected), "{name}");
        for ((tensor, ours), (_, theirs)) in again.iter().zip(&expected) {
            assert_eq!(distance(ours, theirs), 0.0, "{name} {tensor}");
        }

        let read = load(&spec(&folder.path().join("config.json")), folder.path(), Kernels::Fused)
            .expect("read");
        assert_eq!(bits(&read), bits(&model), "{name}");

        let is_text = case.spec.model.objective == Objective::NextToken;
        assert_eq!(folder.path().join("generation_config.json").exists(), is_text, "{name}");
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("a folder").count(),
            2 + usize::from(is_text)
        );
    }
}

/// Our keys have the values that transformers writes. The keys that we leave out say nothing about
/// what a model computes.
#[test]
fn matches_reference_configs() {
    const LEFT_OUT: [&str; 9] = [
        "transformers_version",
        "encoder_stride",
        "pooler_act",
        "pooler_output_size",
        "pretraining_tp",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
    ];

    for name in CASES {
        let case = Case::new(name);
        let expected = json(&format!("huggingface/{name}/config.json"));
        let written = config(&case.model(Kernels::Fused), &case.spec, &annotations(&expected))
            .expect("a config");

        for (key, value) in expected.as_object().expect("an object") {
            match written.get(key) {
                // We write the number that null means.
                Some(given) if key == "n_inner" => {
                    assert_eq!(given.as_u64(), Some(case.spec.feed_forward() as u64), "{name}");
                }
                // We write the defaults of transformers for a kind too.
                Some(Value::Object(given)) if key == "rope_parameters" => {
                    for (key, value) in value.as_object().expect("an object") {
                        let is_kept = given.get(key) == Some(value);
                        assert!(is_kept || key.starts_with("mscale"), "{name} {key}: {given:?}");
                    }
                }
                Some(given) => assert_eq!(given, value, "{name} {key}"),
                None => {
                    assert!(
                        LEFT_OUT.contains(&key.as_str()) || key == "summary_use_proj",
                        "{name} {key}"
                    )
                }
            }
        }
    }
}

#[test]
fn law_a_written_config_is_read_as_the_spec() {
    let folder = tempfile::tempdir().expect("a folder");

    for name in CASES {
        let case = Case::new(name);
        export(&case.model(Kernels::Fused), &case.spec, &Annotations::default(), folder.path())
            .expect("written");

        let mut again = read_config(&folder.path().join("config.json")).expect("a config").model;
        if name == "llama-dynamic" {
            // The positions are those from which the base grows, not the longest window.
            assert_eq!((again.positions, case.spec.positions()), (Size::Fixed(8), 14));
            again.positions = case.spec.model.positions;
        }

        if case.spec.model.feed_forward == Size::AUTO {
            assert_eq!(again.feed_forward, Size::Fixed(case.spec.feed_forward()));
            again.feed_forward = Size::AUTO;
        }

        assert_eq!(again, case.spec.model, "{name}");
    }
}

#[test]
fn labels_and_tokens_are_written() {
    let case = Case::new("gpt2-classes");
    let model = case.model(Kernels::Fused);
    let labels: Vec<_> = ["no", "yes", "maybe"].map(str::to_owned).to_vec();
    let annotations = Annotations { labels, begin: Some(1), ends: vec![2, 0], padding: None };
    let written = config(&model, &case.spec, &annotations).expect("a config");

    assert_eq!(written["id2label"], serde_json::json!({"0": "no", "1": "yes", "2": "maybe"}));
    assert_eq!(written["label2id"], serde_json::json!({"no": 0, "yes": 1, "maybe": 2}));
    assert_eq!(
        (&written["bos_token_id"], &written["pad_token_id"]),
        (&Value::from(1), &Value::Null)
    );

    assert_eq!(
        written["eos_token_id"],
        serde_json::json!([2, 0]),
        "several ends of a text are a list"
    );
    let short = Annotations { labels: vec!["no".to_owned()], ..annotations };

    let refusal = config(&model, &case.spec, &short).expect_err("too few").to_string();

    assert_eq!(
        refusal,
        "export: `labels` must be a name for each class, got 1 names for 3 classes"
    );
}

fn drawn(spec: &CheckedSpec, binding: Binding) -> Model {
    Model::new(architecture(spec), binding, PAPER, Kernels::Fused, 3, &Device::Cpu).expect("memory")
}

/// Tied and frozen layers are written as separate layers, with the weights that they compute with.
#[test]
fn law_ties_are_written_out() {
    for name in CASES {
        let case = Case::new(name);
        let folder = tempfile::tempdir().expect("a folder");
        let layers = case.spec.model.layers;
        let tied = State::new((0..layers).map(|layer| layer % 2).collect()).expect("a state");

        for binding in [
            Binding::frozen(layers),
            Binding::of_state(&State::all_tied(layers)),
            Binding::of_state(&tied),
        ] {
            let model = drawn(&case.spec, binding);
            export(&model, &case.spec, &Annotations::default(), folder.path()).expect("written");

            let read = load(&case.spec, folder.path(), Kernels::Fused).expect("read");
            for layer in 0..layers {
                let weights = |model: &Model| {
                    model.bank().weights(model.binding().storage(layer)).expect("there")
                };
                for (ours, theirs) in weights(&model).iter().zip(weights(&read)) {
                    assert_eq!(distance(ours, &theirs), 0.0, "{name} layer {layer}");
                }
            }
        }
    }
}

/// Equal models are equal files.
#[test]
fn law_the_same_model_is_the_same_bytes() {
    let case = Case::new("llama-tied");
    let bytes = || {
        let folder = tempfile::tempdir().expect("a folder");
        export(&case.model(Kernels::Fused), &case.spec, &Annotations::default(), folder.path())
            .expect("written");
        ["config.json", "model.safetensors", "generation_config.json"]
            .map(|name| std::fs::read(folder.path().join(name)).expect("written"))
    };

    assert_eq!(bytes(), bytes());
}

/// A separate output is written. BERT's has a bias under both names that transformers has for it.
#[test]
fn an_output_of_its_own_is_written() {
    for (name, added) in [
        ("gpt2-causal", &["lm_head.weight"][..]),
        ("llama-tied", &["lm_head.weight"]),
        ("bert-masked", &["cls.predictions.decoder.bias", "cls.predictions.decoder.weight"]),
    ] {
        let case = Case::new(name);
        let folder = tempfile::tempdir().expect("a folder");
        let mut own = Spec { model: case.spec.model.clone(), ..Spec::default() };

        own.model.output = Output::Own;
        let own = own.check().expect("a model");
        let model = drawn(&own, Binding::of_state(&State::independent(own.model.layers)));

        export(&model, &own, &Annotations::default(), folder.path()).expect("written");
        let written: Vec<_> = read_all(&folder.path().join("model.safetensors"));
        let mut expected: Vec<_> = case.file().into_iter().map(|(name, _)| name).collect();

        expected.extend(added.iter().map(|&name| name.to_owned()));
        expected.sort();
        assert_eq!(
            written.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
            expected,
            "{name}"
        );

        let again = spec(&folder.path().join("config.json"));
        assert_eq!(again.model.output, Output::Own);
        assert_eq!(
            bits(&load(&again, folder.path(), Kernels::Fused).expect("read")),
            bits(&model),
            "{name}"
        );
    }
}

/// A Llama or Qwen3 with these settings is written as the class that computes the same.
#[test]
fn llamas_have_the_class_that_computes_the_same() {
    let class = |changes: &[&str]| {
        let llama =
            ["model.architecture=llama", "model.layers=2", "model.width=12", "model.heads=2"];
        let overlays =
            llama.iter().chain(changes).map(|set| Overlay::from_assignment(set).expect("a key"));

        let spec = Spec::assemble(&overlays.collect::<Vec<_>>())
            .expect("a spec")
            .check()
            .expect("a model");
        let model = drawn(&spec, Binding::of_state(&State::independent(2)));
        let config = config(&model, &spec, &Annotations::default());

        config.map(|config| config["architectures"][0].as_str().expect("a word").to_owned())
    };

    let window = "model.attention_window=128";
    let wide = "model.head_width=8";
    let qwen3 = "model.architecture=qwen3";

    for (changes, expected) in [
        (&[][..], "LlamaForCausalLM"),
        (&["model.attention_bias=all", "model.feed_forward_bias=all", wide], "LlamaForCausalLM"),
        (&["model.feed_forward_bias=all"], "LlamaForCausalLM"),
        (&[window], "MistralForCausalLM"),
        (&["model.heads=5", wide], "MistralForCausalLM"),
        (&["model.attention_bias=inputs"], "Qwen2ForCausalLM"),
        (&["model.attention_bias=inputs", window, wide], "Qwen2ForCausalLM"),
        (
            &["model.attention_bias=inputs", "model.objective=classes", "model.classes=2"],
            "Qwen2ForSequenceClassification",
        ),
        (&[qwen3], "Qwen3ForCausalLM"),
        (&[qwen3, "model.attention_bias=all", window, wide], "Qwen3ForCausalLM"),
        (&[qwen3, "model.objective=classes", "model.classes=2"], "Qwen3ForSequenceClassification"),
    ] {
        assert_eq!(class(changes).expect("a config"), expected, "{changes:?}");
    }

    for changes in [
        &["model.attention_bias=inputs", "model.feed_forward_bias=all"][..],
        &["model.attention_bias=all", window],
        &["model.attention_bias=all", "model.heads=5", wide],
    ] {
        let refusal = class(changes).expect_err("refused").to_string();
        assert!(
            refusal.starts_with("export: `model.attention_bias` must be none or all"),
            "{refusal}"
        );
    }

    for bias in ["model.attention_bias=inputs", "model.feed_forward_bias=all"] {
        let refusal = class(&[qwen3, bias]).expect_err("refused").to_string();
        assert!(refusal.contains("must be none or all in qwen3"), "{refusal}");
    }
}

#[test]
fn rejects_models_that_transformers_has_no_class_for() {
    let refusal = |name, change: &dyn Fn(&mut Spec)| {
        let case = Case::new(name);
        let mut changed = Spec { model: case.spec.model.clone(), ..Spec::default() };
        change(&mut changed);

        let changed = changed.check().expect("a model");
        let model = drawn(&changed, Binding::of_state(&State::independent(changed.model.layers)));
        let folder = tempfile::tempdir().expect("a folder");
        let refused =
            export(&model, &changed, &Annotations::default(), folder.path()).expect_err("refused");

        assert_eq!(
            std::fs::read_dir(folder.path()).expect("a folder").count(),
            0,
            "nothing is written"
        );
        refused.to_string()
    };

    let pooling = |pooling| move |spec: &mut Spec| spec.model.pooling = pooling;
    let message =
        |setting, expected, got| format!("export: `{setting}` must be {expected}, got {got}");
    for got in [Pooling::Mean, Pooling::LastPosition] {
        let expected = message("model.pooling", "last-real", format!("{got:?}"));
        assert_eq!(refusal("gpt2-classes", &pooling(got)), expected);
        assert_eq!(refusal("llama-classes", &pooling(got)), expected);
    }

    let expected = message("model.pooling", "first", "Mean".to_owned());
    assert_eq!(refusal("vit-classes", &pooling(Pooling::Mean)), expected);

    let causal = |spec: &mut Spec| {
        assert_eq!(spec.model.architecture, Architecture::Bert);
        (spec.model.attention, spec.model.pooling) = (Attention::Causal, Pooling::LastReal);
    };

    let expected = message("model.attention", "full for classes of bert", "Causal".to_owned());
    assert_eq!(refusal("bert-classes", &causal), expected);
}
