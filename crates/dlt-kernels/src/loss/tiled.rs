//! The projection and its softmax for hidden rows of bf16. It works in chunks of the vocabulary: a
//! chunk's scores are computed twice, once for the sums of the softmax and once for its gradient.
//! So they never leave the cache, and each row of the table's gradient is added to once.

use half::bf16;
use rayon::prelude::*;

use crate::lanes::{exp, exp_and_sum, largest, vectorised};
use crate::number::{Number, widened};
use crate::rows::add;
use crate::tiles::{Left, Operand, Packed, Side, product};

/// Entries of the vocabulary in a chunk.
const CHUNK: usize = 1024;
/// Entries whose bias gradients one task sums.
const BIASES: usize = 128;

/// A projection onto a vocabulary and the targets of its rows.
pub(super) struct Head<'a> {
    pub(super) hidden: &'a [bf16],
    pub(super) table: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) targets: &'a [u32],
}

/// The softmax of a row.
#[derive(Clone, Copy)]
struct Row {
    /// The largest score so far.
    most: f32,
    /// The sum of `exp(score - most)` so far.
    sum: f32,
    /// The score of the target.
    target: f32,
}

impl Row {
    const NONE: Row = Row { most: f32::NEG_INFINITY, sum: 0.0, target: 0.0 };

    /// Adds scores. They are overwritten.
    fn add(&mut self, scores: &mut [f32]) {
        vectorised!(|| {
            let most = largest(scores).max(self.most);
            // Before the first scores, the sum is zero, and the difference could be NaN.
            let earlier = if self.sum == 0.0 { 0.0 } else { self.sum * exp(self.most - most) };
            self.sum = earlier + exp_and_sum(scores, most);
            self.most = most;
        });
    }

    /// `-log p(target)` in nats.
    fn loss(self) -> f64 {
        f64::from(self.most) + f64::from(self.sum).ln() - f64::from(self.target)
    }
}

impl Head<'_> {
    fn width(&self) -> usize {
        self.hidden.len() / self.targets.len()
    }

    /// The hidden rows as left operand of all chunks.
    fn pack_hidden(&self) -> Packed {
        let width = self.width();
        let rows = Operand::of_rows(self.hidden, self.targets.len(), width, width);
        Packed::on_all_threads(Side::Left, rows)
    }

    /// The sum of the rows' losses, in nats.
    pub(super) fn loss_sum(&self) -> f64 {
        self.rows(&self.pack_hidden()).iter().map(|row| row.loss()).sum()
    }

    /// The softmax of each row.
    fn rows(&self, hidden: &Packed) -> Vec<Row> {
        let width = self.width();
        let mut rows = vec![Row::NONE; self.targets.len()];

        for (chunk, table) in self.table.chunks(CHUNK * width).enumerate() {
            let packed = pack_rows(table, width);
            let hidden = Left::<bf16>::Packed(hidden);
            product(hidden, &packed, (&mut rows, 1), |row, columns, scores, into| {
                let first = chunk * CHUNK + columns.start;
                self.add_bias(first, scores);

                let target = self.targets[row] as usize;
                if let Some(&score) = target.checked_sub(first).and_then(|at| scores.get(at)) {
                    into[0].target = score;
                }
                into[0].add(scores);
            });
        }

        rows
    }

    /// Adds the gradients of table and bias to `into`; returns the loss and the gradient of the
    /// hidden rows.
    pub(super) fn gradients(&self, scale: f32, into: super::Sums<'_>) -> (f64, Vec<bf16>) {
        let width = self.width();
        let count = self.targets.len();
        let hidden = self.pack_hidden();
        let rows = self.rows(&hidden);
        let inner = Packed::right(Operand::of_columns(self.hidden, width, count, width));
        let mut of_hidden = vec![0.0; count * width];
        let mut outer = bf16::zeros(count * CHUNK.min(self.table.len() / width));
        let mut of_bias = into.bias;

        let chunks = self.table.chunks(CHUNK * width).zip(into.table.chunks_mut(CHUNK * width));
        for (chunk, (table, of_table)) in chunks.enumerate() {
            let entries = table.len() / width;
            let first = chunk * CHUNK;
            let outer = &mut outer[..count * entries];
            self.outer(first, &hidden, &pack_rows(table, width), &rows, outer);

            // (N, chunk) x (chunk, C)
            let packed = Packed::right(Operand::of_columns(table, width, entries, width));
            let scores = Operand::of_rows(outer, count, entries, entries);
            product(scores, &packed, (&mut of_hidden, width), |_, columns, sums, into| {
                add(&mut into[columns], sums);
            });

            // (chunk, N) x (N, C)
            let scores = Operand::of_columns(outer, entries, count, entries);
            product(scores, &inner, (of_table, width), |_, columns, sums, into| {
                let into = &mut into[columns];
                vectorised!(|| {
                    into.iter_mut()
                        .zip(&*sums)
                        .for_each(|(into, &x)| *into = x.mul_add(scale, *into))
                });
            });

            if let Some(bias) = &mut of_bias {
                add_bias_gradient(outer, scale, &mut bias[first..first + entries]);
            }
        }

        vectorised!(|| of_hidden.iter_mut().for_each(|x| *x *= scale));
        let mut rounded = bf16::zeros(of_hidden.len());
        bf16::round(&of_hidden, &mut rounded);
        (rows.iter().map(|row| row.loss()).sum(), rounded)
    }

    /// The gradient of a chunk's scores, but for the scale: `p`, less one at the target.
    fn outer(
        &self,
        first: usize,
        hidden: &Packed,
        packed: &Packed,
        rows: &[Row],
        outer: &mut [bf16],
    ) {
        let entries = packed.count();
        let hidden = Left::<bf16>::Packed(hidden);
        product(hidden, packed, (outer, entries), |row, columns, scores, into| {
            let first = first + columns.start;
            self.add_bias(first, scores);

            let Row { most, sum, .. } = rows[row];
            let inverse = 1.0 / sum;
            vectorised!(|| scores.iter_mut().for_each(|x| *x = exp(*x - most) * inverse));

            let target = self.targets[row] as usize;
            if let Some(at) = target.checked_sub(first).and_then(|at| scores.get_mut(at)) {
                *at -= 1.0;
            }
            bf16::round(scores, &mut into[columns]);
        });
    }

    fn add_bias(&self, first: usize, scores: &mut [f32]) {
        if let Some(bias) = self.bias {
            let bias = &bias[first..first + scores.len()];
            vectorised!(|| add(scores, bias));
        }
    }
}

/// Entries of the table as columns of the scores.
fn pack_rows(table: &[f32], width: usize) -> Packed {
    Packed::right(Operand::of_rows(table, table.len() / width, width, width))
}

/// `bias += scale · Σ outer` over the rows.
fn add_bias_gradient(outer: &[bf16], scale: f32, bias: &mut [f32]) {
    let entries = bias.len();

    bias.par_chunks_mut(BIASES).enumerate().for_each(|(task, bias)| {
        let mut sums = vec![0.0f32; bias.len()];
        let first = task * BIASES;

        vectorised!(|| {
            for row in outer.chunks_exact(entries) {
                for (sum, &x) in sums.iter_mut().zip(&row[first..]) {
                    *sum += widened(x);
                }
            }
            for (bias, &sum) in bias.iter_mut().zip(&sums) {
                *bias = sum.mul_add(scale, *bias);
            }
        });
    });
}
