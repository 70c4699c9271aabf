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
