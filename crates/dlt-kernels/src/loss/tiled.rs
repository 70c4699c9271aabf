//! The projection and its softmax for hidden rows of bf16, in groups of rows and chunks of the
//! vocabulary. A group's exponentials are kept in bf16. The largest score of a row is known after
//! the last chunk only, so they are relative to the largest one so far, and corrected when the
//! gradient reads them.

use half::bf16;
use rayon::prelude::*;

use super::Sums;
use crate::lanes::{exp, exp_and_sum, largest, vectorised};
use crate::matrix::Into;
use crate::number::{Number, widened};
use crate::rows::add;
use crate::tiles::{EDGE, Left, Operand, Packed, STRETCH, Side, product};

/// Entries of the vocabulary in a chunk.
const CHUNK: usize = 2 * STRETCH;
/// Exponentials that are kept at a time: 64 MiB. With fewer, the table is read more often.
const KEPT: usize = 1 << 25;
/// Fewest rows of a group: fewer make slow products.
const GROUP_ROWS: usize = 128;
/// Entries whose bias gradients one task sums.
const BIASES: usize = 128;

/// A projection onto a vocabulary and the targets of its rows.
#[derive(Clone, Copy)]
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

    /// Adds scores, and leaves `exp(score - most)` in their place.
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

    /// What turns `exp(score - most)` into a probability.
    fn factor(self, most: f32) -> f32 {
        exp(most - self.most) / self.sum
    }
}

/// The exponentials of a group of rows.
struct Kept {
    /// (rows, V).
    numbers: Vec<bf16>,
    /// The largest score so far for each [`STRETCH`] of a row.
    mosts: Vec<f32>,
    vocabulary: usize,
}

impl Kept {
    fn new(rows: usize, vocabulary: usize) -> Self {
        let mosts = vec![0.0; rows * vocabulary.div_ceil(STRETCH)];
        Kept { numbers: bf16::zeros(rows * vocabulary), mosts, vocabulary }
    }

    /// The parts of so many rows.
    fn rows(
        &mut self,
        count: usize,
    ) -> impl IndexedParallelIterator<Item = (&mut [bf16], &mut [f32])> {
        let stretches = self.vocabulary.div_ceil(STRETCH);
        let numbers = self.numbers.par_chunks_exact_mut(self.vocabulary);
        numbers.zip(self.mosts.par_chunks_exact_mut(stretches)).take(count)
    }
}

/// A row while its scores are computed.
struct Working<'a> {
    row: Row,
    /// Its part of [`Kept`], if the exponentials are kept.
    kept: Option<(&'a mut [bf16], &'a mut [f32])>,
}

impl Working<'_> {
    fn add(&mut self, first: usize, scores: &mut [f32]) {
        self.row.add(scores);

        if let Some((numbers, mosts)) = &mut self.kept {
            bf16::round(scores, &mut numbers[first..first + scores.len()]);
            mosts[first / STRETCH] = self.row.most;
        }
    }
}

impl<'a> Head<'a> {
    fn width(&self) -> usize {
        self.hidden.len() / self.targets.len()
    }

    fn vocabulary(&self) -> usize {
        self.table.len() / self.width()
    }

