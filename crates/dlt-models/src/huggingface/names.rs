//! Names and shapes of weights in Hugging Face's files, and those of this program.
//!
//! They are the same, except for packed matrices: queries, keys and values are one matrix here, and
//! so are gate and up.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Result;
use crate::architecture::Architecture;
use crate::parameters::Layout;

/// How files of transformers name and shape the tensors of a family, where that is not as here. The
/// default of each method is that nothing differs.
pub trait FileNames {
    /// Matrices that are one here and several in files, in the order of our rows.
    fn packed(&self) -> &'static [(&'static str, &'static [&'static str])] {
        &[]
    }

    /// Ends of the names of matrices that are (in, out) in files.
    fn turned(&self) -> &'static [&'static str] {
        &[]
    }

    /// Another name in files for a head's tensor. `own` is without the prefix of the base model.
    fn renamed(&self, _own: &str) -> Option<&'static str> {
        None
    }

    /// The shape in a file of a tensor that is not packed.
    fn file_shape(&self, _name: &str, shape: &[usize]) -> Vec<usize> {
        shape.to_vec()
    }

    /// Tensors that a file of a model that predicts tokens may have under two names.
    fn twins(&self) -> Vec<Twin> {
        Vec::new()
    }

    /// A second name that a tensor has had in files.
    fn second_name(&self, _name: &str) -> Option<String> {
        None
    }

    /// Whether no model needs a tensor that is not one of the weights. `own` is without the prefix
    /// of the base model.
    fn is_idle(&self, _own: &str) -> bool {
        false
    }
}

/// A tensor that files may have under two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Name of the one that transformers uses.
    pub used: &'static str,
    /// Name of the other.
    pub other: &'static str,
    /// Whether transformers writes and expects both, but uses only the first. If not, both are
    /// equal, because the output is tied.
    pub is_written: bool,
}

impl Twin {
    /// Two names of a tied tensor.
    pub(crate) fn tied(used: &'static str, other: &'static str) -> Self {
        Self { used, other, is_written: false }
    }
}

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

/// Heads. In files they are next to the base model, without its prefix.
const HEADS: [&str; 4] = ["cls.", "score.", "lm_head.", "classifier."];

/// The tensors of a file that make one of our tensors, in the order of its rows.
pub(crate) fn pieces(architecture: &dyn Architecture, name: &str, shape: &[usize]) -> Vec<Piece> {
    let packed = architecture.packed().iter().find(|(ours, _)| name.contains(ours));
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
    let own = own.map(|own| architecture.renamed(own).unwrap_or(own));
    let is_turned = architecture.turned().iter().any(|end| name.ends_with(end));

    vec![Piece {
        name: own.unwrap_or(name).to_owned(),
        shape: if is_turned {
            vec![shape[1], shape[0]]
        } else {
            architecture.file_shape(name, shape)
        },
        part: shape.to_vec(),
        first: 0,
        is_turned,
    }]
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

/// The tensors that a file of such a model may have under two names. A head for classes has no
/// output over tokens.
pub(crate) fn twins(architecture: &dyn Architecture) -> Vec<Twin> {
    if architecture.head_settings().has_classes() { Vec::new() } else { architecture.twins() }
}

/// The names that a tensor has had in files. The first one is that which transformers writes.
pub(crate) fn spellings(architecture: &dyn Architecture, name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    all.extend(architecture.second_name(name));

    // A base model that was saved alone has no prefix.
    let prefix = architecture.shared_prefix();
    let bare: Vec<_> =
        all.iter().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect();
    all.extend(bare);

    all
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

/// What a tensor is for that holds no weight of such a model.
pub(crate) fn use_of(architecture: &dyn Architecture, name: &str) -> Use {
    let own = name.strip_prefix(architecture.shared_prefix()).unwrap_or(name);
    if BUFFERS.iter().any(|end| name.ends_with(end)) || architecture.is_idle(own) {
        return Use::None;
    }

    if OTHER_HEADS.iter().any(|head| own.starts_with(head)) { Use::Elsewhere } else { Use::Unknown }
}
