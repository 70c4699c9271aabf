//! What a `config.json` may say.

use std::path::Path;

use dlt_models::huggingface::{parse_config, read_config};
use dlt_spec::spec::{
    Architecture, Attention, AttentionBias, FeedForwardBias, Gelu, ModelSpec, Objective, Output,
    Pooling, RotaryKind, Size,
};
use serde_json::{Value, json};

use super::cases::CASES;
use crate::fixtures::{json as fixture, path};

fn parse(config: &Value) -> Result<ModelSpec, String> {
    let parsed = parse_config(config.as_object().expect("an object"), Path::new("config.json"));
    parsed.map(|config| config.model).map_err(|error| error.to_string())
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
    let of = |name: &str| {
        read_config(&path("huggingface").join(name).join("config.json")).expect("a config").model
    };
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
    assert_eq!(
        (vit.classes, vit.pooling, vit.attention),
        (Size::Fixed(5), Pooling::First, Attention::Full)
    );

    let llama = of("llama-causal");
    assert_eq!((llama.output, llama.key_heads), (Output::Own, Size::Fixed(2)));
    assert_eq!((llama.rotary_base, llama.rotary_stretch[0]), (1e4, 1.0));

    let tied = of("llama-tied");
    assert_eq!((tied.output, tied.rotary_base), (Output::Tied, 500.0));
    assert_eq!(tied.rotary_stretch, [4.0, 1.0, 4.0, 32.0]);

    let biased = of("llama-biases");
    assert_eq!(
        (biased.attention_bias, biased.feed_forward_bias),
        (AttentionBias::All, FeedForwardBias::All)
    );
    assert_eq!((biased.heads, biased.head_width), (3, Size::Fixed(6)));

    let mistral = of("mistral");
    assert_eq!(
        (mistral.architecture, mistral.attention_window),
        (Architecture::Llama, Size::Fixed(16))
    );
    assert_eq!((mistral.context, mistral.positions), (16, Size::Fixed(20)));

    let qwen = of("qwen2");
    assert_eq!(
        (qwen.attention_bias, qwen.feed_forward_bias),
        (AttentionBias::Inputs, FeedForwardBias::Auto)
    );

    let qwen3 = of("qwen3");
    assert_eq!(
        (qwen3.architecture, qwen3.output, qwen3.attention_bias),
        (Architecture::Qwen3, Output::Tied, AttentionBias::Auto)
    );
    assert_eq!((qwen3.key_heads, qwen3.head_width), (Size::Fixed(2), Size::Fixed(6)));

    let biased = of("qwen3-biases");
    assert_eq!((biased.output, biased.attention_bias), (Output::Own, AttentionBias::All));

    let kinds = ["linear", "dynamic", "yarn", "longrope"]
        .map(|kind| of(&format!("llama-{kind}")).rotary_kind);
    let expected =
        [RotaryKind::Linear, RotaryKind::Dynamic, RotaryKind::Yarn, RotaryKind::LongRope];
    assert_eq!(kinds, expected);

    let classes = of("llama-classes");
    assert_eq!((classes.objective, classes.pooling), (Objective::Classes, Pooling::LastReal));
}

