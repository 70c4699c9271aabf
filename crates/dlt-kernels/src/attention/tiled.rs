//! Attention of bf16 queries, keys and values. The products take bf16 and have sums of f32; the
//! softmax and its gradient are f32. As in `head.rs`, scores exist for one block of rows at a time.

use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

use super::Heads;
use super::blocks::{BLOCK_ROWS, Block, Scope, Sum};
use crate::lanes::{dot_of, exp, exp_and_sum, largest, vectorised};
use crate::number::Number;
use crate::tiles::{Engine, Operand, Packed, Side, padded, panels_of};
/// Heads of one window in rows that are `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [bf16],
    stride: usize,
}

impl<'a> Rows<'a> {
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
    scope: Scope,
    query: Rows<'a>,
    key: Rows<'a>,
    value: Rows<'a>,
}

impl Heads<'_> {
    /// The result (B, T, H D), and the sums of each row of scores, (B, H, T).
    pub(super) fn forward_tiled(&self, qkv: &[bf16]) -> (Vec<bf16>, Vec<Sum>) {
        let sizes = self.sizes;
        let width = sizes.head_width;
        let columns = sizes.heads * width;
        let window = sizes.tokens * columns;
        let mut out = bf16::zeros(sizes.batch * window);

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
                    let [out, gradient] =
                        [out, gradient].map(|data| Rows { data: &data[window + column..], stride });
                    let sums = &sums[index * sizes.tokens..][..sizes.tokens];
                    let head = self.tiled_head(qkv, index);
                    head.backward(out, gradient, sums, number, &mut made);
                }

                made.rounded()
            })
            .collect();

        let columns = sizes.columns() * width;
        let mut into = bf16::zeros(qkv.len());
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
        let window = &qkv[index / sizes.heads * sizes.tokens * stride..];
        let column = |head: usize| Rows { data: &window[head * width..], stride };
        let head = index % sizes.heads;
        let shared = sizes.heads + head / sizes.group();

        Head {
            scope: self.scope(index),
            query: column(head),
            key: column(shared),
            value: column(shared + sizes.key_heads),
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
        let mut into = bf16::zeros(count * self.tokens * self.width);
        into.chunks_exact_mut(self.width).zip(rows).for_each(|(into, row)| bf16::round(row, into));
        into
    }
}

