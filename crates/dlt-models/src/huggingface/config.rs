//! Reads a `config.json`.
//!
//! What it says about the function that a model computes is adopted or refused. An unknown key is
//! refused too, because a model may compute with it. Keys that only training reads are accepted. If
//! a key is absent, the family's default in transformers is used.

mod keys;
mod llama;
mod rotary;

use std::path::Path;

use dlt_spec::size::{CHANNELS, TOKEN_TYPES};
use dlt_spec::spec::{Architecture, Attention, Gelu, ModelSpec, Objective, Output, Pooling, Size};
use serde_json::{Map, Value, json};

use super::settings::{Settings, read_json};
use crate::Result;

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The model. Its context is the longest window that it reads.
    pub model: ModelSpec,
    /// Notes for a person: where training in this program differs from what the file says.
    pub notes: Vec<String>,
}

/// What a `config.json` says about a model.
///
/// # Errors
/// [`ModelError::Io`](crate::ModelError::Io) if the file cannot be read.
/// [`ModelError::Format`](crate::ModelError::Format) if it is not a JSON object, or requests
/// something that this program does not have or know. The message names the key, what was expected,
/// and what the file says.
pub fn read_config(path: &Path) -> Result<Config> {
    parse_config(&read_json(path)?, path)
}

/// What the content of a `config.json` says about a model; `path` is for messages.
///
/// # Errors
/// As [`read_config`].
pub fn parse_config(config: &Map<String, Value>, path: &Path) -> Result<Config> {
    let settings = Settings::new(path, config);
    settings.must_be("is_encoder_decoder", &json!(false))?;
    settings.must_be("add_cross_attention", &json!(false))?;
    settings.must_be_absent("pruned_heads")?;
    settings.must_be_absent("quantization_config")?;

    // It names code that comes with the model, which this program does not run.
    settings.must_be_absent("auto_map")?;

    let model_type = ModelType::of(&settings)?;
    let head_kind = head_kind(&settings, model_type)?;
    let read = match model_type {
        ModelType::Gpt2 => gpt2,
        ModelType::Bert => bert,
        ModelType::Vit => vit,
        ModelType::Llama => llama::llama,
        ModelType::Mistral => llama::mistral,
        ModelType::Qwen2 => llama::qwen2,
    };

    let model = ModelSpec {
        architecture: model_type.architecture(),
        ..read(&settings, ModelSpec::default())?
    };
    let head = head(&settings, model_type.architecture(), head_kind)?;
    let notes = other_dropouts(&settings, model.dropout)?;

    // Only now: what is left was read by nothing above.
    keys::check(&settings)?;
    let ModelSpec { objective, attention, output, classes, pooling, .. } = head;

    Ok(Config {
        model: ModelSpec { objective, attention, output, classes, pooling, ..model },
        notes,
    })
}

/// The known values of `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelType {
    Gpt2,
    Bert,
    Vit,
    Llama,
    Mistral,
    Qwen2,
}

/// Every model type with its word in the file.
const MODEL_TYPES: [(&str, ModelType); 6] = [
    ("gpt2", ModelType::Gpt2),
    ("bert", ModelType::Bert),
    ("vit", ModelType::Vit),
    ("llama", ModelType::Llama),
    ("mistral", ModelType::Mistral),
    ("qwen2", ModelType::Qwen2),
];

impl ModelType {
    fn of(settings: &Settings<'_>) -> Result<Self> {
        let key = "model_type";
        let word = settings.word(key)?;
        if let Some((_, model_type)) = MODEL_TYPES.iter().find(|(known, _)| Some(*known) == word) {
            return Ok(*model_type);
        }

        let got = word.map_or_else(|| "nothing".to_owned(), |word| format!("\"{word}\""));
        let words: Vec<_> = MODEL_TYPES.iter().map(|(word, _)| *word).collect();
        Err(settings.refuse(key, &format!("one of {}", words.join(", ")), &got))
    }

    /// The family of this program that computes the same function.
    fn architecture(self) -> Architecture {
        match self {
            Self::Gpt2 => Architecture::Gpt2,
            Self::Bert => Architecture::Bert,
            Self::Vit => Architecture::Vit,
            Self::Llama | Self::Mistral | Self::Qwen2 => Architecture::Llama,
        }
    }
}

/// The head of a class of transformers, by what it predicts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadKind {
    /// The class has no head.
    None,
    /// The token that follows.
    Next,
    /// Hidden tokens.
    Masked,
    /// A class.
    Classes,
}

/// The classes of transformers for each model type.
const CLASSES: [(ModelType, &str, HeadKind); 19] = [
    (ModelType::Gpt2, "GPT2Model", HeadKind::None),
    (ModelType::Gpt2, "GPT2LMHeadModel", HeadKind::Next),
    (ModelType::Gpt2, "GPT2ForSequenceClassification", HeadKind::Classes),
    (ModelType::Bert, "BertModel", HeadKind::None),
    (ModelType::Bert, "BertForPreTraining", HeadKind::Masked),
    (ModelType::Bert, "BertForMaskedLM", HeadKind::Masked),
    (ModelType::Bert, "BertLMHeadModel", HeadKind::Next),
    (ModelType::Bert, "BertForSequenceClassification", HeadKind::Classes),
    (ModelType::Vit, "ViTModel", HeadKind::None),
    (ModelType::Vit, "ViTForImageClassification", HeadKind::Classes),
    (ModelType::Llama, "LlamaModel", HeadKind::None),
    (ModelType::Llama, "LlamaForCausalLM", HeadKind::Next),
    (ModelType::Llama, "LlamaForSequenceClassification", HeadKind::Classes),
    (ModelType::Mistral, "MistralModel", HeadKind::None),
    (ModelType::Mistral, "MistralForCausalLM", HeadKind::Next),
    (ModelType::Mistral, "MistralForSequenceClassification", HeadKind::Classes),
    (ModelType::Qwen2, "Qwen2Model", HeadKind::None),
    (ModelType::Qwen2, "Qwen2ForCausalLM", HeadKind::Next),
    (ModelType::Qwen2, "Qwen2ForSequenceClassification", HeadKind::Classes),
];