/// A file with only a model type has the sizes that are transformers' defaults.
#[test]
fn absent_keys_have_the_defaults_of_each_family() {
    let of = |family: &str| parse(&json!({"model_type": family})).expect("a config");
    let sizes = |model: &ModelSpec| {
        (model.layers, model.width, model.heads, model.vocabulary, model.positions)
    };
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
    assert_eq!(
        (llama.output, llama.key_heads, llama.rotary_base),
        (Output::Own, Size::Fixed(32), 1e4)
    );
    assert_eq!((llama.norm_epsilon, llama.feed_forward), (1e-6, Size::Fixed(11_008)));

    let mistral = of("mistral");
    assert_eq!((mistral.key_heads, mistral.feed_forward), (Size::Fixed(8), Size::Fixed(14_336)));
    assert_eq!((mistral.positions, mistral.context), (Size::Fixed(131_072), 4096));

    let qwen = of("qwen2");
    assert_eq!((qwen.vocabulary, qwen.positions), (Size::Fixed(151_936), Size::Fixed(32_768)));
    assert_eq!((qwen.context, qwen.attention_window), (32_768, Size::AUTO));

    // Heads are 128 wide, which is C / H for 32 heads and not for 16.
    let qwen3 = of("qwen3");
    assert_eq!((qwen3.architecture, qwen3.output), (Architecture::Qwen3, Output::Own));
    assert_eq!((qwen3.vocabulary, qwen3.positions), (qwen.vocabulary, qwen.positions));
    assert_eq!((qwen3.feed_forward, qwen3.head_width), (qwen.feed_forward, Size::AUTO));

    let fewer = json!({"model_type": "qwen3", "num_attention_heads": 16, "num_key_value_heads": 8});
    assert_eq!(parse(&fewer).expect("a config").head_width, Size::Fixed(128));
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

    assert_eq!(
        read("gpt2-causal", &json!({"architectures": null})).objective,
        Objective::NextToken
    );
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
    assert_eq!(
        rotary(json!({"rope_parameters": new, "rope_theta": 5e5, "rope_scaling": scaling})),
        expected
    );

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

/// Checks that each of these settings is refused: key, value, what is expected.
fn check_refusals<const N: usize>(name: &str, cases: [(&str, Value, &str); N]) {
    for (key, value, expected) in cases {
        let message = refusal(name, &json!({key: value}));
        assert_eq!(
            message,
            format!("config.json: `{key}`: expected {expected}, got {value}"),
            "{name}"
        );
    }
}

const GELU: &str = "\"gelu\" or its approximation by tanh, \"gelu_new\"";

#[test]
fn rejects_settings_of_gpt2_that_cannot_be_expressed() {
    check_refusals(
        "gpt2-causal",
        [
            ("model_type", json!("t5"), "one of gpt2, bert, vit, llama, mistral, qwen2, qwen3"),
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
            ("embd_pdrop", json!("x"), "a number"),
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

    let got = refusal("gpt2-causal", &json!({"model_type": null}));

    assert_eq!(
        got,
        "config.json: `model_type`: expected one of gpt2, bert, vit, llama, mistral, qwen2, qwen3, got nothing"
    );
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
            ("classifier_dropout", json!([0.5]), "a number"),
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
            ("attention_bias", json!(1), "true or false"),
            ("mlp_bias", json!("all"), "true or false"),
            ("head_dim", json!(7), "an even width of a head, for rotary positions"),
            ("head_dim", json!(0), "an even width of a head, for rotary positions"),
            ("num_attention_heads", json!(0), "at least 1"),
            ("hidden_act", json!("gelu"), "\"silu\""),
            ("num_key_value_heads", json!(4), "a divisor of 6"),
            ("partial_rotary_factor", json!(0.5), "1"),
            ("rope_parameters", json!(3), "an object"),
            ("rope_theta", json!(5.5), "10000 as in `rope_parameters`"),
        ],
    );
}

#[test]
fn rejects_rotary_positions_that_cannot_be() {
    let rope = |key: &str, value: Value, more: Value| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 2.0});
        scaling
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        scaling[key] = value;
        refusal("llama-causal", &json!({"rope_parameters": scaling}))
    };

    let message = |key: &str, expected: &str, got: &str| {
        format!("config.json: `rope_parameters.{key}`: expected {expected}, got {got}")
    };
    let kinds = "one of default, linear, dynamic, yarn, longrope, llama3, proportional";

    for (key, value, more, expected, got) in [
        ("rope_type", json!("axial"), json!({}), kinds, "\"axial\""),
        ("factor", json!(null), json!({"rope_type": "linear"}), "a number", "nothing"),
        ("factor", json!(0.5), json!({"rope_type": "linear"}), "at least 1", "0.5"),
        ("factor", json!(0.5), json!({}), "at least 1", "0.5"),
        ("beta_fast", json!(1), json!({}), "above beta_slow = 1, which is above 0", "1"),
        ("attention_factor", json!(0), json!({}), "a number above 0", "0"),
        ("truncate", json!(1), json!({}), "true or false", "1"),
        ("original_max_position_embeddings", json!(1), json!({}), "at least 2 tokens", "fewer"),
        ("low_freq_factor", json!(null), json!({"rope_type": "llama3"}), "a number", "nothing"),
        (
            "high_freq_factor",
            json!(1.0),
            json!({"rope_type": "llama3", "low_freq_factor": 1.0}),
            "above low_freq_factor = 1, which is above 0",
            "1",
        ),
        ("short_factor", json!([1.0]), json!({"rope_type": "longrope"}), LONGROPE, "[1.0]"),
        (
            "long_factor",
            json!([1.0, 0.0]),
            json!({"rope_type": "longrope", "short_factor": [1, 2]}),
            LONGROPE,
            "[1.0, 0.0]",
        ),
        ("original_max_position_embeddings", json!(8), json!({"rope_type": "dynamic"}), "24", "8"),
        ("partial_rotary_factor", json!(0.5), json!({}), "1", "0.5"),
        ("partial_rotary_factor", json!(0.5), json!({"rope_type": "proportional"}), "1", "0.5"),
        ("mrope_section", json!([1, 1]), json!({}), "no such key for this kind", "[1,1]"),
        ("beta_fast", json!(9), json!({"rope_type": "linear"}), "no such key for this kind", "9"),
        (
            "full",
            json!({"rope_theta": 1.0}),
            json!({}),
            "one setting for all layers",
            "{\"rope_theta\":1.0}",
        ),
    ] {
        assert_eq!(rope(key, value, more), message(key, expected, got), "{key}");
    }

    let old = refusal(
        "llama-causal",
        &json!({"rope_parameters": null, "rope_scaling": {"type": "mrope", "factor": 2.0}}),
    );
    assert_eq!(old, format!("config.json: `rope_scaling.type`: expected {kinds}, got \"mrope\""));

    let two = refusal("llama-tied", &json!({"rope_scaling": {"type": "default"}}));
    assert!(two.starts_with("config.json: `rope_scaling`: expected Stretched"), "{two}");
}

