//! Names and shapes of weights in Hugging Face's files, and those of this program.
//!
//! They are the same, except for packed matrices: queries, keys and values are one matrix here, and
//! so are gate and up.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dlt_spec::spec::Output;

use crate::Result;
use crate::architecture::{Architecture, StemInput};
use crate::parameters::Layout;

/// One tensor of a file, which holds some or all rows of one of our tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Name in the files that transformers writes.
    pub(crate) name: String,
    /// Shape in these files.
    pub(crate) shape: Vec<usize>,
    /// Shape of the same rows in our tensor.
    part: Vec<usize>,
    /// Number of the first of these rows in our tensor.
    first: usize,
    /// Whether the file has (in, out) where we have (out, in).
    is_turned: bool,
}

impl Piece {
    /// The rows of our tensor, from the tensor of a file, whose shape must have been checked.
    pub(crate) fn packed(&self, theirs: &Tensor) -> Result<Tensor> {
        // (in, out) -> (out, in); others differ by dimensions of 1 or by a flattened patch.
        Ok(if self.is_turned {
            theirs.t()?.contiguous()?
        } else {
            theirs.reshape(self.part.as_slice())?
        })
    }

    /// The tensor of a file, from our tensor.
    pub(crate) fn unpacked(&self, ours: &Tensor) -> Result<Tensor> {
        let rows = ours.narrow(0, self.first, self.part[0])?;
        Ok(if self.is_turned {
            rows.t()?.contiguous()?
        } else {
            rows.reshape(self.shape.as_slice())?
        })
    }
}

/// Matrices that are one here and several in files, in the order of our rows.
const PACKED: [(&str, &[&str]); 4] = [
    ("attention.self.qkv", &["attention.self.query", "attention.self.key", "attention.self.value"]),
    (
        "attention.attention.qkv",
        &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    ),
    ("self_attn.qkv_proj", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    ("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"]),
];

/// Matrices that are (in, out) in files: GPT-2's `Conv1D`.
const TURNED: [&str; 4] =
    ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];

/// Heads. In files they are next to the base model, without its prefix.
const HEADS: [&str; 4] = ["cls.", "score.", "lm_head.", "classifier."];

/// BERT's bias for each token if the output is tied.
const OUTPUT_BIAS: &str = "cls.predictions.bias";

/// The same if the output is not tied.
const OWN_OUTPUT_BIAS: &str = "cls.predictions.decoder.bias";

/// The tensors of a file that make one of our tensors, in the order of its rows.
pub(crate) fn pieces(architecture: &dyn Architecture, name: &str, shape: &[usize]) -> Vec<Piece> {
    let packed = PACKED.iter().find(|(ours, _)| name.contains(ours));
    if let Some((ours, theirs)) = packed {
        // Queries have H D rows, keys and values G D each; gate and up have half of the rows each.
        let head_width = architecture.head_width();
        let half = shape[0] / 2;
        let queries = architecture.form().heads * head_width;
        let keys = architecture.key_heads() * head_width;
        let rows = if theirs.len() == 3 { vec![queries, keys, keys] } else { vec![half, half] };
        let mut first = 0;

        let piece = |(theirs, rows): (&&str, usize)| {
            let part = [&[rows], &shape[1..]].concat();
            let name = name.replacen(ours, theirs, 1);
            first += rows;
            Piece { name, shape: part.clone(), part, first: first - rows, is_turned: false }
        };

        return theirs.iter().zip(rows).map(piece).collect();
    }

    let own = name.strip_prefix(architecture.shared_prefix());
    let own = own.filter(|own| HEADS.iter().any(|head| own.starts_with(head)));
    let own = match (own, architecture.head_settings().output) {
        (Some(OUTPUT_BIAS), Output::Own) => Some(OWN_OUTPUT_BIAS),
        (own, _) => own,
    };

    let is_turned = TURNED.iter().any(|end| name.ends_with(end));

    vec![Piece {
        name: own.unwrap_or(name).to_owned(),
        shape: if is_turned {
            vec![shape[1], shape[0]]
        } else {
            shape_there(architecture, name, shape)
        },
        part: shape.to_vec(),
        first: 0,
        is_turned,
    }]
}

/// The shape in a file of a tensor that is not packed.
fn shape_there(architecture: &dyn Architecture, name: &str, shape: &[usize]) -> Vec<usize> {
    let StemInput::Pictures { patch, .. } = architecture.stem_input() else {
        return shape.to_vec();
    };

    if name.ends_with("embeddings.patch_embeddings.projection.weight") {
        // (C, 3 P P) -> (C, 3, P, P)
        return vec![shape[0], shape[1] / (patch * patch), patch, patch];
    }

    // (C) -> (1, 1, C), and (T, C) -> (1, T, C)
    let leading = match name {
        name if name.ends_with("embeddings.cls_token") => 2,
        name if name.ends_with("embeddings.position_embeddings") => 1,
        _ => 0,
    };

    [&vec![1; leading], shape].concat()
}

