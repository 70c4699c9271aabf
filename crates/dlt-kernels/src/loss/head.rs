//! Projection, softmax and their gradients for a chunk of rows at a time.

use crate::lanes::{exp_and_sum, largest, vectorised};
use crate::matrix::{By, Into, Panel, View, multiply};
use crate::rows::add;
use rayon::prelude::*;

/// Logits that exist at a time: 64 MiB. With fewer, the table is read more often; more would not
/// fit the caches either.
const CHUNK_LOGITS: usize = 1 << 24;
/// Fewest and most rows of a chunk: fewer make slow matrix products, more gain nothing.
const CHUNK_ROWS: (usize, usize) = (16, 1024);
/// Entries of the vocabulary whose bias gradients one task sums over a chunk: the sums stay in the
/// first cache.
const BIASES: usize = 2048;

/// A projection onto a vocabulary and the targets of its rows.
pub(super) struct Head<'a> {
    hidden: &'a [f32],
    table: &'a [f32],
    bias: Option<&'a [f32]>,
    targets: &'a [u32],
    width: usize,
    vocabulary: usize,
    by: By,
}

/// Where gradients go.
pub(super) struct Sums<'a> {
    pub(super) table: &'a mut [f32],
    /// Whether the table's gradient is added to what is there, or takes its place.
    pub(super) writes: Into,
    pub(super) bias: Option<&'a mut [f32]>,
}

/// The loss of a row of logits, and the factor that turns its exponentials into probabilities.
#[derive(Clone, Copy)]
struct Row {
    loss: f64,
    /// One over the sum of the exponentials.
    inverse: f32,
}

impl<'a> Head<'a> {
    pub(super) fn new(
        hidden: &'a [f32],
        table: &'a [f32],
        bias: Option<&'a [f32]>,
        targets: &'a [u32],
        by: By,
    ) -> Self {
        let width = hidden.len() / targets.len();
        Head { hidden, table, bias, targets, width, vocabulary: table.len() / width, by }
    }

    /// The sum of the rows' losses, in nats.
    pub(super) fn loss_sum(&self) -> f64 {
        let mut logits = self.chunk();
        let chunks =
            self.hidden.chunks(self.rows() * self.width).zip(self.targets.chunks(self.rows()));

        chunks
            .map(|(hidden, targets)| self.exponentials(hidden, targets, &mut logits))
            .map(|rows| total(&rows))
            .sum()
    }

    /// Adds the gradients of table and bias to `into`; returns the loss and the gradient of the
    /// hidden rows.
    pub(super) fn gradients(&self, scale: f32, mut into: Sums<'_>) -> (f64, Vec<f32>) {
        let width = self.width;
        let vocabulary = self.vocabulary;
        let mut logits = self.chunk();
        let mut of_hidden = vec![0.0; self.hidden.len()];
        let mut loss_sum = 0.0;
        let piece = self.rows() * width;

        let chunks = self
            .hidden
            .chunks(piece)
            .zip(of_hidden.chunks_mut(piece))
            .zip(self.targets.chunks(self.rows()));

        for ((hidden, of_hidden), targets) in chunks {
            let rows = self.exponentials(hidden, targets, &mut logits);
            loss_sum += total(&rows);

            // A row of the logits' gradient is scale · inverse · (what `exponentials` left in it).
            // The factors are applied to the C columns of each product instead of the V columns of
            // a row, which would be another pass over the logits.
            let count = rows.len();
            let outer = View::new(&logits, count, vocabulary, vocabulary);
            let table = View::new(self.table, vocabulary, width, width);

            // (rows, V) x (V, C)
            multiply(
                &mut Panel::new(of_hidden, count, width, width),
                Into::Set,
                scale,
                outer,
                table,
                self.by,
            );

            let mut scaled = hidden.to_vec();
            let wide = of_hidden.chunks_exact_mut(width).zip(scaled.chunks_exact_mut(width));
            for ((of_hidden, scaled), row) in wide.zip(&rows) {
                of_hidden.iter_mut().for_each(|x| *x *= row.inverse);
                scaled.iter_mut().for_each(|x| *x *= row.inverse);
            }

            // (V, rows) x (rows, C)
            let scaled = View::new(&scaled, count, width, width);
            let table = &mut Panel::new(into.table, vocabulary, width, width);
            multiply(table, into.writes, scale, outer.t(), scaled, self.by);
            into.writes = Into::Add;

            if let Some(bias) = &mut into.bias {
                add_bias_gradient(&logits, &rows, scale, bias);
            }
        }

        (loss_sum, of_hidden)
    }

    fn rows(&self) -> usize {
        chunk_rows(self.vocabulary)
    }

    fn chunk(&self) -> Vec<f32> {
        vec![0.0; self.rows().min(self.targets.len()) * self.vocabulary]
    }

    /// Fills the rows of `logits` (rows, V) with `exp(logit - largest)`, less their sum at the
    /// target: the logits' gradient, but for a factor of the row.
    fn exponentials(&self, hidden: &[f32], targets: &[u32], logits: &mut [f32]) -> Vec<Row> {
        let count = targets.len();
        let width = self.width;
        let vocabulary = self.vocabulary;
        let logits = &mut logits[..count * vocabulary];
        let table = View::new(self.table, vocabulary, width, width);
        let into = &mut Panel::new(logits, count, vocabulary, vocabulary);

        // (rows, C) x (C, V)
        multiply(into, Into::Set, 1.0, View::new(hidden, count, width, width), table.t(), self.by);

        logits
            .par_chunks_mut(vocabulary)
            .zip(targets)
            .map(|(row, &target)| exponentials(row, self.bias, target as usize))
            .collect()
    }
}

/// Rows whose logits exist at a time.
pub(super) fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1)
}

fn total(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.loss).sum()
}

fn exponentials(row: &mut [f32], bias: Option<&[f32]>, target: usize) -> Row {
    if let Some(bias) = bias {
        vectorised!(|| add(row, bias));
    }

    // Before the exponentials replace it.
    let logit = f64::from(row[target]);
    let (most, sum) = vectorised!(|| {
        let most = largest(row);
        (most, exp_and_sum(row, most))
    });

    row[target] -= sum;

    Row { loss: f64::from(most) + f64::from(sum).ln() - logit, inverse: 1.0 / sum }
}

/// `bias += scale · Σ inverse · row` over the rows that `exponentials` left.
fn add_bias_gradient(logits: &[f32], rows: &[Row], scale: f32, bias: &mut [f32]) {
    let vocabulary = bias.len();

    bias.par_chunks_mut(BIASES).enumerate().for_each(|(task, bias)| {
        let mut sum = vec![0.0; bias.len()];
        let first = task * BIASES;
        vectorised!(|| {
            for (logits, row) in logits.chunks_exact(vocabulary).zip(rows) {
                for (sum, &x) in sum.iter_mut().zip(&logits[first..]) {
                    *sum = x.mul_add(row.inverse, *sum);
                }
            }

            for (bias, &sum) in bias.iter_mut().zip(&sum) {
                *bias = sum.mul_add(scale, *bias);
            }
        });
    });
}
