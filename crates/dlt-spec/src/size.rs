//! The number of parameters of a model. Biases and norms are counted; tied weights count once.

use serde::{Deserialize, Serialize};

use crate::spec::{Architecture, AttentionBias, FeedForwardBias, ModelSpec, Objective, Output};

/// Channels of a picture.
pub const CHANNELS: usize = 3;

/// Rows of BERT's table of token types.
pub const TOKEN_TYPES: usize = 2;

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

/// Parameters of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSize {
    /// Outside the blocks.
    pub shared: usize,
    /// Of one block.
    pub block: usize,
    /// Of all `layers` blocks, none tied.
    pub all_blocks: usize,
    /// Of the model with no layer tied: `shared + all_blocks`.
    pub conventional: usize,
}

impl ModelSize {
    /// The size of `model` with data of these extents, which are used where `model.vocabulary` or
    /// `model.classes` is `auto`. `None` if a number does not fit.
    ///
    /// ```
    /// use dlt_spec::{presets, size::{Extents, ModelSize}};
    /// let paper = presets::preset("gpt2-paper")?.spec()?;
    /// let size = ModelSize::new(&paper.model, Extents::of_text(50_257)).unwrap();
    /// assert_eq!(size.conventional, 1_556_382_400); // Table 1: 1.6B
    /// # Ok::<(), dlt_spec::SpecError>(())
    /// ```
    #[must_use]
    pub fn new(model: &ModelSpec, data: Extents) -> Option<Self> {
        let shared = shared_parameters(model, data)?;
        let block = block_parameters(model)?;
        let all_blocks = block.checked_mul(model.layers)?;
        Some(Self { shared, block, all_blocks, conventional: shared.checked_add(all_blocks)? })
    }

    /// Parameters of the model with `blocks` distinct blocks, at most one for each layer.
    #[must_use]
    pub fn with_blocks(&self, blocks: usize) -> usize {
        self.shared + self.block * blocks
    }
}

/// Parameters of one block. C is the width, F the width of the feed-forward layer, H D the width of
/// all queries, and G D the width of all keys.
///
/// They are 4 C^2 + 2 C F + 9 C + F, which is 12 C^2 + 13 C for F = 4 C. In llama, which has a gate
/// and by default no biases, they are 2 C H D + 2 C G D + 3 C F + 2 C. `None` if the number does
/// not fit.
#[must_use]
pub fn block_parameters(model: &ModelSpec) -> Option<usize> {
    if model.architecture == Architecture::Llama {
        return llama_block(model);
    }

    let width = model.width;
    let feed_forward = feed_forward(model)?;
    let square = width.checked_mul(width)?;
    let matrix = width.checked_mul(feed_forward)?;

    // Biases: 3 C + C in attention, F + C in the feed-forward layer; gains and offsets of two
    // norms: 4 C.
    let vectors = width.checked_mul(9)?.checked_add(feed_forward)?;

    square.checked_mul(4)?.checked_add(matrix.checked_mul(2)?)?.checked_add(vectors)
}

fn llama_block(model: &ModelSpec) -> Option<usize> {
    let width = model.width;
    let feed_forward = feed_forward(model)?;
    let head_width = model.head_width.or(width.checked_div(model.heads)?);
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

/// Which projections of attention have a bias: never `auto`.
pub(crate) fn attention_bias(model: &ModelSpec) -> AttentionBias {
    match (model.attention_bias, model.architecture) {
        (AttentionBias::Auto, Architecture::Llama) => AttentionBias::None,
        (AttentionBias::Auto, _) => AttentionBias::All,
        (written, _) => written,
    }
}

/// Whether the projections of the feed-forward layer have biases: never `auto`.
pub(crate) fn feed_forward_bias(model: &ModelSpec) -> FeedForwardBias {
    match (model.feed_forward_bias, model.architecture) {
        (FeedForwardBias::Auto, Architecture::Llama) => FeedForwardBias::None,
        (FeedForwardBias::Auto, _) => FeedForwardBias::All,
        (written, _) => written,
    }
}

/// Parameters outside the blocks: embeddings, positions, the last norm, and the head of the
/// objective. `None` if the number does not fit.
#[must_use]
pub fn shared_parameters(model: &ModelSpec, data: Extents) -> Option<usize> {
    let width = model.width;
    let architecture = model.architecture;
    let vocabulary = model.vocabulary.or(data.vocabulary);
    let classes = model.classes.or(data.classes);
    let positions = model.positions.or(tokens(model)?);
    let norm = width.checked_mul(2)?;

    let dense = width.checked_mul(width)?.checked_add(width)?;
    // Rows of C numbers, and one norm: the last one, or BERT's first one.
    let (rows, norm_of_all) = match architecture {
        Architecture::Gpt2 => (vocabulary.checked_add(positions)?, norm),
        Architecture::Bert => (vocabulary.checked_add(positions)?.checked_add(TOKEN_TYPES)?, norm),
        // The projection of patches with its bias, and the class token.
        Architecture::Vit => (patch_numbers(model)?.checked_add(positions)?.checked_add(2)?, norm),
        Architecture::Llama => (vocabulary, width),
    };

    let head = match (model.objective, architecture) {
        (Objective::Classes, Architecture::Gpt2 | Architecture::Llama) => {
            classes.checked_mul(width)?
        }
        (Objective::Classes, Architecture::Vit) => classes.checked_mul(width.checked_add(1)?)?,
        (Objective::Classes, Architecture::Bert) => {
            dense.checked_add(classes.checked_mul(width.checked_add(1)?)?)?
        }
        // The transform, its norm, and a bias for each token.
        (_, Architecture::Bert) => dense.checked_add(norm)?.checked_add(vocabulary)?,
        (_, _) => 0,
    };

    let own = match (model.objective, model.output) {
        (Objective::Classes, _) | (_, Output::Tied) => 0,
        (_, Output::Own) => vocabulary.checked_mul(width)?,
    };

    rows.checked_mul(width)?.checked_add(norm_of_all)?.checked_add(head)?.checked_add(own)
}

/// Tokens of a window, T: the patches of a picture and the class token, or the context. `None` if
/// the number does not fit.
pub(crate) fn tokens(model: &ModelSpec) -> Option<usize> {
    match model.architecture {
        Architecture::Vit => model.picture.checked_div(model.patch)?.checked_pow(2)?.checked_add(1),
        Architecture::Gpt2 | Architecture::Bert | Architecture::Llama => Some(model.context),
    }
}

/// Numbers of a patch.
fn patch_numbers(model: &ModelSpec) -> Option<usize> {
    model.patch.checked_mul(model.patch)?.checked_mul(CHANNELS)
}

/// The width of the feed-forward layer: the one in the spec, or 4 C. `None` if that does not fit.
pub(crate) fn feed_forward(model: &ModelSpec) -> Option<usize> {
    Some(model.feed_forward.or(model.width.checked_mul(4)?))
}
