//! Reading a `config.json`.
//!
//! What it says of the function that a model computes is taken over or refused. Attention dropout is neither: this
//! program has none, and only training would have it. Where a key is absent, the family's default in transformers
//! holds.

use std::path::Path;

use dlt_spec::size::{CHANNELS, TOKEN_TYPES};
use dlt_spec::spec::{Architecture, Attention, Gelu, ModelSpec, Objective, Output, Pooling, Size};
use serde_json::{Map, Value, json};

use super::settings::{Settings, read_json};
use crate::Result;

/// What a `config.json` says of a model. Its context is the number of positions.
///
/// # Errors
/// [`ModelError::Io`](crate::ModelError::Io) where the file cannot be read;
/// [`ModelError::Format`](crate::ModelError::Format) where it is no JSON object or asks for something that this program
/// does not have, with the key, what was expected and what came.
pub fn read_config(path: &Path) -> Result<ModelSpec> {
    parse_config(&read_json(path)?, path)
}

/// What the content of a `config.json` says of a model; `path` is for messages.
///
/// # Errors
/// As [`read_config`].
pub fn parse_config(config: &Map<String, Value>, path: &Path) -> Result<ModelSpec> {
    let settings = Settings::new(path, config);
    settings.must_be("is_encoder_decoder", &json!(false))?;
    settings.must_be("add_cross_attention", &json!(false))?;
    settings.must_be_absent("pruned_heads")?;
    settings.must_be_absent("quantization_config")?;
    let (architecture, family) = match settings.word("model_type")? {
        Some("gpt2") => (Architecture::Gpt2, gpt2 as Family),
        Some("bert") => (Architecture::Bert, bert as Family),
        Some("vit") => (Architecture::Vit, vit as Family),
        Some("llama") => (Architecture::Llama, llama as Family),
        other => {
            let came = other.map_or_else(|| "nothing".to_owned(), |word| format!("\"{word}\""));
            return Err(settings.refuse("model_type", "one of gpt2, bert, vit, llama", &came));
        }
    };
    let task = task(&settings, architecture)?;
    let model = ModelSpec { architecture, ..family(&settings, ModelSpec::default())? };
    let head = head(&settings, architecture, task)?;
    let ModelSpec { objective, attention, output, classes, pooling, .. } = head;
    Ok(ModelSpec { objective, attention, output, classes, pooling, ..model })
}

type Family = fn(&Settings<'_>, ModelSpec) -> Result<ModelSpec>;

/// What a class of transformers predicts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Nothing: it has no head.
    None,
    /// The token that follows.
    Next,
    /// Tokens that were hidden.
    Masked,
    /// A class.
    Classes,
}

/// The classes of each family.
const CLASSES: [(Architecture, &str, Task); 13] = [
    (Architecture::Gpt2, "GPT2Model", Task::None),
    (Architecture::Gpt2, "GPT2LMHeadModel", Task::Next),
    (Architecture::Gpt2, "GPT2ForSequenceClassification", Task::Classes),
    (Architecture::Bert, "BertModel", Task::None),
    (Architecture::Bert, "BertForPreTraining", Task::Masked),
    (Architecture::Bert, "BertForMaskedLM", Task::Masked),
    (Architecture::Bert, "BertLMHeadModel", Task::Next),
    (Architecture::Bert, "BertForSequenceClassification", Task::Classes),
    (Architecture::Vit, "ViTModel", Task::None),
    (Architecture::Vit, "ViTForImageClassification", Task::Classes),
    (Architecture::Llama, "LlamaModel", Task::None),
    (Architecture::Llama, "LlamaForCausalLM", Task::Next),
    (Architecture::Llama, "LlamaForSequenceClassification", Task::Classes),
];