    fn groups(self, rows: usize) -> impl Iterator<Item = Head<'a>> {
        let hidden = self.hidden.chunks(rows * self.width());
        hidden.zip(self.targets.chunks(rows)).map(move |(hidden, targets)| Head {
            hidden,
            targets,
            ..self
        })
    }

    /// The sum of the rows' losses, in nats.
    pub(super) fn loss_sum(&self) -> f64 {
        let rows = self.targets.iter().map(|_| Working { row: Row::NONE, kept: None }).collect();
        self.softmax(rows).iter().map(|row| row.loss()).sum()
    }

    /// The softmax of each row.
    fn softmax(&self, mut rows: Vec<Working<'_>>) -> Vec<Row> {
        let width = self.width();
        let operand = Operand::of_rows(self.hidden, self.targets.len(), width, width);
        let hidden = Packed::on_all_threads(Side::Left, operand);

        for (chunk, table) in self.table.chunks(CHUNK * width).enumerate() {
            let packed = Packed::right(Operand::of_rows(table, table.len() / width, width, width));
            let hidden = Left::<bf16>::Packed(&hidden);

            product(hidden, &packed, (&mut rows, 1), |number, columns, scores, into| {
                let first = chunk * CHUNK + columns.start;
                if let Some(bias) = self.bias {
                    let bias = &bias[first..first + scores.len()];
                    vectorised!(|| add(scores, bias));
                }

                let target = self.targets[number] as usize;
                if let Some(&score) = target.checked_sub(first).and_then(|at| scores.get(at)) {
                    into[0].row.target = score;
                }
                into[0].add(first, scores);
            });
        }

        rows.into_iter().map(|working| working.row).collect()
    }

    /// Adds the gradients of table and bias to `into`; returns the loss and the gradient of the
    /// hidden rows.
    pub(super) fn gradients(self, scale: f32, into: Sums<'_>) -> (f64, Vec<bf16>) {
        self.gradients_by(group_rows(self.targets.len(), self.vocabulary()), scale, into)
    }

    fn gradients_by(self, rows: usize, scale: f32, mut into: Sums<'_>) -> (f64, Vec<bf16>) {
        let mut loss_sum = 0.0;
        let mut of_hidden = bf16::zeros(self.hidden.len());
        let mut rest = of_hidden.as_mut_slice();
        let mut kept = Kept::new(rows.min(self.targets.len()), self.vocabulary());

        for group in self.groups(rows) {
            let (of_hidden, following) = rest.split_at_mut(group.hidden.len());
            loss_sum += group.add_gradients(scale, &mut kept, &mut into, of_hidden);
            into.writes = Into::Add;
            rest = following;
        }

        (loss_sum, of_hidden)
    }

    /// The loss of one group, whose exponentials all exist at once.
    fn add_gradients(
        &self,
        scale: f32,
        kept: &mut Kept,
        into: &mut Sums<'_>,
        rounded: &mut [bf16],
    ) -> f64 {
        let (width, vocabulary, count) = (self.width(), self.vocabulary(), self.targets.len());
        let working = kept.rows(count).map(|kept| Working { row: Row::NONE, kept: Some(kept) });
        let rows = self.softmax(working.collect());

        let inner = Packed::right(Operand::of_columns(self.hidden, width, count, width));
        let mut of_hidden = vec![0.0; count * width];
        let writes = into.writes;

        let chunks = self.table.chunks(CHUNK * width).zip(into.table.chunks_mut(CHUNK * width));
        for (chunk, (table, of_table)) in chunks.enumerate() {
            let entries = table.len() / width;
            let first = chunk * CHUNK;
            self.turn_into_gradients(kept, &rows, first, entries);
            let outer = &kept.numbers[first..count * vocabulary];

            // (N, chunk) x (chunk, C)
            let packed = Packed::right(Operand::of_columns(table, width, entries, width));
            let scores = Operand::of_rows(outer, count, entries, vocabulary);
            product(scores, &packed, (&mut of_hidden, width), |_, columns, sums, into| {
                add(&mut into[columns], sums);
            });

            // (chunk, N) x (N, C)
            let scores = Operand::of_columns(outer, entries, count, vocabulary);
            product(scores, &inner, (of_table, width), |_, columns, sums, into| {
                let into = &mut into[columns];
                vectorised!(|| {
                    let pairs = into.iter_mut().zip(&*sums);
                    match writes {
                        Into::Set => pairs.for_each(|(into, &x)| *into = x * scale),
                        Into::Add => pairs.for_each(|(into, &x)| *into = x.mul_add(scale, *into)),
                    }
                });
            });

            if let Some(bias) = &mut into.bias {
                add_bias_gradient(outer, vocabulary, scale, &mut bias[first..first + entries]);
            }
        }

        vectorised!(|| of_hidden.iter_mut().for_each(|x| *x *= scale));
        bf16::round(&of_hidden, rounded);
        rows.iter().map(|row| row.loss()).sum()
    }

    /// Turns the kept exponentials of a chunk into the gradients of its scores, but for the scale:
    /// `p`, less one at the target.
    fn turn_into_gradients(&self, kept: &mut Kept, rows: &[Row], first: usize, entries: usize) {
        let chunks = kept.rows(rows.len()).zip(rows).zip(self.targets);

        chunks.for_each_init(Vec::new, |buffer, (((numbers, mosts), row), &target)| {
            for (stretch, numbers) in
                numbers[first..first + entries].chunks_mut(STRETCH).enumerate()
            {
                let factor = row.factor(mosts[first / STRETCH + stretch]);
                buffer.resize(numbers.len(), 0.0);
                bf16::widen(numbers, buffer);
                vectorised!(|| buffer.iter_mut().for_each(|x| *x *= factor));
                bf16::round(buffer, numbers);
            }

            // From the score itself: a rounded probability near one would leave little of the
            // difference.
            if (first..first + entries).contains(&(target as usize)) {
                numbers[target as usize] = bf16::from_f32(row.factor(row.target) - 1.0);
            }
        });
    }
}

/// Rows of a group, of which all have about the same size.
fn group_rows(rows: usize, vocabulary: usize) -> usize {
    let most = (KEPT / vocabulary).max(GROUP_ROWS);
    let groups = rows.div_ceil(most).max(1);
    rows.div_ceil(groups).next_multiple_of(EDGE)
}

