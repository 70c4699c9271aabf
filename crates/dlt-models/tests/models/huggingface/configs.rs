//! What a `config.json` may say.

use std::path::Path;

use dlt_models::huggingface::{parse_config, read_config};
use dlt_spec::spec::{Architecture, Attention, Gelu, ModelSpec, Objective, Output, Pooling, Size};
use serde_json::{Value, json};

use crate::fixtures::{json as fixture, path};

fn parse(config: &Value) -> Result<ModelSpec, String> {
    let parsed = parse_config(config.as_object().expect("an object"), Path::new("config.json"));
    parsed.map_err(|error| error.to_string())
}

/// A fixture's config with other values.
fn changed(name: &str, changes: &Value) -> Value {
    let mut config = fixture(&format!("huggingface/{name}/config.json"));
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn read(name: &str, changes: &Value) -> ModelSpec {
    parse(&changed(name, changes)).unwrap_or_else(|error| panic!("{name} {changes}: {error}"))
}

#[test]
fn fixtures_are_read() {
    let of = |name: &str| read_config(&path("huggingface").join(name).join("config.json")).expect("a config");
    let causal = of("gpt2-causal");
    let expected = ModelSpec {
        architecture: Architecture::Gpt2,
        objective: Objective::NextToken,
        attention: Attention::Causal,
        layers: 3,
        width: 20,
        heads: 5,
        feed_forward: Size::AUTO,
        context: 13,
        positions: Size::Fixed(13),
        vocabulary: Size::Fixed(37),
        ..ModelSpec::default()
    };
    assert_eq!(causal, expected);
    let erf = of("gpt2-erf");
    assert_eq!((erf.gelu, erf.norm_epsilon, erf.feed_forward), (Gelu::Erf, 1e-6, Size::Fixed(40)));
    let masked = of("bert-masked");
    assert_eq!((masked.objective, masked.attention), (Objective::MaskedToken, Attention::Full));
    assert_eq!((masked.gelu, masked.norm_epsilon), (Gelu::Erf, 1e-12));
    let decoder = of("bert-causal");
    assert_eq!((decoder.objective, decoder.attention), (Objective::NextToken, Attention::Causal));
    let pairs = of("bert-classes");
    assert_eq!((pairs.classes, pairs.pooling), (Size::Fixed(2), Pooling::First));
    let vit = of("vit-classes");
    assert_eq!((vit.architecture, vit.picture, vit.patch), (Architecture::Vit, 12, 4));
    assert_eq!((vit.classes, vit.pooling, vit.attention), (Size::Fixed(5), Pooling::First, Attention::Full));
    let llama = of("llama-causal");
    assert_eq!((llama.output, llama.key_heads), (Output::Own, Size::Fixed(2)));
    assert_eq!((llama.rotary_base, llama.rotary_stretch[0]), (1e4, 1.0));
    let tied = of("llama-tied");
    assert_eq!((tied.output, tied.rotary_base), (Output::Tied, 500.0));
    assert_eq!(tied.rotary_stretch, [4.0, 1.0, 4.0, 32.0]);
    let classes = of("llama-classes");
    assert_eq!((classes.objective, classes.pooling), (Objective::Classes, Pooling::LastReal));
}

/// A file that says next to nothing is of the size that transformers takes for granted.
#[test]
fn absent_keys_have_the_defaults_of_each_family() {
    let of = |family: &str| parse(&json!({"model_type": family})).expect("a config");
    let sizes =
        |model: &ModelSpec| (model.layers, model.width, model.heads, model.vocabulary, model.positions);
    let gpt2 = of("gpt2");
    assert_eq!(sizes(&gpt2), (12, 768, 12, Size::Fixed(50_257), Size::Fixed(1024)));
    assert_eq!((gpt2.output, gpt2.dropout, gpt2.gelu), (Output::Tied, 0.1, Gelu::Tanh));
    let bert = of("bert");
    assert_eq!(sizes(&bert), (12, 768, 12, Size::Fixed(30_522), Size::Fixed(512)));
    assert_eq!((bert.output, bert.dropout, bert.gelu), (Output::Tied, 0.1, Gelu::Erf));
    assert_eq!(bert.feed_forward, Size::Fixed(3072));
    let vit = of("vit");
    assert_eq!(sizes(&vit), (12, 768, 12, Size::AUTO, Size::AUTO));
    assert_eq!((vit.picture, vit.patch, vit.dropout, vit.classes), (224, 16, 0.0, Size::AUTO));
    let llama = of("llama");
    assert_eq!(sizes(&llama), (32, 4096, 32, Size::Fixed(32_000), Size::Fixed(2048)));
    assert_eq!((llama.output, llama.key_heads, llama.rotary_base), (Output::Own, Size::Fixed(32), 1e4));
    assert_eq!((llama.norm_epsilon, llama.feed_forward), (1e-6, Size::Fixed(11_008)));
}

#[test]
fn classes_of_transformers_say_what_is_predicted() {
    for (name, class, objective) in [
        ("gpt2-causal", "GPT2Model", Objective::NextToken),
        ("gpt2-causal", "GPT2ForSequenceClassification", Objective::Classes),
        ("bert-masked", "BertModel", Objective::MaskedToken),
        ("bert-masked", "BertForPreTraining", Objective::MaskedToken),
        ("bert-causal", "BertModel", Objective::NextToken),
        ("vit-classes", "ViTModel", Objective::Classes),
        ("llama-causal", "LlamaModel", Objective::NextToken),
        ("llama-causal", "LlamaForSequenceClassification", Objective::Classes),
    ] {
        assert_eq!(read(name, &json!({"architectures": [class]})).objective, objective, "{class}");
    }
    assert_eq!(read("gpt2-causal", &json!({"architectures": null})).objective, Objective::NextToken);
    let classes = |changes| read("gpt2-classes", &changes).classes;
    assert_eq!(classes(json!({"id2label": null, "num_labels": 7})), Size::Fixed(7));
    assert_eq!(classes(json!({"id2label": null})), Size::Fixed(2));
    assert_eq!(read("vit-classes", &json!({"architectures": ["ViTModel"]})).classes, Size::AUTO);
}

#[test]
fn every_word_for_gelu_is_read() {
    for (word, gelu) in [
        ("gelu", Gelu::Erf),
        ("gelu_python", Gelu::Erf),
        ("gelu_new", Gelu::Tanh),
        ("gelu_pytorch_tanh", Gelu::Tanh),
        ("gelu_python_tanh", Gelu::Tanh),
        ("gelu_fast", Gelu::Tanh),
        ("gelu_accurate", Gelu::Tanh),
    ] {
        assert_eq!(read("gpt2-causal", &json!({"activation_function": word})).gelu, gelu, "{word}");
        assert_eq!(read("bert-masked", &json!({"hidden_act": word})).gelu, gelu, "{word}");
        assert_eq!(read("vit-classes", &json!({"hidden_act": word})).gelu, gelu, "{word}");
    }
}

#[test]
fn settings_of_older_releases_are_read() {
    let rotary = |changes: Value| {
        let model = read("llama-causal", &changes);
        (model.rotary_base, model.rotary_stretch)
    };
    let none = ModelSpec::default().rotary_stretch;
    assert_eq!(rotary(json!({"rope_parameters": null})), (1e4, none));
    assert_eq!(
        rotary(json!({"rope_parameters": null, "rope_theta": 5e5, "rope_scaling": null})),
        (5e5, none)
    );
    let scaling = json!({
        "type": "llama3",
        "factor": 8,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let expected = (5e5, [8.0, 1.0, 4.0, 8192.0]);
    let old = json!({"rope_parameters": null, "rope_theta": 500000, "rope_scaling": scaling});
    assert_eq!(rotary(old), expected);
    let mut new = scaling.clone();
    new["rope_theta"] = json!(5e5);
    assert_eq!(rotary(json!({"rope_parameters": new, "rope_theta": 5e5, "rope_scaling": scaling})), expected);
    let square = read("vit-classes", &json!({"image_size": [8, 8], "patch_size": [2, 2]}));
    assert_eq!((square.picture, square.patch), (8, 2));
    assert_eq!(
        read("llama-causal", &json!({"num_key_value_heads": null, "head_dim": null})).key_heads,
        Size::Fixed(6)
    );
}

fn refusal(name: &str, changes: &Value) -> String {
    parse(&changed(name, changes)).map(|_| ()).expect_err(&format!("{name} {changes}"))
}

/// Checks the refusals of one setting each: key, value, what is expected.
fn check_refusals<const N: usize>(name: &str, cases: [(&str, Value, &str); N]) {
    for (key, value, expected) in cases {
        let message = refusal(name, &json!({key: value}));
        assert_eq!(message, format!("config.json: `{key}`: expected {expected}, came {value}"), "{name}");
    }
}

const GELU: &str = "\"gelu\" or its approximation by tanh, \"gelu_new\"";

#[test]
fn rejects_settings_of_gpt2_that_cannot_be_expressed() {
    check_refusals(
        "gpt2-causal",
        [
            ("model_type", json!("t5"), "one of gpt2, bert, vit, llama"),
            (
                "architectures",
                json!("GPT2Model"),
                "one of GPT2Model, GPT2LMHeadModel, GPT2ForSequenceClassification",
            ),
            ("is_encoder_decoder", json!(true), "false"),
            ("add_cross_attention", json!(true), "false"),
            ("pruned_heads", json!({"0": [1]}), "nothing"),
            ("quantization_config", json!({"bits": 4}), "nothing"),
            ("scale_attn_weights", json!(false), "true"),
            ("scale_attn_by_inverse_layer_idx", json!(true), "false"),
            ("reorder_and_upcast_attn", json!(true), "false"),
            ("embd_pdrop", json!(0.1), "0, the dropout elsewhere"),
            ("activation_function", json!("relu"), GELU),
            ("activation_function", json!(1), "a word"),
            ("n_head", json!(3), "a divisor of 20"),
            ("n_head", json!(0), "a divisor of 20"),
            ("n_layer", json!("3"), "a whole number"),
            ("n_layer", json!(-3), "a whole number"),
            ("n_layer", Value::Null, "a whole number"),
            ("layer_norm_epsilon", json!("x"), "a number"),
            ("tie_word_embeddings", json!(1), "true or false"),
        ],
    );
    let came = refusal("gpt2-causal", &json!({"model_type": null}));
    assert_eq!(came, "config.json: `model_type`: expected one of gpt2, bert, vit, llama, came nothing");
}

#[test]
fn rejects_settings_of_bert_that_cannot_be_expressed() {
    check_refusals(
        "bert-masked",
        [
            (
                "architectures",
                json!(["BertForQuestionAnswering"]),
                "one of BertModel, BertForPreTraining, BertForMaskedLM, BertLMHeadModel, \
                 BertForSequenceClassification",
            ),
            ("position_embedding_type", json!("relative_key"), "\"absolute\""),
            ("type_vocab_size", json!(4), "2"),
            ("hidden_act", json!("relu"), GELU),
            ("is_decoder", json!(true), "false for this class of `architectures`"),
        ],
    );
    let expected = "true for this class of `architectures`";
    check_refusals("bert-causal", [("is_decoder", json!(false), expected)]);
    check_refusals(
        "bert-classes",
        [
            ("is_decoder", json!(true), "false for this class of `architectures`"),
            ("classifier_dropout", json!(0.5), "0, the dropout elsewhere"),
        ],
    );
}

#[test]
fn rejects_settings_of_vit_that_cannot_be_expressed() {
    check_refusals(
        "vit-classes",
        [
            ("architectures", json!(["BertModel"]), "one of ViTModel, ViTForImageClassification"),
            ("num_channels", json!(1), "3"),
            ("qkv_bias", json!(false), "true"),
            ("hidden_act", json!("quick_gelu"), GELU),
            ("image_size", json!([12, 8]), "a square"),
            ("patch_size", json!([4]), "a square"),
            ("patch_size", json!(5), "a divisor of `image_size` = 12"),
            ("patch_size", json!(0), "a divisor of `image_size` = 12"),
        ],
    );
}

#[test]
fn rejects_settings_of_llama_that_cannot_be_expressed() {
    check_refusals(
        "llama-causal",
        [
            ("attention_bias", json!(true), "false"),
            ("mlp_bias", json!(true), "false"),
            ("head_dim", json!(8), "4"),
            ("hidden_act", json!("gelu"), "\"silu\""),
            ("num_key_value_heads", json!(4), "a divisor of 6"),
            ("partial_rotary_factor", json!(0.5), "1"),
            ("rope_parameters", json!(3), "an object"),
            ("rope_theta", json!(5.5), "10000 as in `rope_parameters`"),
        ],
    );
}

#[test]
fn rejects_rotary_positions_of_another_kind() {
    let refused = |changes: Value| refusal("llama-causal", &changes);
    let message = |key, expected, came| format!("config.json: `{key}`: expected {expected}, came {came}");
    let known = "\"default\" or \"llama3\"";
    let new = refused(json!({"rope_parameters": {"rope_type": "yarn"}}));
    assert_eq!(new, message("rope_parameters.rope_type", known, "\"yarn\""));
    let old = refused(json!({"rope_parameters": null, "rope_scaling": {"type": "linear", "factor": 2.0}}));
    assert_eq!(old, message("rope_scaling.type", known, "\"linear\""));
    let part = refused(json!({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}));
    assert_eq!(part, message("rope_parameters.low_freq_factor", "a number", "nothing"));
    let partial = refused(json!({"rope_parameters": {"partial_rotary_factor": 0.5}}));
    assert_eq!(partial, message("rope_parameters.partial_rotary_factor", "1", "0.5"));
    let nested = refused(json!({"rope_parameters": {"full": {"rope_theta": 1.0}}}));
    assert_eq!(nested, message("rope_parameters.full", "one setting for all layers", "{\"rope_theta\":1.0}"));
    let two = refusal("llama-tied", &json!({"rope_scaling": {"type": "default"}}));
    let expected = "[4.0, 1.0, 4.0, 32.0] as in `rope_parameters`";
    assert_eq!(two, message("rope_scaling", expected, "[1.0, 1.0, 4.0, 8192.0]"));
}

#[test]
fn rejects_numbers_of_classes_that_cannot_be() {
    let refused = |changes: Value| refusal("gpt2-classes", &changes);
    let message = |key, expected, came| format!("config.json: `{key}`: expected {expected}, came {came}");
    let regression = refused(json!({"problem_type": "regression"}));
    assert_eq!(regression, message("problem_type", "\"single_label_classification\"", "\"regression\""));
    let contradiction = refused(json!({"num_labels": 2}));
    assert_eq!(contradiction, message("num_labels", "the 3 of `id2label`", "2"));
    let named = refused(json!({"id2label": {"0": "one"}}));
    assert_eq!(named, message("id2label", "at least 2 classes", "1"));
    let counted = refused(json!({"id2label": null, "num_labels": 1}));
    assert_eq!(counted, message("num_labels", "at least 2 classes", "1"));
}

#[test]
fn rejects_files_that_are_no_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    let refusal = || read_config(&path).map(|_| ()).expect_err("refused").to_string();
    assert!(refusal().starts_with("cannot read "));
    let (syntax, kind) = ("not JSON", "expected a JSON object");
    for (content, message) in [("", syntax), ("{", syntax), ("[]", kind), ("3", kind)] {
        std::fs::write(&path, content).expect("written");
        assert!(refusal().starts_with(&format!("{}: {message}", path.display())), "{content}");
    }
    let file = std::fs::File::create(&path).expect("written");
    file.set_len((16 << 20) + 1).expect("a sparse file");
    assert!(refusal().ends_with("it has 16777217 bytes, expected at most 16777216"));
}
