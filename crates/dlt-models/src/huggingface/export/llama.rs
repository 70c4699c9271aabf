//! The configs of Llamas, by the names that transformers has for the variants.

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{AttentionBias, FeedForwardBias, RotaryKind, Size};
use serde_json::{Map, Value, json};

use super::{is_tied, object};

pub(super) fn llama(spec: &CheckedSpec) -> Map<String, Value> {
    let model = &spec.model;
    let (scaling, rope) = rope(spec);

    // transformers starts to stretch a dynamic base at these positions; there is no other key for
    // that.
    let positions = match model.rotary_kind {
        RotaryKind::Dynamic => model.rotary_stretch[3].round() as usize,
        _ => spec.positions(),
    };

    let mut values = object(json!({
        "num_hidden_layers": model.layers,
        "hidden_size": model.width,
        "num_attention_heads": model.heads,
        "num_key_value_heads": spec.key_heads(),
        "head_dim": spec.head_width(),
        "intermediate_size": spec.feed_forward(),
        "max_position_embeddings": positions,
        "hidden_act": "silu",
        "rms_norm_eps": model.norm_epsilon,
        "attention_dropout": 0.0,
        "rope_parameters": rope,
        "rope_scaling": scaling,
        "rope_theta": model.rotary_base,
        "tie_word_embeddings": is_tied(spec),
    }));

    let window = match model.attention_window {
        Size::Fixed(window) => json!(window),
        Size::Auto(_) => Value::Null,
    };

    // The keys of each variant.
    let own = match LlamaKind::of(spec) {
        Some(LlamaKind::Mistral) => json!({"model_type": "mistral", "sliding_window": window}),
        Some(LlamaKind::Qwen2) => {
            let is_full = window.is_null();
            let layer_type = if is_full { "full_attention" } else { "sliding_attention" };

            json!({
                "model_type": "qwen2",
                "use_sliding_window": !is_full,
                "max_window_layers": if is_full { model.layers } else { 0 },
                "layer_types": vec![layer_type; model.layers],
                "sliding_window": window,
            })
        }
        Some(LlamaKind::Llama) | None => json!({
            "model_type": "llama",
            "attention_bias": spec.attention_bias() == AttentionBias::All,
            "mlp_bias": spec.feed_forward_bias() == FeedForwardBias::All,
        }),
    };

    values.extend(object(own));
    values
}

/// The name that transformers has for a Llama with the settings of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LlamaKind {
    Llama,
    /// Without biases. A token may attend only to the last ones, and heads may have any width.
    Mistral,
    /// With biases of queries, keys and values only.
    Qwen2,
}

impl LlamaKind {
    /// The variant that computes the function of a spec, if there is one.
    pub(super) fn of(spec: &CheckedSpec) -> Option<Self> {
        let model = &spec.model;
        let is_windowed = model.attention_window != Size::AUTO;

        // transformers refuses a Llama whose number of heads does not divide the width, even with a
        // separate width of heads.
        let is_divided = model.width.is_multiple_of(model.heads);

        match (spec.attention_bias(), spec.feed_forward_bias()) {
            (AttentionBias::Inputs, FeedForwardBias::None) => Some(Self::Qwen2),
            (AttentionBias::None, FeedForwardBias::None) if is_windowed || !is_divided => {
                Some(Self::Mistral)
            }
            (AttentionBias::None | AttentionBias::All, _) if !is_windowed && is_divided => {
                Some(Self::Llama)
            }
            _ => None,
        }
    }

    /// The class of transformers that predicts tokens, and the one that predicts classes.
    pub(super) fn classes(self) -> [&'static str; 2] {
        match self {
            Self::Llama => ["LlamaForCausalLM", "LlamaForSequenceClassification"],
            Self::Mistral => ["MistralForCausalLM", "MistralForSequenceClassification"],
            Self::Qwen2 => ["Qwen2ForCausalLM", "Qwen2ForSequenceClassification"],
        }
    }
}

/// Rotary positions, as `rope_scaling` and as `rope_parameters`. Releases before 5 read the former
/// with `rope_theta`; later ones read the latter.
fn rope(spec: &CheckedSpec) -> (Option<Map<String, Value>>, Map<String, Value>) {
    let model = &spec.model;
    let [factor, low, high, original] = model.rotary_stretch;

    // A number of tokens, which transformers wants as a whole number.
    let original = if original.fract() == 0.0 { json!(original as u64) } else { json!(original) };
    let scaling = match model.rotary_kind {
        RotaryKind::Llama3 | RotaryKind::Linear if factor == 1.0 => None,
        RotaryKind::Llama3 => Some(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        })),
        RotaryKind::Linear => Some(json!({"rope_type": "linear", "factor": factor})),
        RotaryKind::Dynamic => Some(json!({"rope_type": "dynamic", "factor": factor})),
        RotaryKind::Yarn | RotaryKind::YarnUnrounded => Some(json!({
            "rope_type": "yarn",
            "factor": factor,
            "beta_slow": low,
            "beta_fast": high,
            "original_max_position_embeddings": original,
            "attention_factor": model.rotary_attention,
            "truncate": model.rotary_kind == RotaryKind::Yarn,
        })),
        RotaryKind::LongRope => Some(json!({
            "rope_type": "longrope",
            "factor": factor,
            "short_factor": model.rotary_short,
            "long_factor": model.rotary_long,
            "original_max_position_embeddings": original,
            "attention_factor": model.rotary_attention,
        })),
    };

    let scaling = scaling.map(object);
    let mut rope = scaling.clone().unwrap_or_else(|| object(json!({"rope_type": "default"})));
    rope.insert("rope_theta".to_owned(), json!(model.rotary_base));

    (scaling, rope)
}