/// The head of the only class in `architectures`; none without that key.
fn head_kind(settings: &Settings<'_>, model_type: ModelType) -> Result<HeadKind> {
    let key = "architectures";
    let known = || CLASSES.iter().filter(|(other, ..)| *other == model_type);
    let refuse = |got: &Value| {
        let names: Vec<_> = known().map(|(_, name, _)| *name).collect();
        settings.refuse(key, &format!("one of {}", names.join(", ")), &got.to_string())
    };

    let Some(given) = settings.given(key) else { return Ok(HeadKind::None) };

    match given.as_array().map(Vec::as_slice) {
        Some([]) => Ok(HeadKind::None),
        Some([Value::String(only)]) => known()
            .find(|(_, name, _)| name == only)
            .map(|(.., head_kind)| *head_kind)
            .ok_or_else(|| refuse(given)),
        _ => Err(refuse(given)),
    }
}

/// Objective, attention, output, classes and pooling of a model; the other fields are defaults.
fn head(
    settings: &Settings<'_>,
    architecture: Architecture,
    head_kind: HeadKind,
) -> Result<ModelSpec> {
    let is_causal = match architecture {
        Architecture::Gpt2 | Architecture::Llama => true,
        Architecture::Bert => settings.flag("is_decoder", false)?,
        Architecture::Vit => false,
    };

    let objective = match head_kind {
        HeadKind::Next => Objective::NextToken,
        HeadKind::Masked => Objective::MaskedToken,
        HeadKind::Classes => Objective::Classes,
        HeadKind::None if architecture == Architecture::Vit => Objective::Classes,
        HeadKind::None if is_causal => Objective::NextToken,
        HeadKind::None => Objective::MaskedToken,
    };

    // Of BERTs, the decoders predict the next token, and no others do.
    if architecture == Architecture::Bert && is_causal != (objective == Objective::NextToken) {
        let (expected, got) = if is_causal { ("false", "true") } else { ("true", "false") };
        let expected = format!("{expected} for this class of `architectures`");
        return Err(settings.refuse("is_decoder", &expected, got));
    }

    // transformers ties the output by default, except for Llamas. A head for classes has no output
    // over tokens.
    let is_tied = architecture != Architecture::Llama;
    let is_tied = settings.flag("tie_word_embeddings", is_tied)? || objective == Objective::Classes;

    Ok(ModelSpec {
        objective,
        attention: if is_causal { Attention::Causal } else { Attention::Full },
        output: if is_tied { Output::Tied } else { Output::Own },
        classes: if head_kind == HeadKind::Classes {
            Size::Fixed(classes(settings)?)
        } else {
            Size::AUTO
        },
        pooling: if is_causal { Pooling::LastReal } else { Pooling::First },
        ..ModelSpec::default()
    })
}

/// The number of classes. Without a key for it, transformers has two.
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
    let positions = settings.whole("n_positions", 1024)?;
    let width = settings.whole("n_embd", 768)?;
    let heads = settings.whole("n_head", 12)?;

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
    Ok(ModelSpec {
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 30_522)?),
        ..encoder(settings, default, 0.1)?
    })
}

fn vit(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("num_channels", &json!(CHANNELS))?;
    settings.must_be("qkv_bias", &json!(true))?;

    let picture = side(settings, "image_size", 224)?;
    let patch = side(settings, "patch_size", 16)?;
    if patch == 0 || !picture.is_multiple_of(patch) {
        let expected = format!("a divisor of `image_size` = {picture}");
        return Err(settings.refuse("patch_size", &expected, &patch.to_string()));
    }

    Ok(ModelSpec { picture, patch, ..encoder(settings, default, 0.0)? })
}

/// What the configs of BERT and ViT have in common.
fn encoder(settings: &Settings<'_>, default: ModelSpec, dropout: f64) -> Result<ModelSpec> {
    let width = settings.whole("hidden_size", 768)?;
    let heads = settings.whole("num_attention_heads", 12)?;
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

/// Width and height of a square: one number, or two equal ones.
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

/// GELU by one of the names that transformers has for it.
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

/// Refuses a `part` that does not divide `whole`.
fn divided(settings: &Settings<'_>, key: &str, whole: usize, part: usize) -> Result<()> {
    if part == 0 || !whole.is_multiple_of(part) {
        return Err(settings.refuse(key, &format!("a divisor of {whole}"), &part.to_string()));
    }
    Ok(())
}

/// Notes about places with another dropout than `dropout`: this program has one probability for all
/// places.
fn other_dropouts(settings: &Settings<'_>, dropout: f64) -> Result<Vec<String>> {
    const KEYS: [&str; 2] = ["embd_pdrop", "classifier_dropout"];
    let mut notes = Vec::new();

    for key in KEYS {
        if let Some(other) = settings.real_if_given(key)?.filter(|other| *other != dropout) {
            notes.push(format!(
                "`{key}` is {other}: training here drops with {dropout} everywhere (model.dropout)"
            ));
        }
    }

    Ok(notes)
}