const LONGROPE: &str = "2 numbers above 0, one for each frequency";

/// The same positions in the keys of transformers before 5, with the new or the old name of the
/// kind.
#[test]
fn law_both_spellings_of_rotary_positions_are_the_same() {
    for name in CASES.into_iter().filter(|name| !name.starts_with("bert")) {
        let config = fixture(&format!("huggingface/{name}/config.json"));
        let Some(new) = config["rope_parameters"].as_object() else { continue };
        let read_as = |changes: Value| read(name, &changes);
        let expected = read_as(json!({}));
        let mut old = new.clone();
        let theta = old.remove("rope_theta").expect("every fixture has it");

        let of = |scaling: &serde_json::Map<String, Value>| {
            read_as(json!({"rope_parameters": null, "rope_scaling": scaling, "rope_theta": theta}))
        };
        assert_eq!(of(&old), expected, "{name}");

        let kind = old.remove("rope_type").expect("every fixture has it");
        old.insert("type".to_owned(), kind);
        assert_eq!(of(&old), expected, "{name}");

        // Both spellings at once, as in files for old and new releases.
        let both = read_as(json!({"rope_scaling": old, "rope_theta": theta}));
        assert_eq!(both, expected, "{name}");
    }
}

#[test]
fn what_rotary_kinds_leave_out_is_what_transformers_takes() {
    let of = |scaling: Value, more: Value| {
        let mut changes = json!({"rope_parameters": scaling, "max_position_embeddings": 64});
        changes
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());

        let model = read("llama-causal", &changes);
        (model.rotary_kind, model.rotary_stretch, model.rotary_attention)
    };

    let yarn = |more: Value| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 4.0});
        scaling
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        of(scaling, json!({}))
    };

    let usual = 0.1 * 4_f64.ln() + 1.0;
    assert_eq!(yarn(json!({})), (RotaryKind::Yarn, [4.0, 1.0, 32.0, 64.0], usual));
    assert_eq!(yarn(json!({"mscale": 2.0})).2, usual, "one of two scales is none");

    let ratio = (0.2 * 4_f64.ln() + 1.0) / (0.05 * 4_f64.ln() + 1.0);
    assert_eq!(yarn(json!({"mscale": 2.0, "mscale_all_dim": 0.5})).2, ratio);
    assert_eq!(yarn(json!({"attention_factor": 1.5, "mscale": 2.0, "mscale_all_dim": 0.5})).2, 1.5);
    assert_eq!(yarn(json!({"truncate": false})).0, RotaryKind::YarnUnrounded);

    let implied = yarn(json!({"factor": null, "original_max_position_embeddings": 16}));
    assert_eq!(implied.1, [4.0, 1.0, 32.0, 16.0]);

    let outside = of(
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
        json!({"original_max_position_embeddings": 32}),
    );
    assert_eq!(outside.1[3], 32.0, "the key outside is read first");

    let long = of(
        json!({"rope_type": "longrope", "short_factor": [1, 2], "long_factor": [3, 4]}),
        json!({"original_max_position_embeddings": 16}),
    );
    let attention = (1.0 + 4_f64.ln() / 16_f64.ln()).sqrt();
    assert_eq!(long, (RotaryKind::LongRope, [4.0, 1.0, 4.0, 16.0], attention));

    let dynamic = of(json!({"rope_type": "dynamic", "factor": 2}), json!({}));
    assert_eq!(dynamic, (RotaryKind::Dynamic, [2.0, 1.0, 4.0, 64.0], 1.0));

    let proportional = of(
        json!({"rope_type": "proportional", "factor": 2, "partial_rotary_factor": 1}),
        json!({}),
    );
    assert_eq!(proportional, of(json!({"rope_type": "linear", "factor": 2}), json!({})));
}