fn task(settings: &Settings<'_>, architecture: Architecture) -> Result<Task> {
    let key = "architectures";
    let known = || CLASSES.iter().filter(|(family, ..)| *family == architecture);
    let refuse = |came: &Value| {
        let names: Vec<_> = known().map(|(_, name, _)| *name).collect();
        settings.refuse(key, &format!("one of {}", names.join(", ")), &came.to_string())
    };
    let Some(given) = settings.given(key) else { return Ok(Task::None) };
    match given.as_array().map(Vec::as_slice) {
        Some([]) => Ok(Task::None),
        Some([Value::String(only)]) => {
            known().find(|(_, name, _)| name == only).map(|(.., task)| *task).ok_or_else(|| refuse(given))
        }
        _ => Err(refuse(given)),
    }
}

/// Objective, attention, output, classes and pooling; the rest is the default.
fn head(settings: &Settings<'_>, architecture: Architecture, task: Task) -> Result<ModelSpec> {
    let is_causal = match architecture {
        Architecture::Gpt2 | Architecture::Llama => true,
        Architecture::Bert => settings.flag("is_decoder", false)?,
        Architecture::Vit => false,
    };
    let objective = match task {
        Task::Next => Objective::NextToken,
        Task::Masked => Objective::MaskedToken,
        Task::Classes => Objective::Classes,
        Task::None if architecture == Architecture::Vit => Objective::Classes,
        Task::None if is_causal => Objective::NextToken,
        Task::None => Objective::MaskedToken,
    };
    if architecture == Architecture::Bert && is_causal != (objective == Objective::NextToken) {
        let (expected, came) = if is_causal { ("false", "true") } else { ("true", "false") };
        let expected = format!("{expected} for this class of `architectures`");
        return Err(settings.refuse("is_decoder", &expected, came));
    }
    let is_tied = architecture != Architecture::Llama;
    let is_tied = settings.flag("tie_word_embeddings", is_tied)? || objective == Objective::Classes;
    Ok(ModelSpec {
        objective,
        attention: if is_causal { Attention::Causal } else { Attention::Full },
        output: if is_tied { Output::Tied } else { Output::Own },
        classes: if task == Task::Classes { Size::Fixed(classes(settings)?) } else { Size::AUTO },
        pooling: if is_causal { Pooling::LastReal } else { Pooling::First },
        ..ModelSpec::default()
    })
}

/// The number of classes. transformers takes two where nothing is said.
fn classes(settings: &Settings<'_>) -> Result<usize> {
    settings.must_be("problem_type", &json!("single_label_classification"))?;
    let named = settings.object("id2label")?.map(|labels| labels.iter().count());
    let counted = settings.whole_if_given("num_labels")?;
    let count = match (named, counted) {
        (Some(named), Some(counted)) if named != counted => {
            let expected = format!("the {named} of `id2label`");
            return Err(settings.refuse("num_labels", &expected, &counted.to_string()));
        }
        (named, counted) => named.or(counted).unwrap_or(2),
    };
    if count < 2 {
        let key = if named.is_some() { "id2label" } else { "num_labels" };
        return Err(settings.refuse(key, "at least 2 classes", &count.to_string()));
    }
    Ok(count)
}

fn gpt2(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("scale_attn_weights", &json!(true))?;
    settings.must_be("scale_attn_by_inverse_layer_idx", &json!(false))?;
    settings.must_be("reorder_and_upcast_attn", &json!(false))?;
    let dropout = settings.real("resid_pdrop", 0.1)?;
    same_dropout(settings, "embd_pdrop", Some(settings.real("embd_pdrop", 0.1)?), dropout)?;
    let positions = settings.whole("n_positions", 1024)?;
    let (width, heads) = (settings.whole("n_embd", 768)?, settings.whole("n_head", 12)?);
    divided(settings, "n_head", width, heads)?;
    Ok(ModelSpec {
        layers: settings.whole("n_layer", 12)?,
        width,
        heads,
        feed_forward: settings.whole_if_given("n_inner")?.map_or(Size::AUTO, Size::Fixed),
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 50_257)?),
        gelu: gelu(settings, "activation_function", "gelu_new")?,
        norm_epsilon: settings.real("layer_norm_epsilon", 1e-5)?,
        dropout,
        initial_std: settings.real("initializer_range", 0.02)?,
        ..default
    })
}

