//! Attention of bf16 queries, keys and values. The products take bf16 and have sums of f32; the
//! softmax and its gradient are f32. As in `head.rs`, scores exist for one block of rows at a time.

use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

use super::head::Sum;
use super::{Heads, Mask};
use crate::Dropout;
use crate::lanes::{dot_of, exp, exp_and_sum, largest, vectorised};
use crate::number::Number;
use crate::tiles::{Engine, Operand, Packed, Side, padded, panels_of};

/// Rows of scores that exist at a time.
const BLOCK_ROWS: usize = 64;

/// Heads of one window in rows that are `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [bf16],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows of the columns from `first` on.
    fn columns(self, first: usize) -> Self {
        Rows { data: &self.data[first..], ..self }
    }

    fn row(self, row: usize, width: usize) -> &'a [bf16] {
        &self.data[row * self.stride..][..width]
    }

    /// `rows` as indices of an operand, `width` numbers each.
    fn by_row(self, rows: Range<usize>, width: usize) -> Operand<'a, bf16> {
        Operand::of_rows(&self.data[rows.start * self.stride..], rows.len(), width, self.stride)
    }

    /// `width` columns as indices of an operand, a number of each of the `rows`.
    fn by_column(self, rows: Range<usize>, width: usize) -> Operand<'a, bf16> {
        Operand::of_columns(&self.data[rows.start * self.stride..], width, rows.len(), self.stride)
    }
}

/// One query head of one window, with its head of keys and of values.
struct Head<'a> {
    tokens: usize,
    /// Keys that at least one token may see.
    keys: usize,
    width: usize,
    mask: Mask,
    dropout: Option<Dropout>,
    query: Rows<'a>,
    key: Rows<'a>,
    value: Rows<'a>,
}

/// Rows `start..start + rows`, which see the keys `0..seen`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    rows: usize,
    seen: usize,
}

impl Heads<'_> {
    /// The result (B, T, H D), and the sums of each row of scores, (B, H, T).
    pub(super) fn forward_tiled(&self, qkv: &[bf16]) -> (Vec<bf16>, Vec<Sum>) {
        let sizes = self.sizes;
        let width = sizes.head_width;
        let columns = sizes.heads * width;
        let window = sizes.tokens * columns;
        let mut out = vec![bf16::ZERO; sizes.batch * window];

        // (B, H): the rows of a head, which are then copied to their columns.
        let heads: Vec<(Vec<bf16>, Vec<Sum>)> = (0..sizes.batch * sizes.heads)
            .into_par_iter()
            .map(|index| self.tiled_head(qkv, index).forward())
            .collect();

        out.par_chunks_mut(window).zip(heads.par_chunks(sizes.heads)).for_each(|(out, heads)| {
            for (token, row) in out.chunks_exact_mut(columns).enumerate() {
                for (row, (head, _)) in row.chunks_exact_mut(width).zip(heads) {
                    row.copy_from_slice(&head[token * width..][..width]);
                }
            }
        });

        (out, heads.into_iter().flat_map(|(_, sums)| sums).collect())
    }

    /// The gradient of `qkv`, (B, T, (H + 2G) D).
    pub(super) fn backward_tiled(
        &self,
        qkv: &[bf16],
        out: &[bf16],
        sums: &[Sum],
        gradient: &[bf16],
    ) -> Vec<bf16> {
        let sizes = self.sizes;
        let width = sizes.head_width;
        let group = sizes.group();
        let stride = sizes.heads * width;

        // (B, G): the gradients of a group of query heads, and of their keys and values.
        let groups: Vec<Vec<bf16>> = (0..sizes.batch * sizes.key_heads)
            .into_par_iter()
            .map(|index| {
                let first = index * group;
                let window = first / sizes.heads * sizes.tokens * stride;
                let mut made = Made::new(sizes.tokens, width, group);

                for (number, index) in (first..first + group).enumerate() {
                    let column = index % sizes.heads * width;
                    let rows = |data| Rows { data, stride }.columns(window + column);
                    let sums = &sums[index * sizes.tokens..][..sizes.tokens];
                    let head = self.tiled_head(qkv, index);
                    head.backward(rows(out), rows(gradient), sums, number, &mut made);
                }

                made.rounded()
            })
            .collect();

        let columns = sizes.columns() * width;
        let mut into = vec![bf16::ZERO; qkv.len()];
        into.par_chunks_mut(sizes.tokens * columns)
            .zip(groups.par_chunks(sizes.key_heads))
            .for_each(|(into, groups)| {
                for (token, row) in into.chunks_exact_mut(columns).enumerate() {
                    let mut heads: Vec<&mut [bf16]> = row.chunks_exact_mut(width).collect();
                    for (key_head, made) in groups.iter().enumerate() {
                        // Query heads of the group, then the key head, then the value head.
                        let queries = (0..group).map(|number| key_head * group + number);
                        let places = queries.chain(
                            [sizes.heads, sizes.heads + sizes.key_heads].map(|n| n + key_head),
                        );
                        for (number, place) in places.enumerate() {
                            let row = &made[(number * sizes.tokens + token) * width..][..width];
                            heads[place].copy_from_slice(row);
                        }
                    }
                }
            });

        into
    }

    fn tiled_head<'q>(&self, qkv: &'q [bf16], index: usize) -> Head<'q> {
        let sizes = self.sizes;
        let width = sizes.head_width;
        let stride = sizes.columns() * width;
        let (batch, head) = (index / sizes.heads, index % sizes.heads);
        let shared = sizes.heads + head / sizes.group();
        let rows = Rows { data: &qkv[batch * sizes.tokens * stride..], stride };
        let first = (index * sizes.tokens * sizes.tokens) as u64;

        Head {
            tokens: sizes.tokens,
            keys: self.lengths.map_or(sizes.tokens, |lengths| lengths[batch]),
            width,
            mask: self.mask,
            dropout: self.dropout.map(|d| Dropout { offset: d.offset.wrapping_add(first), ..d }),
            query: rows.columns(head * width),
            key: rows.columns(shared * width),
            value: rows.columns((shared + sizes.key_heads) * width),
        }
    }
}