/// Numbers of f32 that take the memory of the gradients' buffers: exponentials of a group, gradients
/// of hidden rows and their packed forms, and a packed chunk of the table.
pub(super) fn workspace(rows: usize, width: usize, vocabulary: usize) -> usize {
    let exponentials = group_rows(rows, vocabulary).min(rows) * vocabulary / 2;
    exponentials + 2 * rows * width + CHUNK.min(vocabulary) * width
}

/// `bias += scale · Σ outer` over rows that are `stride` apart.
fn add_bias_gradient(outer: &[bf16], stride: usize, scale: f32, bias: &mut [f32]) {
    bias.par_chunks_mut(BIASES).enumerate().for_each(|(task, bias)| {
        let mut sums = vec![0.0f32; bias.len()];
        let first = task * BIASES;

        vectorised!(|| {
            for row in outer.chunks(stride) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::narrow as numbers;

    const ROWS: usize = 70;
    const WIDTH: usize = 40;
    /// Two chunks, the second one with two stretches.
    const ENTRIES: usize = CHUNK + STRETCH + 90;
    const SCALE: f32 = 0.25;

    /// Loss, gradient of the hidden rows and gradient of the table, in f64.
    fn exact(hidden: &[f64], table: &[f64], targets: &[u32]) -> (f64, Vec<f64>, Vec<f64>) {
        let mut of_hidden = vec![0.0; hidden.len()];
        let mut of_table = vec![0.0; table.len()];
        let mut loss = 0.0;

        for (row, &target) in targets.iter().enumerate() {
            let x = &hidden[row * WIDTH..][..WIDTH];
            let scores: Vec<f64> = table
                .chunks(WIDTH)
                .map(|entry| x.iter().zip(entry).map(|(a, b)| a * b).sum())
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            loss += most + sum.ln() - scores[target as usize];

            for (entry, score) in scores.iter().enumerate() {
                let is_target = f64::from(u8::from(entry == target as usize));
                let outer = f64::from(SCALE) * ((score - most).exp() / sum - is_target);
                for at in 0..WIDTH {
                    of_hidden[row * WIDTH + at] += outer * table[entry * WIDTH + at];
                    of_table[entry * WIDTH + at] += outer * x[at];
                }
            }
        }

        (loss, of_hidden, of_table)
    }

    /// The largest difference as a share of the largest number.
    fn distance(got: impl Iterator<Item = f32>, expected: &[f64]) -> f64 {
        let most = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let differences =
            got.zip(expected).map(|(got, expected)| (f64::from(got) - expected).abs());
        differences.fold(0.0, f64::max) / most
    }

    #[test]
    fn matches_reference_gradients_of_rows_in_groups() {
        // Scores that rise along the vocabulary: the largest one so far changes in every stretch.
        let hidden: Vec<bf16> =
            numbers(ROWS * WIDTH, 1).iter().map(|x| bf16::from_f32(x.to_f32() + 1.0)).collect();
        let rise = |at: usize| (at / WIDTH) as f32 / ENTRIES as f32;
        let table: Vec<f32> = numbers(ENTRIES * WIDTH, 2)
            .iter()
            .enumerate()
            .map(|(at, x)| bf16::from_f32(0.2 * x.to_f32() + rise(at)).to_f32())
            .collect();
        let targets: Vec<u32> = (0..ROWS).map(|row| (row * 31 % ENTRIES) as u32).collect();

        let wide = |x: &[bf16]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let table_wide: Vec<f64> = table.iter().map(|&x| f64::from(x)).collect();
        let (loss, of_hidden, of_table) = exact(&wide(&hidden), &table_wide, &targets);

        let head = Head { hidden: &hidden, table: &table, bias: None, targets: &targets };
        for rows in [ROWS, 32, 1] {
            // What is there before the first group is overwritten, or added to.
            for (writes, before) in [(Into::Set, f32::NAN), (Into::Add, 0.5)] {
                let mut made = vec![before; table.len()];
                let into = Sums { table: &mut made, writes, bias: None };
                let (got, hidden) = head.gradients_by(rows, SCALE, into);

                assert!((got - loss).abs() < 1e-5 * loss, "{rows}: {got} for {loss}");
                let hidden = distance(hidden.iter().map(|x| x.to_f32()), &of_hidden);
                assert!(hidden < 1e-2, "{rows}: {hidden}");

                let earlier = if writes == Into::Add { before } else { 0.0 };
                let table = distance(made.iter().map(|x| x - earlier), &of_table);
                assert!(table < 1e-2, "{rows}: {table}");
            }
        }

        assert!((head.loss_sum() - loss).abs() < 1e-5 * loss);
    }
}
