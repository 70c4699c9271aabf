//! Llama, and the model types that are variants of it.

use dlt_spec::spec::{AttentionBias, FeedForwardBias, ModelSpec, Size};
use serde_json::{Value, json};

use super::super::settings::Settings;
use super::divided;
use super::rotary::rotary;
use crate::Result;

/// The defaults of a model type for keys that are absent.
struct Usual {
    feed_forward: usize,
    key_heads: Option<usize>,
    positions: usize,
    vocabulary: usize,
}

pub(super) fn llama(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let usual =
        Usual { feed_forward: 11_008, key_heads: None, positions: 2048, vocabulary: 32_000 };
    let model = common(settings, default, &usual)?;

    Ok(ModelSpec {
        attention_bias: if settings.flag("attention_bias", false)? {
            AttentionBias::All
        } else {
            AttentionBias::Auto
        },
        feed_forward_bias: if settings.flag("mlp_bias", false)? {
            FeedForwardBias::All
        } else {
            FeedForwardBias::Auto
        },
        ..model
    })
}

/// A token attends only to the last ones before it.
pub(super) fn mistral(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let usual =
        Usual { feed_forward: 14_336, key_heads: Some(8), positions: 131_072, vocabulary: 32_000 };
    let model = common(settings, default, &usual)?;

    // Null means no bound; without the key the default is used.
    let window = match settings.given("sliding_window") {
        Some(_) => settings.whole_if_given("sliding_window")?,
        None => (!settings.has("sliding_window")).then_some(4096),
    };

    windowed(settings, model, window)
}

/// Queries, keys and values have biases. Some layers may attend only to the last tokens.
pub(super) fn qwen2(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let usual =
        Usual { feed_forward: 22_016, key_heads: Some(32), positions: 32_768, vocabulary: 151_936 };
    let model = common(settings, default, &usual)?;
    let model = ModelSpec { attention_bias: AttentionBias::Inputs, ..model };

    // As above: null means no bound.
    let size = settings.whole_if_given("sliding_window")?;
    let size = if settings.has("sliding_window") { size } else { Some(4096) };

    // Without a list of layers, those from this one on have a bound.
    let first = settings.whole("max_window_layers", 28)?;
    let is_used = settings.flag("use_sliding_window", false)?;
    let has_sliding = match settings.given("layer_types") {
        None => first < model.layers,
        Some(given) => has_sliding(settings, given, model.layers)?,
    };

    windowed(settings, model, size.filter(|_| is_used && has_sliding))
}

/// Whether some layers attend only to the last tokens.
fn has_sliding(settings: &Settings<'_>, given: &Value, layers: usize) -> Result<bool> {
    let words: Option<Vec<_>> =
        given.as_array().map(|items| items.iter().filter_map(Value::as_str).collect());
    let is_known = |words: &Vec<&str>| {
        words.len() == layers
            && words.iter().all(|word| ["full_attention", "sliding_attention"].contains(word))
    };

    let words = words.filter(is_known).ok_or_else(|| {
        let expected = format!("full_attention or sliding_attention for each of {layers} layers");
        settings.refuse("layer_types", &expected, &given.to_string())
    })?;

    Ok(words.contains(&"sliding_attention"))
}

/// A model whose windows of text are at most as long as its attention window. In longer windows the
/// model would compute something else than this program does.
fn windowed(settings: &Settings<'_>, model: ModelSpec, window: Option<usize>) -> Result<ModelSpec> {
    let Some(window) = window else { return Ok(model) };
    if window < 2 {
        return Err(settings.refuse("sliding_window", "at least 2 tokens", &window.to_string()));
    }

    Ok(ModelSpec {
        attention_window: Size::Fixed(window),
        context: model.context.min(window),
        ..model
    })
}

/// The settings that all of them have.
fn common(settings: &Settings<'_>, default: ModelSpec, usual: &Usual) -> Result<ModelSpec> {
    settings.must_be("partial_rotary_factor", &json!(1))?;
    if let Some(other) =
        settings.word("hidden_act")?.filter(|word| !["silu", "swish"].contains(word))
    {
        return Err(settings.refuse("hidden_act", "\"silu\"", &format!("\"{other}\"")));
    }

    let width = settings.whole("hidden_size", 4096)?;
    let heads = settings.whole("num_attention_heads", 32)?;
    let head_width = head_width(settings, width, heads)?;
    let key_heads = if settings.has("num_key_value_heads") {
        settings.whole_if_given("num_key_value_heads")?
    } else {
        usual.key_heads
    };

    let key_heads = key_heads.unwrap_or(heads);
    divided(settings, "num_key_value_heads", heads, key_heads)?;

    let positions = settings.whole("max_position_embeddings", usual.positions)?;
    let model = ModelSpec {
        layers: settings.whole("num_hidden_layers", 32)?,
        width,
        heads,
        key_heads: Size::Fixed(key_heads),
        head_width: if width == heads * head_width { Size::AUTO } else { Size::Fixed(head_width) },
        feed_forward: Size::Fixed(settings.whole("intermediate_size", usual.feed_forward)?),
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", usual.vocabulary)?),
        norm_epsilon: settings.real("rms_norm_eps", 1e-6)?,
        initial_std: settings.real("initializer_range", 0.02)?,
        ..default
    };

    rotary(settings, model, head_width, positions)
}

/// Width of a head, D: that of the file, or C / H.
fn head_width(settings: &Settings<'_>, width: usize, heads: usize) -> Result<usize> {
    if heads == 0 {
        return Err(settings.refuse("num_attention_heads", "at least 1", "0"));
    }

    let head_width = match settings.whole_if_given("head_dim")? {
        Some(written) => written,
        None => {
            divided(settings, "num_attention_heads", width, heads)?;
            width / heads
        }
    };

    let key = if settings.given("head_dim").is_some() { "head_dim" } else { "num_attention_heads" };
    if head_width == 0 || !head_width.is_multiple_of(2) || head_width.checked_mul(heads).is_none() {
        let expected = "an even width of a head, for rotary positions";
        return Err(settings.refuse(key, expected, &head_width.to_string()));
    }

    Ok(head_width)
}
