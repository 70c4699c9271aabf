//! Rotary positions in a config.

use dlt_spec::CheckedSpec;
use dlt_spec::spec::RotaryKind;
use serde_json::{Map, Value, json};

use super::object;

/// Rotary positions, as `rope_scaling` and as `rope_parameters`. Releases before 5 read the former
/// with `rope_theta`; later ones read the latter.
pub(crate) fn rope(spec: &CheckedSpec) -> (Option<Map<String, Value>>, Map<String, Value>) {
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