fn bert(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("position_embedding_type", &json!("absolute"))?;
    settings.must_be("type_vocab_size", &json!(TOKEN_TYPES))?;
    let positions = settings.whole("max_position_embeddings", 512)?;
    let model = encoder(settings, default, 0.1)?;
    same_dropout(
        settings,
        "classifier_dropout",
        settings.real_if_given("classifier_dropout")?,
        model.dropout,
    )?;
    Ok(ModelSpec {
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 30_522)?),
        ..model
    })
}

fn vit(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("num_channels", &json!(CHANNELS))?;
    settings.must_be("qkv_bias", &json!(true))?;
    let (picture, patch) = (side(settings, "image_size", 224)?, side(settings, "patch_size", 16)?);
    if patch == 0 || !picture.is_multiple_of(patch) {
        let expected = format!("a divisor of `image_size` = {picture}");
        return Err(settings.refuse("patch_size", &expected, &patch.to_string()));
    }
    Ok(ModelSpec { picture, patch, ..encoder(settings, default, 0.0)? })
}

/// What the configs of BERT and ViT have in common.
fn encoder(settings: &Settings<'_>, default: ModelSpec, dropout: f64) -> Result<ModelSpec> {
    let (width, heads) = (settings.whole("hidden_size", 768)?, settings.whole("num_attention_heads", 12)?);
    divided(settings, "num_attention_heads", width, heads)?;
    Ok(ModelSpec {
        layers: settings.whole("num_hidden_layers", 12)?,
        width,
        heads,
        feed_forward: Size::Fixed(settings.whole("intermediate_size", 3072)?),
        gelu: gelu(settings, "hidden_act", "gelu")?,
        norm_epsilon: settings.real("layer_norm_eps", 1e-12)?,
        dropout: settings.real("hidden_dropout_prob", dropout)?,
        initial_std: settings.real("initializer_range", 0.02)?,
        ..default
    })
}

fn llama(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("attention_bias", &json!(false))?;
    settings.must_be("mlp_bias", &json!(false))?;
    settings.must_be("partial_rotary_factor", &json!(1))?;
    if let Some(other) = settings.word("hidden_act")?.filter(|word| !["silu", "swish"].contains(word)) {
        return Err(settings.refuse("hidden_act", "\"silu\"", &format!("\"{other}\"")));
    }
    let (width, heads) = (settings.whole("hidden_size", 4096)?, settings.whole("num_attention_heads", 32)?);
    divided(settings, "num_attention_heads", width, heads)?;
    settings.must_be("head_dim", &json!(width / heads))?;
    let key_heads = settings.whole_if_given("num_key_value_heads")?.unwrap_or(heads);
    divided(settings, "num_key_value_heads", heads, key_heads)?;
    let positions = settings.whole("max_position_embeddings", 2048)?;
    let (rotary_base, rotary_stretch) = rotary(settings, &default)?;
    Ok(ModelSpec {
        layers: settings.whole("num_hidden_layers", 32)?,
        width,
        heads,
        key_heads: Size::Fixed(key_heads),
        feed_forward: Size::Fixed(settings.whole("intermediate_size", 11_008)?),
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 32_000)?),
        rotary_base,
        rotary_stretch,
        norm_epsilon: settings.real("rms_norm_eps", 1e-6)?,
        initial_std: settings.real("initializer_range", 0.02)?,
        ..default
    })
}

