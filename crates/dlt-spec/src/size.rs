//! How many parameters a model has. Biases and both layer norms of a block are counted, and the output head
//! is the token embedding again.

use crate::spec::ModelSpec;

/// Parameters of one GPT-2 block of width `width` (C) and feed-forward width `feed_forward` (F):
/// 4 C^2 + 2 C F + 9 C + F, which is 12 C^2 + 13 C for F = 4 C. `None` where the number does not fit.
///
/// ```
/// use dlt_spec::size::block_parameters;
/// assert_eq!(block_parameters(1600, 6400), Some(12 * 1600 * 1600 + 13 * 1600));
/// ```
#[must_use]
pub fn block_parameters(width: usize, feed_forward: usize) -> Option<usize> {
    let attention = width.checked_mul(width)?.checked_mul(4)?;
    let matrices = width.checked_mul(feed_forward)?.checked_mul(2)?;
    // Biases: 3 C + C in attention, F + C in the feed-forward layer; gains and offsets of two norms: 4 C.
    let vectors = width.checked_mul(9)?.checked_add(feed_forward)?;
    attention.checked_add(matrices)?.checked_add(vectors)
}

/// Parameters of a GPT-2 outside its blocks: token embedding (V C), positions (P C) and the last norm (2 C).
/// `None` where the number does not fit.
#[must_use]
pub fn shared_parameters(vocabulary: usize, positions: usize, width: usize) -> Option<usize> {
    vocabulary.checked_add(positions)?.checked_add(2)?.checked_mul(width)
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
    /// The size of `model` with a tokenizer of `tokenizer_vocabulary` entries, which counts where
    /// `model.vocabulary` is `auto`. `None` where a number does not fit.
    ///
    /// ```
    /// use dlt_spec::{presets, size::ModelSize};
    /// let paper = presets::preset("gpt2-paper")?.spec()?;
    /// let size = ModelSize::new(&paper.model, 50_257).unwrap();
    /// assert_eq!(size.conventional, 1_556_382_400); // Table 1: 1.6B
    /// # Ok::<(), dlt_spec::SpecError>(())
    /// ```
    #[must_use]
    pub fn new(model: &ModelSpec, tokenizer_vocabulary: usize) -> Option<Self> {
        let feed_forward = feed_forward(model)?;
        let positions = model.positions.or(model.context);
        let shared = shared_parameters(model.vocabulary.or(tokenizer_vocabulary), positions, model.width)?;
        let block = block_parameters(model.width, feed_forward)?;
        let all_blocks = block.checked_mul(model.layers)?;
        Some(Self { shared, block, all_blocks, conventional: shared.checked_add(all_blocks)? })
    }

    /// Parameters of the model when it holds `blocks` distinct blocks, at most as many as it has layers.
    #[must_use]
    pub fn with_blocks(&self, blocks: usize) -> usize {
        self.shared + self.block * blocks
    }
}

/// The width of the feed-forward layer: the one written, or 4 C. `None` where that does not fit.
pub(crate) fn feed_forward(model: &ModelSpec) -> Option<usize> {
    Some(model.feed_forward.or(model.width.checked_mul(4)?))
}
