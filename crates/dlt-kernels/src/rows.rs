//! How rows are divided among threads. A division depends on sizes only, so sums have the same bits
//! for every number of threads.

use crate::lanes::vectorised;
use rayon::prelude::*;

/// Elements that one task handles: enough to hide the cost of starting it, few enough to balance
/// the load.
const TASK_ELEMENTS: usize = 16_384;
/// The most partial sums that a sum over rows is split into.
const PARTIAL_SUMS: usize = 16;

/// Rows of `width` that one task handles.
pub(crate) fn per_task(width: usize) -> usize {
    (TASK_ELEMENTS / width.max(1)).max(1)
}

/// Rows that one partial sum covers.
pub(crate) fn per_sum(rows: usize) -> usize {
    rows.div_ceil(PARTIAL_SUMS).max(1)
}

/// A new buffer whose pieces are filled from the same pieces of `x`.
pub(crate) fn map(x: &[f32], piece: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(TASK_ELEMENTS).zip(x.par_chunks(TASK_ELEMENTS)).for_each(|(y, x)| piece(x, y));
    y
}

/// [`map`] of two buffers of the same length.
pub(crate) fn map2(
    a: &[f32],
    b: &[f32],
    piece: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut y = vec![0.0; a.len()];

    y.par_chunks_mut(TASK_ELEMENTS)
        .zip(a.par_chunks(TASK_ELEMENTS).zip(b.par_chunks(TASK_ELEMENTS)))
        .for_each(|(y, (a, b))| piece(a, b, y));

    y
}

/// The sum of all rows, `width` numbers.
pub(crate) fn sum(x: &[f32], width: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = x
        .par_chunks(per_sum(x.len() / width) * width)
        .map(|rows| {
            let mut sum = vec![0.0; width];

            vectorised!(|| rows.chunks_exact(width).for_each(|row| add(&mut sum, row)));

            sum
        })
        .collect();

    combine(partial)
}

/// The sum of partial sums, first to last.
pub(crate) fn combine(partial: Vec<Vec<f32>>) -> Vec<f32> {
    partial
        .into_iter()
        .reduce(|mut sum, next| {
            add(&mut sum, &next);
            sum
        })
        .unwrap_or_default()
}

/// `into += x`
#[inline(always)]
pub(crate) fn add(into: &mut [f32], x: &[f32]) {
    for (into, &x) in into.iter_mut().zip(x) {
        *into += x;
    }
}
