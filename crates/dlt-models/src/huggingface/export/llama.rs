//! The configs of Llamas, under the names that transformers has for their differences.

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{AttentionBias, FeedForwardBias, RotaryKind, Size};
use serde_json::{Map, Value, json};

use super::{is_tied, object};

pub(super) fn llama(spec: &CheckedSpec) -> Map<String, Value> {
    let model = &spec.model;
    let (scaling, rope) = rope(spec);

    // Of a base that grows with a text, transformers has no other count than the positions.
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

    let own = match LlamaKind::of(spec) {
        Some(LlamaKind::Mistral) => json!({"model_type": "mistral", "sliding_window": window}),
        Some(LlamaKind::Qwen2) => json!({
            "model_type": "qwen2",
            "use_sliding_window": !window.is_null(),
            "max_window_layers": if window.is_null() { model.layers } else { 0 },
            "layer_types": vec![if window.is_null() { "full_attention" } else { "sliding_attention" }; model.layers],
            "sliding_window": window,
        }),
        Some(LlamaKind::Llama) | None => json!({
            "model_type": "llama",
            "attention_bias": spec.attention_bias() == AttentionBias::All,
            "mlp_bias": spec.feed_forward_bias() == FeedForwardBias::All,
        }),
    };

    values.extend(object(own));
    values
}

/// What transformers calls a Llama with the settings of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LlamaKind {
    Llama,
    /// Without biases; a token may attend to the last ones only, and heads may be of any width.
    Mistral,
    /// With biases of queries, keys and values.
    Qwen2,
}

impl LlamaKind {
    pub(super) fn of(spec: &CheckedSpec) -> Option<Self> {
        let model = &spec.model;
        let is_windowed = model.attention_window != Size::AUTO;

        // transformers wants a divisor of the width of a Llama, whatever its heads are.
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

    /// The classes for tokens and for classes.
    pub(super) fn classes(self) -> [&'static str; 2] {
        match self {
            Self::Llama => ["LlamaForCausalLM", "LlamaForSequenceClassification"],
            Self::Mistral => ["MistralForCausalLM", "MistralForSequenceClassification"],
            Self::Qwen2 => ["Qwen2ForCausalLM", "Qwen2ForSequenceClassification"],
        }
    }
}

/// Rotary positions: releases before 5 read `rope_scaling` and `rope_theta`, the others
/// `rope_parameters`.
fn rope(spec: &CheckedSpec) -> (Option<Map<String, Value>>, Map<String, Value>) {
    let model = &spec.model;
    let [factor, low, high, original] = model.rotary_stretch;

    // A count, which transformers wants without a point.
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
