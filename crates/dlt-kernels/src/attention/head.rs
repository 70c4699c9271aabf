//! One head of one sequence, in blocks of rows: scores exist for one block at a time.

use super::Mask;
use crate::Dropout;
use crate::lanes::{dot_of, exp, exp_and_sum, largest, vectorised};
use crate::matrix::{Into, Panel, Threads, View, multiply};

/// Rows of scores that exist at a time. Smaller blocks skip more of what a causal mask hides;
/// larger blocks make faster matrix products.
const BLOCK_ROWS: usize = 64;

/// The arguments of one head: tokens x width of queries, keys x width of keys and of values.
pub(super) struct Head<'a> {
    pub(super) tokens: usize,
    /// Keys that at least one token may see.
    pub(super) keys: usize,
    /// Keys of earlier tokens, in front of the first token's key.
    pub(super) before: usize,
    pub(super) width: usize,
    pub(super) mask: Mask,
    pub(super) dropout: Option<Dropout>,
    pub(super) query: View<'a>,
    pub(super) key: View<'a>,
    pub(super) value: View<'a>,
}

/// What the backward pass of one head reads besides the arguments.
pub(super) struct Outer<'a> {
    pub(super) out: View<'a>,
    pub(super) gradient: View<'a>,
    pub(super) sums: &'a [Sum],
}

/// Two numbers from which the softmax of a row is computed again. They are not joined to one
/// logarithm, because next to a large maximum the sum would be rounded away.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    /// The largest score.
    most: f32,
    /// One over the sum of `exp(score - most)`.
    inverse: f32,
}

impl Sum {
    pub(super) fn to_array(self) -> [f32; 2] {
        [self.most, self.inverse]
    }

    pub(super) fn from_array([most, inverse]: [f32; 2]) -> Self {
        Self { most, inverse }
    }
}

/// Rows `start..start + rows`, which see the keys `0..seen`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    rows: usize,
    seen: usize,
}

impl Head<'_> {
    /// Writes the result (T, D) to `out`, and the sum of each row of scores to `sums`.
    pub(super) fn forward(&self, out: &mut Panel<'_>, sums: &mut [Sum]) {
        let mut scores = vec![0.0; BLOCK_ROWS.min(self.tokens) * self.keys];
        let keys = self.key.transposed();

        for block in self.blocks() {
            let Block { start, rows, seen } = block;
            let scores = &mut scores[..rows * seen];
            self.scores(block, &keys, scores);

            let sums = &mut sums[start..start + rows];
            vectorised!(|| {
                for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                    let (visible, hidden) = row.split_at_mut(self.visible(start + i));
                    let most = largest(visible);
                    let sum = exp_and_sum(visible, most);

                    // The product with the values reads whole rows of the block.
                    hidden.fill(0.0);
                    sums[i] = Sum { most, inverse: 1.0 / sum };
                }
            });

            if let Some(dropout) = self.dropout {
                self.drop_scores(block, scores, dropout);
            }

            let mut out = out.rows(start, rows);
            multiply(
                &mut out,
                Into::Set,
                1.0,
                View::new(scores, rows, seen, seen),
                self.value.rows(0, seen),
                Threads::One,
            );

            // The division by the sum comes after the product: a row of the result has only D
            // elements, a row of scores has `seen`.
            for (i, sum) in sums.iter().enumerate() {
                out.row(i).iter_mut().for_each(|out| *out *= sum.inverse);
            }
        }
    }

    /// Writes the gradient of the query (T, D), and adds those of key and value (keys, D).
    pub(super) fn backward(
        &self,
        outer: &Outer<'_>,
        [of_query, of_key, of_value]: [&mut Panel<'_>; 3],
    ) {
        let size = BLOCK_ROWS.min(self.tokens) * self.keys;
        let mut probabilities = vec![0.0; size];
        let mut gradients = vec![0.0; size];
        let keys = self.key.transposed();
        let values = self.value.transposed();
        let scale = self.scale();

        for block in self.blocks() {
            let Block { start, rows, seen } = block;
            let p = &mut probabilities[..rows * seen];
            let g = &mut gradients[..rows * seen];
            let out = outer.out.rows(start, rows);
            let gradient = outer.gradient.rows(start, rows);

            self.scores(block, &keys, p);

            // dP = dO Vᵀ: (rows, D) x (D, seen).
            let g_panel = &mut Panel::new(g, rows, seen, seen);
            let values = View::new(&values, self.width, seen, self.keys);
            multiply(g_panel, Into::Set, 1.0, gradient, values, Threads::One);

            if let Some(dropout) = self.dropout {
                self.drop_scores(block, g, dropout);
            }

            vectorised!(|| {
                for (i, (p, g)) in
                    p.chunks_exact_mut(seen).zip(g.chunks_exact_mut(seen)).enumerate()
                {
                    let visible = self.visible(start + i);
                    // The softmax's gradient is P ∘ (dP - Σ P ∘ dP). A row's sum of P ∘ dP
                    // equals that of O ∘ dO, also under dropout, and the latter has only D
                    // terms.
                    let along = dot_of(out.row(i), gradient.row(i), |g| g);
                    let Sum { most, inverse } = outer.sums[start + i];

                    for (p, g) in p[..visible].iter_mut().zip(&mut g[..visible]) {
                        *p = exp(*p - most) * inverse;
                        *g = *p * (*g - along);
                    }

                    p[visible..].fill(0.0);
                    g[visible..].fill(0.0);
                }
            });

            // Only now: the loop above needs the probabilities before dropout, the gradient of the
            // values needs them after it.
            if let Some(dropout) = self.dropout {
                self.drop_scores(block, p, dropout);
            }

            let p = View::new(p, rows, seen, seen);
            let g = View::new(g, rows, seen, seen);
            multiply(
                &mut of_query.rows(start, rows),
                Into::Set,
                scale,
                g,
                self.key.rows(0, seen),
                Threads::One,
            );

            multiply(
                &mut of_key.rows(0, seen),
                Into::Add,
                scale,
                g.t(),
                self.query.rows(start, rows),
                Threads::One,
            );
            multiply(&mut of_value.rows(0, seen), Into::Add, 1.0, p.t(), gradient, Threads::One);
        }
    }

    /// A block has only the keys that its last row sees: with a causal mask, earlier blocks are
    /// narrower.
    fn blocks(&self) -> impl Iterator<Item = Block> + use<'_> {
        (0..self.tokens).step_by(BLOCK_ROWS).map(|start| {
            let rows = BLOCK_ROWS.min(self.tokens - start);
            Block { start, rows, seen: self.visible(start + rows - 1) }
        })
    }

    /// How many keys a row sees, from the first on.
    fn visible(&self, row: usize) -> usize {
        if self.mask == Mask::Causal { self.keys.min(self.before + row + 1) } else { self.keys }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Writes `scale · q kᵀ` of a block (rows, seen), from the transposed keys (D, keys). They are
    /// made once for all blocks, so that no product has to pack them.
    fn scores(&self, Block { start, rows, seen }: Block, keys: &[f32], scores: &mut [f32]) {
        let into = &mut Panel::new(scores, rows, seen, seen);
        let keys = View::new(keys, self.width, seen, self.keys);
        multiply(into, Into::Set, self.scale(), self.query.rows(start, rows), keys, Threads::One);
    }

    /// Applies dropout to rows of scores; a row has T numbers of the stream, whatever it sees.
    fn drop_scores(&self, Block { start, seen, .. }: Block, scores: &mut [f32], dropout: Dropout) {
        for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
            dropout.apply(((start + i) * self.tokens) as u64, row);
        }
    }
}