/// A window of text is never longer than the attention window, so that attention is that of a
/// Llama.
#[test]
fn sliding_windows_bound_the_windows_of_text() {
    let window = |name: &str, changes: Value| {
        let model = read(name, &changes);
        (model.attention_window, model.context, model.positions)
    };

    let mistral = |changes: Value| window("mistral", changes);
    let positions = Size::Fixed(20);
    assert_eq!(mistral(json!({"sliding_window": 4})), (Size::Fixed(4), 4, positions));
    assert_eq!(mistral(json!({"sliding_window": 4096})), (Size::Fixed(4096), 20, positions));
    assert_eq!(mistral(json!({"sliding_window": null})), (Size::AUTO, 20, positions));

    let mut without = fixture("huggingface/mistral/config.json");
    without.as_object_mut().expect("an object").remove("sliding_window");
    assert_eq!(
        parse(&without).expect("a config").attention_window,
        Size::Fixed(4096),
        "its default"
    );

    let qwen = |changes: Value| window("qwen2", changes);
    let all = ["full_attention", "full_attention"];
    let some = ["full_attention", "sliding_attention"];

    assert_eq!(qwen(json!({"sliding_window": 4})).0, Size::AUTO, "not in use");
    let used = |changes: Value| {
        let mut config =
            json!({"use_sliding_window": true, "sliding_window": 4, "layer_types": null});
        config
            .as_object_mut()
            .expect("an object")
            .extend(changes.as_object().expect("an object").clone());
        qwen(config).0
    };

    assert_eq!(used(json!({"layer_types": all})), Size::AUTO);
    assert_eq!(used(json!({"layer_types": some})), Size::Fixed(4));
    assert_eq!(used(json!({"max_window_layers": 28})), Size::AUTO, "no layer comes after them");
    assert_eq!(used(json!({"max_window_layers": 1})), Size::Fixed(4));

    let used = json!({"use_sliding_window": true, "sliding_window": 4, "layer_types": some});
    assert_eq!(window("qwen3", used).0, Size::Fixed(4));

    let refused = refusal("mistral", &json!({"sliding_window": 1}));
    assert_eq!(refused, "config.json: `sliding_window`: expected at least 2 tokens, got 1");

    let types = refusal("qwen2", &json!({"layer_types": ["full_attention", "chunked_attention"]}));

    assert!(
        types.contains("`layer_types`: expected full_attention or sliding_attention"),
        "{types}"
    );
}

