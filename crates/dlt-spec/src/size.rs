//! Sizes that follow from a spec alone.

use serde::{Deserialize, Serialize};

use crate::spec::{Architecture, AttentionBias, FeedForwardBias, ModelSpec};

/// Channels of a picture.
pub const CHANNELS: usize = 3;

/// The sizes of a model that depend on the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extents {
    /// Size of the vocabulary, V; 0 where there are no tokens.
    pub vocabulary: usize,
    /// Number of classes, K, or 1 for a single score; 0 where none are predicted.
    pub classes: usize,
}

impl Extents {
    /// Those of text: a vocabulary, and no classes.
    #[must_use]
    pub fn of_text(vocabulary: usize) -> Self {
        Self { vocabulary, classes: 0 }
    }
}

/// Parameters of one block, biases and norms included. `None` if the number does not fit.
///
/// Models read their sizes off the parameters that a family declares. This count is for those who
/// have no model: reports, and estimates of a run's time. A test of the models compares the two for
/// every family.
///
/// C is the width, F the width of the feed-forward layer, H D the width of all queries, and G D the
/// width of all keys.
#[must_use]
pub fn block_parameters(model: &ModelSpec) -> Option<usize> {
    (model.architecture.family().block)(model)
}

/// 4 C^2 + 2 C F + 9 C + F, which is 12 C^2 + 13 C for F = 4 C.
pub(crate) fn plain_block(model: &ModelSpec) -> Option<usize> {
    let width = model.width;
    let feed_forward = feed_forward(model)?;
    let square = width.checked_mul(width)?;
    let matrix = width.checked_mul(feed_forward)?;

    // Biases: 3 C + C in attention, F + C in the feed-forward layer; gains and offsets of two
    // norms: 4 C.
    let vectors = width.checked_mul(9)?.checked_add(feed_forward)?;

    square.checked_mul(4)?.checked_add(matrix.checked_mul(2)?)?.checked_add(vectors)
}

/// 2 C H D + 2 C G D + 3 C F + 2 C, and the biases that the spec asks for.
pub(crate) fn gated_block(model: &ModelSpec) -> Option<usize> {
    let width = model.width;
    let feed_forward = feed_forward(model)?;
    let head_width = head_width(model)?;
    let queries = head_width.checked_mul(model.heads)?;
    let keys = head_width.checked_mul(model.key_heads.or(model.heads))?;

    // Queries and output, keys and values; gate, up and down; the gains of two norms.
    let attention = width.checked_mul(queries.checked_add(keys)?)?.checked_mul(2)?;
    let gated = width.checked_mul(feed_forward)?.checked_mul(3)?;
    let inputs = queries.checked_add(keys.checked_mul(2)?)?;

    let attention_biases = match attention_bias(model) {
        AttentionBias::Auto | AttentionBias::None => 0,
        AttentionBias::Inputs => inputs,
        AttentionBias::All => inputs.checked_add(width)?,
    };

    let other_biases = match feed_forward_bias(model) {
        FeedForwardBias::Auto | FeedForwardBias::None => 0,
        FeedForwardBias::All => feed_forward.checked_mul(2)?.checked_add(width)?,
    };

    let vectors = width.checked_mul(2)?.checked_add(attention_biases)?.checked_add(other_biases)?;
    attention.checked_add(gated)?.checked_add(vectors)
}

/// Width of a head: the one in the spec, or C / H. `None` without heads.
pub(crate) fn head_width(model: &ModelSpec) -> Option<usize> {
    Some(model.head_width.or(model.width.checked_div(model.heads)?))
}

/// Which projections of attention have a bias: never `auto`.
pub(crate) fn attention_bias(model: &ModelSpec) -> AttentionBias {
    match model.attention_bias {
        AttentionBias::Auto if model.architecture.is_rotary() => AttentionBias::None,
        AttentionBias::Auto => AttentionBias::All,
        written => written,
    }
}

/// Whether the projections of the feed-forward layer have biases: never `auto`.
pub(crate) fn feed_forward_bias(model: &ModelSpec) -> FeedForwardBias {
    match model.feed_forward_bias {
        FeedForwardBias::Auto if model.architecture.is_rotary() => FeedForwardBias::None,
        FeedForwardBias::Auto => FeedForwardBias::All,
        written => written,
    }
}

/// Tokens of a window, T: the patches of a picture and the class token, or the context. `None` if
/// the number does not fit.
pub(crate) fn tokens(model: &ModelSpec) -> Option<usize> {
    if model.architecture != Architecture::Vit {
        return Some(model.context);
    }

    model.picture.checked_div(model.patch)?.checked_pow(2)?.checked_add(1)
}

/// The width of the feed-forward layer: the one in the spec, or 4 C. `None` if that does not fit.
pub(crate) fn feed_forward(model: &ModelSpec) -> Option<usize> {
    Some(model.feed_forward.or(model.width.checked_mul(4)?))
}
