//! The product of few rows with a weight, as generation computes it. The weight is read once, in
//! order and in place. From two rows on, gemm copies the weight first; with few rows the copy takes
//! longer than the product. For one row gemm is about as fast, but the row would get other bits
//! than among other rows.

use crate::lanes::{dispatch, fold};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// The most rows whose product is computed here. With 16 rows gemm's copy is worth its time, with
/// 12 for narrow weights only.
pub(super) const FEW_ROWS: usize = 8;

/// Multiply-adds of one task: about 50 µs, several times what it takes to wake another thread.
const TASK_PRODUCTS: usize = 1 << 20;
/// Partial sums of an element of the result: one vector of the widest instruction set.
const LANES: usize = 16;
/// Rows of the weight that are read together, that is, columns of the result that are computed
/// together.
const COLUMNS: usize = 4;
/// Rows of `x` that are multiplied with them: the sums of all pairs stay in registers.
const ROWS: usize = 2;

/// `x · weightᵀ`, (N, out), row by row. An element is computed from its two rows alone, always in
/// the same order: the bits of a row depend neither on the other rows nor on the number of threads.
pub(super) fn product(x: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let count = x.len() / inputs;
    let outputs = weight.len() / inputs;
    let tasks = (x.len() * outputs).div_ceil(TASK_PRODUCTS);
    // Whole groups of columns, so that only the last task has a remainder.
    let columns = outputs.div_ceil(tasks).next_multiple_of(COLUMNS);
    let mut y = vec![0.0; count * outputs];

    let mut pieces: Vec<_> = weight
        .chunks(columns * inputs)
        .map(|weight| Piece { x, weight, inputs, y: Vec::with_capacity(count) })
        .collect();

    for row in y.chunks_exact_mut(outputs) {
        pieces.iter_mut().zip(row.chunks_mut(columns)).for_each(|(piece, row)| piece.y.push(row));
    }

    pieces.into_par_iter().for_each(dispatch);
    y
}

/// Some columns of the result.
struct Piece<'a> {
    x: &'a [f32],
    /// The rows of the weight that these columns are computed from.
    weight: &'a [f32],
    inputs: usize,
    /// These columns of each row of the result.
    y: Vec<&'a mut [f32]>,
}

impl WithSimd for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.fill::<S, 1>(simd),
            8 => self.fill::<S, 2>(simd),
            4 => self.fill::<S, 4>(simd),
            _ => self.fill::<S, LANES>(simd),
        }
    }
}

impl Piece<'_> {
    /// `V` vectors of this instruction set are [`LANES`] numbers.
    #[inline(always)]
    fn fill<S: Simd, const V: usize>(mut self, simd: S) {
        let tiles = self.weight.chunks_exact(COLUMNS * self.inputs);
        let rest = tiles.remainder();
        let whole = tiles.len() * COLUMNS;

        for (tile, weight) in tiles.enumerate() {
            self.fill_columns::<S, V, COLUMNS>(simd, split(weight, self.inputs), tile * COLUMNS);
        }

        for (column, weight) in rest.chunks_exact(self.inputs).enumerate() {
            self.fill_columns::<S, V, 1>(simd, [weight], whole + column);
        }
    }

    /// Fills `C` columns from `first`.
    #[inline(always)]
    fn fill_columns<S: Simd, const V: usize, const C: usize>(
        &mut self,
        simd: S,
        weight: [&[f32]; C],
        first: usize,
    ) {
        let pairs = self.x.chunks_exact(ROWS * self.inputs);
        let rest = pairs.remainder();
        let whole = pairs.len() * ROWS;

        for (x, y) in pairs.zip(self.y.chunks_exact_mut(ROWS)) {
            let sums = dots::<S, V, ROWS, C>(simd, split(x, self.inputs), weight);
            for (y, sums) in y.iter_mut().zip(&sums) {
                y[first..first + C].copy_from_slice(sums);
            }
        }

        // One column at a time: the time of a single row is that of reading the weight, and one
        // stream of reads is the fastest.
        for (x, y) in rest.chunks_exact(self.inputs).zip(&mut self.y[whole..]) {
            for (weight, y) in weight.into_iter().zip(&mut y[first..first + C]) {
                [[*y]] = dots::<S, V, 1, 1>(simd, [x], [weight]);
            }
        }
    }
}

