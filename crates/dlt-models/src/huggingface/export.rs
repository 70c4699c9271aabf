//! Writes a model as transformers reads it.

mod rotary;

use std::collections::BTreeMap;
use std::path::Path;

use dlt_spec::spec::{Attention, Gelu, Objective, Output, Pooling};
use dlt_spec::{CheckedSpec, durable};
use serde_json::{Map, Value, json};

pub(crate) use rotary::rope;

use super::config::HeadKind;
use super::names::{pieces, twins};
use super::shards::SINGLE;
use crate::architecture::StemInput;
use crate::file::deferred::{self, Deferred};
use crate::model::factors_left;
use crate::parameters::Layout;
use crate::{Model, ModelError, Result, families};

/// Metadata key that marks the weights of an export as ours, so that a reader knows what the
/// checksum is.
const EXPORT_KEY: &str = "dlt-export";
const EXPORT_LAYOUT: &str = "1";

/// What a config says besides the sizes and settings of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Names of the classes; `LABEL_0` and so on if there are none.
    pub labels: Vec<String>,
    /// The token that begins a text.
    pub begin: Option<u32>,
    /// The tokens that end a text.
    pub ends: Vec<u32>,
    /// The token that fills up windows. transformers needs it to classify several windows at once.
    pub padding: Option<u32>,
}

/// The `config.json` of a model that was made from this spec.
///
/// # Errors
/// [`ModelError::Export`] if no class of transformers computes the same function.
pub fn config(model: &Model, spec: &CheckedSpec, annotations: &Annotations) -> Result<Value> {
    let model_type = (families::of(spec.model.architecture).model_type)(spec)?;
    refuse_pooling(spec)?;

    let objective = spec.model.objective;
    let class = model_type.class(HeadKind::of(objective)).ok_or_else(|| ModelError::Export {
        setting: "model.objective",
        expected: "one that a class of transformers has",
        got: format!("{objective:?}"),
    })?;

    let architecture = model.architecture();
    let mut values = (model_type.write)(spec);
    let mut add = |key: &str, value: Value| values.insert(key.to_owned(), value);

    add("model_type", json!(model_type.word));
    add("architectures", json!([class]));

    // `torch_dtype` is for releases before 5.
    add("dtype", json!("float32"));
    add("torch_dtype", json!("float32"));
    add("initializer_range", json!(spec.model.initial_std));

    if let StemInput::Tokens { vocabulary, .. } = architecture.stem_input() {
        add("vocab_size", json!(vocabulary));
        add("use_cache", json!(true));
        for (key, token) in special_tokens(annotations) {
            add(key, token);
        }
    }

    if architecture.head_settings().has_classes() {
        let classes = architecture.head_settings().classes;
        let labels = labels(&annotations.labels, classes)?;
        let by_number =
            labels.iter().enumerate().map(|(number, label)| (number.to_string(), json!(label)));

        add("id2label", Value::Object(by_number.collect()));
        let by_label =
            labels.iter().enumerate().map(|(number, label)| (label.clone(), json!(number)));
        add("label2id", Value::Object(by_label.collect()));
    }

    Ok(Value::Object(values))
}

