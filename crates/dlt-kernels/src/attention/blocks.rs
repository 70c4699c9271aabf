//! What one head of one sequence computes, in blocks of rows, and what each row sees.

use super::Mask;
use crate::Dropout;

/// Rows of scores that exist at a time. Smaller blocks skip more of what a causal mask hides;
/// larger blocks make faster matrix products.
pub(super) const BLOCK_ROWS: usize = 64;

/// One head: its sizes, and what its rows see.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) tokens: usize,
    /// Keys that at least one token may see.
    pub(super) keys: usize,
    /// Keys of earlier tokens, in front of the first token's key.
    pub(super) before: usize,
    pub(super) width: usize,
    pub(super) mask: Mask,
    pub(super) dropout: Option<Dropout>,
}

/// Rows `start..start + rows`, which see the keys `0..seen`.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) rows: usize,
    pub(super) seen: usize,
}

/// Two numbers from which the softmax of a row is computed again. They are not joined to one
/// logarithm, because next to a large maximum the sum would be rounded away.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    /// The largest score.
    pub(super) most: f32,
    /// One over the sum of `exp(score - most)`.
    pub(super) inverse: f32,
}

impl Sum {
    pub(super) fn to_array(self) -> [f32; 2] {
        [self.most, self.inverse]
    }

    pub(super) fn from_array([most, inverse]: [f32; 2]) -> Self {
        Self { most, inverse }
    }
}

impl Scope {
    /// A block has only the keys that its last row sees: with a causal mask, earlier blocks are
    /// narrower.
    pub(super) fn blocks(self) -> impl Iterator<Item = Block> {
        (0..self.tokens).step_by(BLOCK_ROWS).map(move |start| {
            let rows = BLOCK_ROWS.min(self.tokens - start);
            Block { start, rows, seen: self.visible(start + rows - 1) }
        })
    }

    /// How many keys a row sees, from the first on.
    #[inline(always)]
    pub(super) fn visible(self, row: usize) -> usize {
        if self.mask == Mask::Causal { self.keys.min(self.before + row + 1) } else { self.keys }
    }

    /// The factor of scores.
    pub(super) fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Applies dropout to rows of scores, which are `stride` apart. A row has T numbers of the
    /// stream, whatever it sees.
    pub(super) fn drop_scores(self, block: Block, scores: &mut [f32], stride: usize) {
        let Some(dropout) = self.dropout else { return };
        for (i, row) in scores.chunks_exact_mut(stride).take(block.rows).enumerate() {
            dropout.apply(((block.start + i) * self.tokens) as u64, &mut row[..block.seen]);
        }
    }
}