/// `N` rows of `width`.
#[inline(always)]
fn split<const N: usize>(rows: &[f32], width: usize) -> [&[f32]; N] {
    std::array::from_fn(
        #[inline(always)]
        |row| &rows[row * width..][..width],
    )
}

/// `Σ x weight` of every pair, in the fixed order of the lanes.
// Loops rather than closures: a closure that is not inlined would keep the sums out of the
// registers.
#[inline(always)]
fn dots<S: Simd, const V: usize, const R: usize, const C: usize>(
    simd: S,
    x: [&[f32]; R],
    weight: [&[f32]; C],
) -> [[f32; C]; R] {
    let x_rest = rests(x);
    let weight_rest = rests(weight);
    let x = vectors::<S, V, R>(x);
    let weight = vectors::<S, V, C>(weight);
    let mut sums = [[[simd.splat_f32s(0.0); V]; C]; R];

    for at in 0..x[0].len() {
        add_products(simd, &mut sums, at_each(x, at), at_each(weight, at));
    }

    // Zeros fill the last vector, and zero times zero adds nothing.
    if !x_rest[0].is_empty() {
        let x = padded(x_rest);
        let weight = padded(weight_rest);
        add_products::<S, V, R, C>(
            simd,
            &mut sums,
            whole::<S, V, R>(&x),
            whole::<S, V, C>(&weight),
        );
    }

    let mut dots = [[0.0; C]; R];
    for (dots, sums) in dots.iter_mut().zip(&sums) {
        for (dot, sum) in dots.iter_mut().zip(sums) {
            let mut lanes = [0.0f32; LANES];
            S::as_mut_simd_f32s(&mut lanes).0.copy_from_slice(sum);
            *dot = fold(lanes);
        }
    }

    dots
}

/// `sums += x weight` for every pair.
#[inline(always)]
fn add_products<S: Simd, const V: usize, const R: usize, const C: usize>(
    simd: S,
    sums: &mut [[[S::f32s; V]; C]; R],
    x: [[S::f32s; V]; R],
    weight: [[S::f32s; V]; C],
) {
    for (sums, x) in sums.iter_mut().zip(&x) {
        for (sums, weight) in sums.iter_mut().zip(&weight) {
            for ((sum, &x), &weight) in sums.iter_mut().zip(x).zip(weight) {
                *sum = simd.mul_add_f32s(x, weight, *sum);
            }
        }
    }
}

/// The vectors at one place of each row.
#[inline(always)]
fn at_each<T: Copy, const N: usize>(rows: [&[T]; N], at: usize) -> [T; N] {
    rows.map(
        #[inline(always)]
        |row| row[at],
    )
}

/// The remainders of rows, followed by zeros.
#[inline(always)]
fn padded<const N: usize>(rests: [&[f32]; N]) -> [[f32; LANES]; N] {
    let mut padded = [[0.0; LANES]; N];
    for (padded, rest) in padded.iter_mut().zip(rests) {
        padded[..rest.len()].copy_from_slice(rest);
    }
    padded
}

/// [`LANES`] numbers of each row as vectors.
#[inline(always)]
fn whole<S: Simd, const V: usize, const N: usize>(rows: &[[f32; LANES]; N]) -> [[S::f32s; V]; N] {
    std::array::from_fn(
        #[inline(always)]
        |n| S::as_simd_f32s(&rows[n]).0.as_chunks().0[0],
    )
}

/// The whole vectors of rows, `V` of them for [`LANES`] numbers.
#[inline(always)]
fn vectors<S: Simd, const V: usize, const N: usize>(rows: [&[f32]; N]) -> [&[[S::f32s; V]]; N] {
    rows.map(
        #[inline(always)]
        |row| S::as_simd_f32s(row.as_chunks::<LANES>().0.as_flattened()).0.as_chunks().0,
    )
}

/// The remainders of rows, behind their whole vectors.
#[inline(always)]
fn rests<const N: usize>(rows: [&[f32]; N]) -> [&[f32]; N] {
    rows.map(
        #[inline(always)]
        |row| row.as_chunks::<LANES>().1,
    )
}
