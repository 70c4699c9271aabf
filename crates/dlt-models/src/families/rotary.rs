//! What the families with rotary positions share: how positions turn queries and keys, and the keys
//! of their configs.

use dlt_kernels::{Rotary, Stretch};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{AttentionBias, ModelSpec, RotaryKind, Size};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::huggingface::config::{divided, rotary};
use crate::huggingface::export::{is_tied, object, rope};
use crate::huggingface::settings::Settings;

/// How positions rotate queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Turning {
    /// Base of the rotary frequencies.
    pub base: f64,
    /// How the frequencies are stretched.
    pub kind: RotaryKind,
    /// Factor, low bound, high bound, and tokens of the original context. Under `llama3` and
    /// `linear` a factor of 1 stretches nothing.
    pub stretch: [f64; 4],
    /// What rotated queries and keys are multiplied by.
    pub attention: f64,
    /// Under `longrope`, what each frequency is divided by.
    pub short: Vec<f64>,
    /// The same for texts longer than the original context.
    pub long: Vec<f64>,
}

impl Turning {
    pub(super) fn of_spec(model: &ModelSpec) -> Self {
        Self {
            base: model.rotary_base,
            kind: model.rotary_kind,
            stretch: model.rotary_stretch,
            attention: model.rotary_attention,
            short: model.rotary_short.clone(),
            long: model.rotary_long.clone(),
        }
    }

    /// Frequencies without any stretching.
    #[must_use]
    pub fn plain(base: f64) -> Self {
        Self {
            base,
            kind: RotaryKind::Llama3,
            stretch: [1.0, 1.0, 4.0, 8192.0],
            attention: 1.0,
            short: Vec::new(),
            long: Vec::new(),
        }
    }

    pub(super) fn rotary(&self, head_width: usize) -> Result<Rotary> {
        let [factor, low, high, original_context] = self.stretch;
        let original_context = original_context.round() as usize;
        let attention = self.attention;
        let stretch = match self.kind {
            RotaryKind::Llama3 | RotaryKind::Linear if factor == 1.0 => None,
            RotaryKind::Llama3 => Some(Stretch::Llama3 { factor, low, high, original_context }),
            RotaryKind::Linear => Some(Stretch::Linear { factor }),
            RotaryKind::Dynamic => Some(Stretch::Dynamic { factor, original_context }),
            RotaryKind::Yarn | RotaryKind::YarnUnrounded => Some(Stretch::Yarn {
                factor,
                low,
                high,
                original_context,
                is_rounded: self.kind == RotaryKind::Yarn,
                attention,
            }),
            RotaryKind::LongRope => Some(Stretch::LongRope {
                short: self.short.clone(),
                long: self.long.clone(),
                original_context,
                attention,
            }),
        };

        Ok(Rotary::new(head_width, self.base, stretch)?)
    }
}

/// The defaults of a model type for keys that are absent.
pub(super) struct Usual {
    pub(super) feed_forward: usize,
    /// `None` if there are as many as heads of queries.
    pub(super) key_heads: Option<usize>,
    /// `None` if it is that of the model divided by the heads.
    pub(super) head_width: Option<usize>,
    pub(super) positions: usize,
    pub(super) vocabulary: usize,
}

impl Usual {
    /// Those of Llama 2.
    pub(super) const LLAMA: Self = Self {
        feed_forward: 11_008,
        key_heads: None,
        head_width: None,
        positions: 2048,
        vocabulary: 32_000,
    };

    /// Those of Qwen2.
    pub(super) const QWEN: Self = Self {
        feed_forward: 22_016,
        key_heads: Some(32),
        head_width: None,
        positions: 32_768,
        vocabulary: 151_936,
    };
}

/// Which projections of attention have a bias, in model types where that is all or none.
pub(super) fn attention_bias(settings: &Settings<'_>) -> Result<AttentionBias> {
    let has_bias = settings.flag("attention_bias", false)?;
    Ok(if has_bias { AttentionBias::All } else { AttentionBias::Auto })
}

/// A model that names the layers whose tokens attend only to the last ones.
pub(super) fn layered_window(settings: &Settings<'_>, model: ModelSpec) -> Result<ModelSpec> {
    // Null means no bound; without the key the default is used.
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
pub(super) fn windowed(
    settings: &Settings<'_>,
    model: ModelSpec,
    window: Option<usize>,
) -> Result<ModelSpec> {
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
pub(super) fn read(
    settings: &Settings<'_>,
    default: ModelSpec,
    usual: &Usual,
) -> Result<ModelSpec> {
    settings.must_be("partial_rotary_factor", &json!(1))?;
    if let Some(other) =
        settings.word("hidden_act")?.filter(|word| !["silu", "swish"].contains(word))
    {
        return Err(settings.refuse("hidden_act", "\"silu\"", &format!("\"{other}\"")));
    }

    let width = settings.whole("hidden_size", 4096)?;
    let heads = settings.whole("num_attention_heads", 32)?;
    let head_width = head_width(settings, usual.head_width, width, heads)?;
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

/// Width of a head, D: that of the file, the usual one, or C / H.
fn head_width(
    settings: &Settings<'_>,
    usual: Option<usize>,
    width: usize,
    heads: usize,
) -> Result<usize> {
    if heads == 0 {
        return Err(settings.refuse("num_attention_heads", "at least 1", "0"));
    }

    let head_width = match settings.whole_if_given("head_dim")?.or(usual) {
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

/// The keys that all variants have, and those of one.
pub(super) fn write(spec: &CheckedSpec, own: Value) -> Map<String, Value> {
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

    values.extend(object(own));
    values
}

/// The bound of attention, or null.
pub(super) fn window(spec: &CheckedSpec) -> Value {
    match spec.model.attention_window {
        Size::Fixed(window) => json!(window),
        Size::Auto(_) => Value::Null,
    }
}

/// The same for a family that names the layers that it holds for. Here it holds for all or none.
pub(super) fn layered_window_keys(spec: &CheckedSpec) -> Value {
    let window = window(spec);
    let is_full = window.is_null();
    let layers = spec.model.layers;
    let layer_type = if is_full { "full_attention" } else { "sliding_attention" };

    json!({
        "use_sliding_window": !is_full,
        "max_window_layers": if is_full { layers } else { 0 },
        "layer_types": vec![layer_type; layers],
        "sliding_window": window,
    })
}