/// Base and stretching of the rotary frequencies: since transformers 5 one object, before it two keys. A file may
/// have both, which must then say the same.
fn rotary(settings: &Settings<'_>, default: &ModelSpec) -> Result<(f64, [f64; 4])> {
    let (new, old) = (settings.object("rope_parameters")?, settings.object("rope_scaling")?);
    let stretch = |scaling: Option<Settings<'_>>| {
        scaling.map(|scaling| rotary_stretch(&scaling, default.rotary_stretch)).transpose()
    };
    let stretched = match (stretch(new)?, stretch(old)?) {
        (Some(new), Some(old)) if new != old => {
            let expected = format!("{new:?} as in `rope_parameters`");
            return Err(settings.refuse("rope_scaling", &expected, &format!("{old:?}")));
        }
        (new, old) => new.or(old).unwrap_or(default.rotary_stretch),
    };
    let base = |settings: Settings<'_>| settings.real_if_given("rope_theta");
    let within = new.map(base).transpose()?.flatten();
    let beside = base(*settings)?;
    if let (Some(within), Some(beside)) = (within, beside)
        && within != beside
    {
        let expected = format!("{within} as in `rope_parameters`");
        return Err(settings.refuse("rope_theta", &expected, &beside.to_string()));
    }
    Ok((within.or(beside).unwrap_or(1e4), stretched))
}

fn rotary_stretch(scaling: &Settings<'_>, none: [f64; 4]) -> Result<[f64; 4]> {
    if let Some((key, value)) = scaling.iter().find(|(_, value)| value.is_object()) {
        return Err(scaling.refuse(key, "one setting for all layers", &value.to_string()));
    }
    scaling.must_be("partial_rotary_factor", &json!(1))?;
    let key = if scaling.given("rope_type").is_some() { "rope_type" } else { "type" };
    let needed = |key| scaling.real_if_given(key)?.ok_or_else(|| scaling.refuse(key, "a number", "nothing"));
    match scaling.word(key)? {
        None | Some("default") => Ok(none),
        Some("llama3") => Ok([
            needed("factor")?,
            needed("low_freq_factor")?,
            needed("high_freq_factor")?,
            needed("original_max_position_embeddings")?,
        ]),
        Some(other) => Err(scaling.refuse(key, "\"default\" or \"llama3\"", &format!("\"{other}\""))),
    }
}

/// Width and height of something square.
fn side(settings: &Settings<'_>, key: &str, default: usize) -> Result<usize> {
    match settings.given(key) {
        Some(Value::Array(sides)) => match sides.as_slice() {
            [height, width] if height == width && height.is_u64() => {
                Ok(height.as_u64().and_then(|side| usize::try_from(side).ok()).unwrap_or_default())
            }
            _ => Err(settings.refuse(key, "a square", &Value::Array(sides.clone()).to_string())),
        },
        _ => settings.whole(key, default),
    }
}

fn gelu(settings: &Settings<'_>, key: &str, default: &str) -> Result<Gelu> {
    match settings.word(key)?.unwrap_or(default) {
        "gelu" | "gelu_python" => Ok(Gelu::Erf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" => {
            Ok(Gelu::Tanh)
        }
        other => {
            let expected = "\"gelu\" or its approximation by tanh, \"gelu_new\"";
            Err(settings.refuse(key, expected, &format!("\"{other}\"")))
        }
    }
}

/// Refuses a number that does not divide another.
fn divided(settings: &Settings<'_>, key: &str, whole: usize, part: usize) -> Result<()> {
    if part == 0 || !whole.is_multiple_of(part) {
        return Err(settings.refuse(key, &format!("a divisor of {whole}"), &part.to_string()));
    }
    Ok(())
}

/// Refuses a second probability of dropout: this program has one for all places.
fn same_dropout(settings: &Settings<'_>, key: &str, came: Option<f64>, dropout: f64) -> Result<()> {
    match came.filter(|came| *came != dropout) {
        Some(came) => {
            Err(settings.refuse(key, &format!("{dropout}, the dropout elsewhere"), &came.to_string()))
        }
        None => Ok(()),
    }
}