/// Gradients of a group of query heads, of their key head and of their value head, (T, D) each, in
/// f32, with rows of whole tiles.
struct Made {
    tokens: usize,
    width: usize,
    stride: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Made {
    fn new(tokens: usize, width: usize, group: usize) -> Self {
        let stride = padded(width);
        let head = padded(tokens) * stride;
        let zeros = |heads: usize| vec![0.0; heads * head];
        Made { tokens, width, stride, queries: zeros(group), keys: zeros(1), values: zeros(1) }
    }

    /// All heads without what fills their tiles, rounded.
    fn rounded(&self) -> Vec<bf16> {
        let head = padded(self.tokens) * self.stride;
        let heads = [&self.queries, &self.keys, &self.values].into_iter();
        let rows = heads.flat_map(|heads| heads.chunks_exact(head)).flat_map(|head| {
            head.chunks_exact(self.stride).take(self.tokens).map(|row| &row[..self.width])
        });

        let count = self.queries.len() / head + 2;
        let mut into = vec![bf16::ZERO; count * self.tokens * self.width];
        into.chunks_exact_mut(self.width).zip(rows).for_each(|(into, row)| bf16::round(row, into));
        into
    }
}

impl Head<'_> {
    /// The result (T, D), and the sum of each row of scores.
    fn forward(&self) -> (Vec<bf16>, Vec<Sum>) {
        let running = Engine::chosen().start();
        let keys = Packed::new(Side::Right, self.key.by_row(0..self.keys, self.width));
        let values = Packed::new(Side::Right, self.value.by_column(0..self.keys, self.width));
        let stride = padded(self.keys);
        let mut scores = vec![0.0; BLOCK_ROWS * stride];
        let mut result = vec![0.0; BLOCK_ROWS * padded(self.width)];
        let mut out = vec![bf16::ZERO; self.tokens * self.width];
        let mut sums = vec![Sum::default(); self.tokens];
        let scale = self.scale();

        for block in self.blocks() {
            let Block { start, rows, seen } = block;
            let query = Packed::new(Side::Left, self.query.by_row(start..start + rows, self.width));
            running.multiply_into(&query, &keys, 0..panels_of(seen), (&mut scores, stride), false);

            let sums = &mut sums[start..start + rows];
            vectorised!(|| {
                for (i, row) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
                    let (visible, hidden) = row[..seen].split_at_mut(self.visible(start + i));
                    visible.iter_mut().for_each(|x| *x *= scale);
                    let most = largest(visible);
                    let sum = exp_and_sum(visible, most);

                    // The product with the values reads whole rows of the block.
                    hidden.fill(0.0);
                    sums[i] = Sum::from_array([most, 1.0 / sum]);
                }
            });
            self.drop_scores(block, &mut scores, stride);

            let weights = Packed::new(Side::Left, Operand::of_rows(&scores, rows, seen, stride));
            let into = (&mut result[..], padded(self.width));
            running.multiply_into(&weights, &values, 0..panels_of(self.width), into, false);

            // The division by the sum comes after the product: a row of the result has only D
            // elements, a row of scores has `seen`.
            let places = out[start * self.width..].chunks_exact_mut(self.width);
            for ((row, out), sum) in
                result.chunks_exact_mut(padded(self.width)).zip(places).zip(&*sums)
            {
                let [_, inverse] = sum.to_array();
                let row = &mut row[..self.width];
                row.iter_mut().for_each(|x| *x *= inverse);
                bf16::round(row, out);
            }
        }