/// Writes `config.json`, `model.safetensors` and, for a model that predicts the next token,
/// `generation_config.json` into a folder. The folder is made if there is none. Every layer is
/// written with separate weights, and scales that a layer keeps are multiplied into them. A tied
/// output is written once, as the token table.
///
/// # Errors
/// [`ModelError::Export`] if no class of transformers computes the same function. This includes
/// models with factors of residual branches that are not in the weights ([`Model::folded`]).
/// [`ModelError::Io`] if the folder cannot be written.
pub fn export(
    model: &Model,
    spec: &CheckedSpec,
    annotations: &Annotations,
    folder: &Path,
) -> Result<()> {
    let factors = (0..spec.model.layers).map(|layer| model.architecture().residual_factor(layer));
    if let Some(factor) = factors.into_iter().find(|&factor| factor != 1.0) {
        return Err(factors_left(factor));
    }

    let config = config(model, spec, annotations)?;
    let io = |source| ModelError::Io { action: "write", path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(io)?;

    let metadata = BTreeMap::from(
        [("format", "pt"), (EXPORT_KEY, EXPORT_LAYOUT)]
            .map(|(key, text)| (key.to_owned(), text.to_owned())),
    );

    deferred::write(&folder.join(SINGLE), written(model), metadata)?;
    write_json(&folder.join("config.json"), &config)?;

    if spec.model.objective == Objective::NextToken {
        let mut generation = Map::from_iter([("_from_model_config".to_owned(), json!(true))]);
        let given = special_tokens(annotations).into_iter().filter(|(_, token)| !token.is_null());
        generation.extend(given.map(|(key, token)| (key.to_owned(), token)));
        write_json(&folder.join("generation_config.json"), &Value::Object(generation))?;
    }

    Ok(())
}

/// Every tensor of the file, by the name that transformers has for it.
fn written(model: &Model) -> Vec<(String, Deferred<'_>)> {
    let architecture = model.architecture();
    let twins = twins(model.architecture());
    let mut named = Vec::new();
    let mut add = |prefix: &str, layer: Option<usize>, layout: &Layout| {
        for (index, entry) in layout.entries().iter().enumerate() {
            for piece in pieces(architecture, &format!("{prefix}{}", entry.name), &entry.shape) {
                let twin = twins.iter().find(|twin| twin.is_written && twin.used == piece.name);

                // BERT's separate output has its bias under both names.
                let names = [Some(piece.name.clone()), twin.map(|twin| twin.other.to_owned())];
                for name in names.into_iter().flatten() {
                    let piece = piece.clone();
                    let shape = piece.shape.clone();
                    let fetch = move || piece.unpacked(&model.plain_parameter(layer, index)?);

                    named.push((name, Deferred::new(shape, fetch)));
                }
            }
        }
    };

    add(architecture.shared_prefix(), None, model.shared().layout());

    // A family's own parameters come first in a block, so their numbers are the same.
    let block = architecture.block_layout();
    for layer in 0..architecture.n_layers() {
        add(&architecture.block_prefix(layer), Some(layer), &block);
    }

    named
}

/// Refuses a pooling of classes that no class of transformers has: they read the first token of an
/// encoder, and the last real one of a decoder.
fn refuse_pooling(spec: &CheckedSpec) -> Result<()> {
    let model = &spec.model;
    let (pooling, expected) = match model.attention {
        Attention::Full => (Pooling::First, "first"),
        Attention::Causal => (Pooling::LastReal, "last-real"),
    };

    if model.objective != Objective::Classes || model.pooling == pooling {
        return Ok(());
    }

    let got = format!("{:?}", model.pooling);
    Err(ModelError::Export { setting: "model.pooling", expected, got })
}

/// What the configs of BERT and ViT have in common.
pub(crate) fn encoder(spec: &CheckedSpec) -> Map<String, Value> {
    let model = &spec.model;

    object(json!({
        "num_hidden_layers": model.layers,
        "hidden_size": model.width,
        "num_attention_heads": model.heads,
        "intermediate_size": spec.feed_forward(),
        "hidden_act": match model.gelu { Gelu::Tanh => "gelu_pytorch_tanh", Gelu::Erf => "gelu" },
        "layer_norm_eps": model.norm_epsilon,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": 0.0,
    }))
}

/// Whether the output is the token table. A model for classes has no such output, so it gets the
/// default of its family.
pub(crate) fn is_tied(spec: &CheckedSpec) -> bool {
    match spec.model.objective {
        Objective::Classes => families::of(spec.model.architecture).ties_output,
        _ => spec.model.output == Output::Tied,
    }
}

/// The object that a `json!` of braces is.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

/// Keys and values for the tokens that begin, end and fill up texts; null if there are none.
fn special_tokens(annotations: &Annotations) -> [(&'static str, Value); 3] {
    let ends = match annotations.ends.as_slice() {
        [] => Value::Null,
        [only] => json!(only),
        several => json!(several),
    };
    let one = |token: Option<u32>| json!(token);

    [
        ("bos_token_id", one(annotations.begin)),
        ("eos_token_id", ends),
        ("pad_token_id", one(annotations.padding)),
    ]
}

/// The names of the classes, or `LABEL_0` and so on.
fn labels(given: &[String], classes: usize) -> Result<Vec<String>> {
    if given.is_empty() {
        return Ok((0..classes).map(|number| format!("LABEL_{number}")).collect());
    }

    if given.len() != classes {
        let got = format!("{} names for {classes} classes", given.len());
        return Err(ModelError::Export {
            setting: "labels",
            expected: "a name for each class",
            got,
        });
    }

    Ok(given.to_vec())
}

/// Writes JSON to a temporary file in the same folder, syncs it, and renames it into place.
fn write_json(path: &Path, value: &Value) -> Result<()> {
    let io = |source| ModelError::Io { action: "write", path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(value).map_err(|error| io(error.into()))?;
    durable::replace(path, format!("{text}\n").as_bytes()).map_err(io)
}
