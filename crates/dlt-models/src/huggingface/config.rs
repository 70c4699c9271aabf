//! Reads a `config.json`.
//!
//! What it says about the function that a model computes is adopted or refused. An unknown key is
//! refused too, because a model may compute with it. Keys that only training reads are accepted. If
//! a key is absent, the family's default in transformers is used.

mod keys;
mod rotary;

use std::path::Path;

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{Architecture, Attention, Gelu, ModelSpec, Objective, Output, Pooling, Size};
use serde_json::{Map, Value, json};

pub(crate) use rotary::rotary;

use super::settings::{Settings, read_json};
use crate::{Result, families};

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

    let (architecture, model_type) = ModelType::of(&settings)?;
    let head_kind = model_type.head_kind(&settings)?;
    let model = ModelSpec { architecture, ..(model_type.read)(&settings, ModelSpec::default())? };
    let head = head(&settings, architecture, head_kind)?;
    let notes = other_dropouts(&settings, model.dropout)?;

    // Only now: what is left was read by nothing above.
    keys::check(&settings)?;
    let ModelSpec { objective, attention, output, classes, pooling, .. } = head;

    Ok(Config {
        model: ModelSpec { objective, attention, output, classes, pooling, ..model },
        notes,
    })
}

/// A value of `model_type`.
#[derive(Debug)]
pub(crate) struct ModelType {
    /// The word in the file.
    pub(crate) word: &'static str,
    /// Its classes in transformers. Of several with the same head, the last one is written.
    pub(crate) classes: &'static [(&'static str, HeadKind)],
    /// Reads sizes and settings; fields of the head stay as they are.
    pub(crate) read: fn(&Settings<'_>, ModelSpec) -> Result<ModelSpec>,
    /// The same as keys of a config.
    pub(crate) write: fn(&CheckedSpec) -> Map<String, Value>,
}

/// The head of a class of transformers, by what it predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadKind {
    /// The class has no head.
    None,
    /// The token that follows.
    Next,
    /// Hidden tokens.
    Masked,
    /// A class.
    Classes,
}

impl HeadKind {
    /// The head for an objective.
    pub(crate) fn of(objective: Objective) -> Self {
        match objective {
            Objective::NextToken => Self::Next,
            Objective::MaskedToken => Self::Masked,
            Objective::Classes => Self::Classes,
        }
    }
}

impl ModelType {
    /// The model type of a file, and the family of this program that computes the same function.
    fn of(settings: &Settings<'_>) -> Result<(Architecture, &'static Self)> {
        let key = "model_type";
        let word = settings.word(key)?;
        let all: Vec<_> = Architecture::ALL
            .iter()
            .flat_map(|&family| families::of(family).model_types.iter().map(move |of| (family, of)))
            .collect();

        if let Some(found) = all.iter().find(|(_, of)| Some(of.word) == word) {
            return Ok(*found);
        }

        let got = word.map_or_else(|| "nothing".to_owned(), |word| format!("\"{word}\""));
        let words: Vec<_> = all.iter().map(|(_, of)| of.word).collect();
        Err(settings.refuse(key, &format!("one of {}", words.join(", ")), &got))
    }

    /// The name of the class with a head.
    pub(crate) fn class(&self, head_kind: HeadKind) -> Option<&'static str> {
        let class = self.classes.iter().rfind(|(_, of)| *of == head_kind);
        class.map(|(name, _)| *name)
    }

    /// The head of the only class in `architectures`; none without that key.
    fn head_kind(&self, settings: &Settings<'_>) -> Result<HeadKind> {
        let key = "architectures";
        let refuse = |got: &Value| {
            let names: Vec<_> = self.classes.iter().map(|(name, _)| *name).collect();
            settings.refuse(key, &format!("one of {}", names.join(", ")), &got.to_string())
        };

        let Some(given) = settings.given(key) else { return Ok(HeadKind::None) };

        match given.as_array().map(Vec::as_slice) {
            Some([]) => Ok(HeadKind::None),
            Some([Value::String(only)]) => self
                .classes
                .iter()
                .find(|(name, _)| name == only)
                .map(|(_, head_kind)| *head_kind)
                .ok_or_else(|| refuse(given)),
            _ => Err(refuse(given)),
        }
    }
}

/// Objective, attention, output, classes and pooling of a model; the other fields are defaults.
fn head(
    settings: &Settings<'_>,
    architecture: Architecture,
    head_kind: HeadKind,
) -> Result<ModelSpec> {
    let family = families::of(architecture);
    let (objective, attention) = (family.task)(settings, head_kind)?;

    // A head for classes has no output over tokens.
    let is_tied = settings.flag("tie_word_embeddings", family.ties_output)?
        || objective == Objective::Classes;

    Ok(ModelSpec {
        objective,
        attention,
        output: if is_tied { Output::Tied } else { Output::Own },
        classes: if head_kind == HeadKind::Classes {
            Size::Fixed(classes(settings)?)
        } else {
            Size::AUTO
        },
        pooling: match attention {
            Attention::Causal => Pooling::LastReal,
            Attention::Full => Pooling::First,
        },
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

/// What the configs of BERT and ViT have in common.
pub(crate) fn encoder(
    settings: &Settings<'_>,
    default: ModelSpec,
    dropout: f64,
) -> Result<ModelSpec> {
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

/// GELU by one of the names that transformers has for it.
pub(crate) fn gelu(settings: &Settings<'_>, key: &str, default: &str) -> Result<Gelu> {
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
pub(crate) fn divided(settings: &Settings<'_>, key: &str, whole: usize, part: usize) -> Result<()> {
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