impl Head<'_> {
    /// The result (T, D), and the sum of each row of scores.
    fn forward(&self) -> (Vec<bf16>, Vec<Sum>) {
        let scope = self.scope;
        let Scope { tokens, keys, width, .. } = scope;
        let running = Engine::chosen().start();
        let key_rows = Packed::new(Side::Right, self.key.by_row(0..keys, width));
        let value_columns = Packed::new(Side::Right, self.value.by_column(0..keys, width));
        let stride = padded(keys);
        let wide = padded(width);
        let mut scores = vec![0.0; BLOCK_ROWS * stride];
        let mut result = vec![0.0; BLOCK_ROWS * wide];
        let mut out = bf16::zeros(tokens * width);
        let mut sums = vec![Sum::default(); tokens];
        let scale = scope.scale();

        for block in scope.blocks() {
            let Block { start, rows, seen } = block;
            let query = Packed::new(Side::Left, self.query.by_row(start..start + rows, width));
            let panels = 0..panels_of(seen);
            running.multiply_into(&query, &key_rows, panels, (&mut scores, stride), false);

            let sums = &mut sums[start..start + rows];
            vectorised!(|| {
                for (i, row) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
                    let (visible, hidden) = row[..seen].split_at_mut(scope.visible(start + i));
                    visible.iter_mut().for_each(|x| *x *= scale);
                    let most = largest(visible);
                    let sum = exp_and_sum(visible, most);

                    // The product with the values reads whole rows of the block.
                    hidden.fill(0.0);
                    sums[i] = Sum { most, inverse: 1.0 / sum };
                }
            });
            scope.drop_scores(block, &mut scores, stride);

            let weights = Packed::new(Side::Left, Operand::of_rows(&scores, rows, seen, stride));
            let panels = 0..panels_of(width);
            running.multiply_into(&weights, &value_columns, panels, (&mut result, wide), false);

            // The division by the sum comes after the product: a row of the result has only D
            // elements, a row of scores has `seen`.
            let places = out[start * width..].chunks_exact_mut(width);
            for ((row, out), sum) in result.chunks_exact_mut(wide).zip(places).zip(&*sums) {
                let row = &mut row[..width];
                row.iter_mut().for_each(|x| *x *= sum.inverse);
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
        let scope = self.scope;
        let Scope { tokens, keys, width, .. } = scope;
        let running = Engine::chosen().start();
        let by_row = |rows: Rows<'_>| Packed::new(Side::Right, rows.by_row(0..keys, width));
        let key_rows = by_row(self.key);
        let value_rows = by_row(self.value);
        let key_columns = Packed::new(Side::Right, self.key.by_column(0..keys, width));
        let stride = padded(keys);
        let wide = padded(width);
        let mut p = vec![0.0; BLOCK_ROWS * stride];
        let mut g = vec![0.0; BLOCK_ROWS * stride];
        let scale = scope.scale();
        let columns = 0..panels_of(width);

        for block in scope.blocks() {
            let Block { start, rows, seen } = block;
            let places = start..start + rows;
            let panels = 0..panels_of(seen);

            let query = Packed::new(Side::Left, self.query.by_row(places.clone(), width));
            running.multiply_into(&query, &key_rows, panels.clone(), (&mut p, stride), false);

            // dP = dO Vᵀ: (rows, D) x (D, seen).
            let outer = Packed::new(Side::Left, gradient.by_row(places.clone(), width));
            running.multiply_into(&outer, &value_rows, panels, (&mut g, stride), false);
            scope.drop_scores(block, &mut g, stride);

            let along = self.along(out, gradient, places.clone());
            vectorised!(|| {
                let rows = p.chunks_exact_mut(stride).zip(g.chunks_exact_mut(stride)).take(rows);
                for (i, (p, g)) in rows.enumerate() {
                    let visible = scope.visible(start + i);
                    let Sum { most, inverse } = sums[start + i];

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
            scope.drop_scores(block, &mut p, stride);

            // (rows, seen) x (seen, D)
            let scores = Packed::new(Side::Left, Operand::of_rows(&g, rows, seen, stride));
            let of_query = &mut made.queries[(number * padded(tokens) + start) * wide..];
            running.multiply_into(&scores, &key_columns, columns.clone(), (of_query, wide), false);

            // (seen, rows) x (rows, D)
            for (scores, right, into) in
                [(&g, self.query, &mut made.keys), (&p, gradient, &mut made.values)]
            {
                let scores = Operand::of_columns(scores, seen, rows, stride);
                let scores = Packed::new(Side::Left, scores);
                let right = Packed::new(Side::Right, right.by_column(places.clone(), width));
                running.multiply_into(&scores, &right, columns.clone(), (into, wide), true);
            }
        }
    }

    /// For each row, the sum of O ∘ dO. The softmax's gradient is P ∘ (dP - Σ P ∘ dP), and a row's
    /// sum of P ∘ dP equals this one, also under dropout.
    fn along(&self, out: Rows<'_>, gradient: Rows<'_>, rows: Range<usize>) -> Vec<f32> {
        let mut wide = [vec![0.0; self.scope.width], vec![0.0; self.scope.width]];
        rows.map(|row| {
            for (wide, rows) in wide.iter_mut().zip([out, gradient]) {
                bf16::widen(rows.row(row, self.scope.width), wide);
            }
            vectorised!(|| dot_of(&wide[0], &wide[1], |x| x))
        })
        .collect()
    }
}