/// The pieces of every tensor of a model, by our names.
pub(crate) fn all_pieces(architecture: &dyn Architecture) -> BTreeMap<String, Vec<Piece>> {
    let mut all = BTreeMap::new();
    let mut add = |prefix: &str, layout: &Layout| {
        for entry in layout.entries() {
            let name = format!("{prefix}{}", entry.name);
            let pieces = pieces(architecture, &name, &entry.shape);
            all.insert(name, pieces);
        }
    };

    add(architecture.shared_prefix(), &architecture.shared_layout());
    let blocks = architecture.block_layout();
    for layer in 0..architecture.n_layers() {
        add(&architecture.block_prefix(layer), &blocks);
    }

    all
}

/// The tensors, by name, that transformers has for one parameter of a model or for its gradient.
/// `name` is our name with the prefix of its layer or of the shared parameters.
///
/// # Errors
/// Fails if the device has no memory left.
pub fn tensors(
    architecture: &dyn Architecture,
    name: &str,
    ours: &Tensor,
) -> Result<Vec<(String, Tensor)>> {
    let pieces = pieces(architecture, name, ours.dims());
    pieces.into_iter().map(|piece| Ok((piece.name.clone(), piece.unpacked(ours)?))).collect()
}

/// A tensor that files may have under two names.
pub(crate) struct Twin {
    /// Name of the one that transformers uses.
    pub(crate) used: &'static str,
    /// Name of the other.
    pub(crate) other: &'static str,
    /// Whether transformers writes and expects both, but uses only the first. If not, both are
    /// equal, because the output is tied.
    pub(crate) is_written: bool,
}

/// The tensors that a file of such a model may have under two names.
pub(crate) fn twins(architecture: &dyn Architecture) -> Vec<Twin> {
    let head = architecture.head_settings();
    let prefix = architecture.shared_prefix();
    let tied = |used, other| Twin { used, other, is_written: false };

    match (prefix, head.output) {
        _ if head.has_classes() => Vec::new(),
        ("transformer.", Output::Tied) => vec![tied("transformer.wte.weight", "lm_head.weight")],
        ("model.", Output::Tied) => vec![tied("model.embed_tokens.weight", "lm_head.weight")],
        ("bert.", Output::Tied) => vec![
            tied("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
            tied(OUTPUT_BIAS, OWN_OUTPUT_BIAS),
        ],
        ("bert.", Output::Own) => {
            vec![Twin { used: OWN_OUTPUT_BIAS, other: OUTPUT_BIAS, is_written: true }]
        }
        _ => Vec::new(),
    }
}

/// The names that a tensor has had in files. The first one is that which transformers writes.
/// `prefix` is that of the base model.
pub(crate) fn spellings(prefix: &str, name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    all.extend(running_name(name));

    let norms: Vec<_> = all.iter().filter_map(|name| old_norm(name)).collect();
    all.extend(norms);

    // A base model that was saved alone has no prefix.
    let bare: Vec<_> =
        all.iter().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect();
    all.extend(bare);

    all
}

/// The name of BERT's norms in the first releases.
fn old_norm(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let kind = match kind {
        "weight" => "gamma",
        "bias" => "beta",
        _ => return None,
    };

    stem.ends_with("LayerNorm").then(|| format!("{stem}.{kind}"))
}

/// The name that a tensor of a ViT's layers has in a running model of transformers 5.
fn running_name(name: &str) -> Option<String> {
    const RUNNING: [(&str, &str); 6] = [
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];

    let (layer, own) = name.strip_prefix("vit.encoder.layer.")?.split_once('.')?;
    let (stem, kind) = own.rsplit_once('.')?;
    let stem = RUNNING.iter().find(|(file, _)| *file == stem).map_or(stem, |(_, running)| running);

    Some(format!("vit.layers.{layer}.{stem}.{kind}"))
}

/// What a tensor is for that a file holds besides the weights of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing: no model needs it.
    None,
    /// The head of another task reads it.
    Elsewhere,
    /// Unknown: perhaps the model computes with it.
    Unknown,
}

/// Masks and position numbers, which older releases saved.
const BUFFERS: [&str; 4] =
    [".attn.bias", ".attn.masked_bias", "embeddings.position_ids", ".rotary_emb.inv_freq"];

/// Heads of other tasks and their poolers, without the prefix of the base model.
const OTHER_HEADS: [&str; 9] = [
    "cls.",
    "score.",
    "lm_head.",
    "classifier.",
    "pooler.",
    "qa_outputs.",
    "multiple_choice_head.",
    "summary.",
    "v_head.",
];

/// What a tensor is for that holds no weight of such a model. `prefix` is that of the base model.
pub(crate) fn use_of(prefix: &str, name: &str) -> Use {
    let own = name.strip_prefix(prefix).unwrap_or(name);

    // No head reads the pooler of a ViT, so it is not worth a note.
    if BUFFERS.iter().any(|end| name.ends_with(end))
        || prefix == "vit." && own.starts_with("pooler.")
    {
        return Use::None;
    }

    if OTHER_HEADS.iter().any(|head| own.starts_with(head)) { Use::Elsewhere } else { Use::Unknown }
}