/// Dropout and other keys that only training and serving read are accepted. If training differs, a
/// note says so.
#[test]
fn what_only_training_reads_does_not_stop_an_import() {
    let expected = read("gpt2-causal", &json!({}));
    let harmless = json!({
        "attn_pdrop": 0.3, "summary_first_dropout": 0.3, "use_cache": false, "output_attentions": true,
        "torch_dtype": "bfloat16", "layerdrop": 0.1, "gradient_checkpointing": true, "_name_or_path": "x",
        "temperature": 0.7, "task_specific_params": {"text-generation": {}}, "n_ctx": 7, "unk_token_id": 3,
        "n_special": 0, "predict_special_tokens": true, "output_past": true,
        "new_and_off": false, "new_and_empty": [], "new_and_null": null, "transformers.js_config": {"dtype": "q4"},
    });

    assert_eq!(read("gpt2-causal", &harmless), expected);

    for (name, key, note) in [
        (
            "gpt2-causal",
            "embd_pdrop",
            "`embd_pdrop` is 0.3: training here drops with 0 everywhere (model.dropout)",
        ),
        (
            "bert-classes",
            "classifier_dropout",
            "`classifier_dropout` is 0.3: training here drops with 0 everywhere (model.dropout)",
        ),
    ] {
        let config = changed(name, &json!({key: 0.3}));
        let config =
            parse_config(config.as_object().expect("an object"), Path::new("c")).expect("a config");
        assert_eq!((config.model, config.notes), (read(name, &json!({})), vec![note.to_owned()]));
    }
}

#[test]
fn rejects_keys_that_a_model_may_compute_with() {
    let expected = "no such key, as a model may compute with it (remove it if this model does not)";
    for (key, value) in [
        ("logit_scale", json!(0.5)),
        ("attn_logit_softcapping", json!(50.0)),
        ("use_qk_norm", json!(true)),
        ("num_local_experts", json!(8)),
        ("norm_type", json!("layer")),
    ] {
        check_refusals("llama-causal", [(key, value.clone(), expected)]);
        check_refusals("gpt2-causal", [(key, value, expected)]);
    }

    check_refusals("llama-causal", [("sliding_window", json!(8), expected)]);
    check_refusals("llama-causal", [("auto_map", json!({"AutoModel": "x.Y"}), "nothing")]);

    let long = refusal("llama-causal", &json!({"mixture": "x".repeat(500)}));
    assert!(long.len() < 250 && long.ends_with('…'), "{long}");
}

#[test]
fn rejects_numbers_of_classes_that_cannot_be() {
    let refused = |changes: Value| refusal("gpt2-classes", &changes);
    let message =
        |key, expected, got| format!("config.json: `{key}`: expected {expected}, got {got}");
    let regression = refused(json!({"problem_type": "regression"}));

    assert_eq!(
        regression,
        message("problem_type", "\"single_label_classification\"", "\"regression\"")
    );
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
    let syntax = "not JSON";
    let kind = "expected a JSON object";

    for (content, message) in
        [("", "expected JSON, got an empty file"), ("{", syntax), ("[]", kind), ("3", kind)]
    {
        std::fs::write(&path, content).expect("written");
        assert!(refusal().starts_with(&format!("{}: {message}", path.display())), "{content}");
    }

    let file = std::fs::File::create(&path).expect("written");
    file.set_len((16 << 20) + 1).expect("a sparse file");
    assert!(refusal().ends_with("it has 16777217 bytes, expected at most 16777216"));
}