        (out, sums)
    }

    /// Writes the gradient of the query head with this number in its group, and adds those of key
    /// and value.
    fn backward(
        &self,
        out: Rows<'_>,
        gradient: Rows<'_>,
        sums: &[Sum],
        number: usize,
        made: &mut Made,
    ) {
        let running = Engine::chosen().start();
        let width = self.width;
        let wide = padded(width);
        let by_row = |rows: Rows<'_>| Packed::new(Side::Right, rows.by_row(0..self.keys, width));
        let keys = by_row(self.key);
        let values = by_row(self.value);
        let key_columns = Packed::new(Side::Right, self.key.by_column(0..self.keys, width));
        let stride = padded(self.keys);
        let mut p = vec![0.0; BLOCK_ROWS * stride];
        let mut g = vec![0.0; BLOCK_ROWS * stride];
        let scale = self.scale();

        for block in self.blocks() {
            let Block { start, rows, seen } = block;
            let places = start..start + rows;
            let query = Packed::new(Side::Left, self.query.by_row(places.clone(), width));
            running.multiply_into(&query, &keys, 0..panels_of(seen), (&mut p, stride), false);

            // dP = dO Vᵀ: (rows, D) x (D, seen).
            let outer = Packed::new(Side::Left, gradient.by_row(places.clone(), width));
            running.multiply_into(&outer, &values, 0..panels_of(seen), (&mut g, stride), false);
            self.drop_scores(block, &mut g, stride);

            let along = self.along(out, gradient, places.clone());
            vectorised!(|| {
                let rows = p.chunks_exact_mut(stride).zip(g.chunks_exact_mut(stride)).take(rows);
                for (i, (p, g)) in rows.enumerate() {
                    let visible = self.visible(start + i);
                    let [most, inverse] = sums[start + i].to_array();

                    for (p, g) in p[..visible].iter_mut().zip(&mut g[..visible]) {
                        *p = exp(*p * scale - most) * inverse;
                        *g = *p * (*g - along[i]) * scale;
                    }
                    p[visible..seen].fill(0.0);
                    g[visible..seen].fill(0.0);
                }
            });

            // Only now: the loop above needs the probabilities before dropout, the gradient of the
            // values needs them after it.
            self.drop_scores(block, &mut p, stride);

            let of_scores = Operand::of_rows(&g, rows, seen, stride);
            let of_query = number * padded(self.tokens) * wide + start * wide;
            let into = (&mut made.queries[of_query..], wide);
            running.multiply_into(
                &Packed::new(Side::Left, of_scores),
                &key_columns,
                0..panels_of(width),
                into,
                false,
            );

            for (scores, rows, into) in
                [(&g, self.query, &mut made.keys), (&p, gradient, &mut made.values)]
            {
                // (seen, rows) x (rows, D)
                let scores = Packed::new(
                    Side::Left,
                    Operand::of_columns(scores, seen, places.len(), stride),
                );
                let right = Packed::new(Side::Right, rows.by_column(places.clone(), width));
                running.multiply_into(&scores, &right, 0..panels_of(width), (into, wide), true);
            }
        }
    }

    /// For each row, the sum of O ∘ dO. The softmax's gradient is P ∘ (dP - Σ P ∘ dP), and a row's
    /// sum of P ∘ dP equals this one, also under dropout.
    fn along(&self, out: Rows<'_>, gradient: Rows<'_>, rows: Range<usize>) -> Vec<f32> {
        let mut wide = [vec![0.0; self.width], vec![0.0; self.width]];
        rows.map(|row| {
            for (wide, rows) in wide.iter_mut().zip([out, gradient]) {
                bf16::widen(rows.row(row, self.width), wide);
            }
            vectorised!(|| dot_of(&wide[0], &wide[1], |x| x))
        })
        .collect()
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
        if self.mask == Mask::Causal { self.keys.min(row + 1) } else { self.keys }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Applies dropout to rows of scores; a row has T numbers of the stream, whatever it sees.
    fn drop_scores(&self, block: Block, scores: &mut [f32], stride: usize) {
        let Some(dropout) = self.dropout else { return };
        for (i, row) in scores.chunks_exact_mut(stride).take(block.rows).enumerate() {
            dropout.apply(((block.start + i) * self.tokens) as u64, &mut row[..block.seen]);
        }
    }
}
