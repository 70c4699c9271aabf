//! Loops over rows of activations, and how rows are divided among threads. A division depends on
//! sizes only, so sums have the same bits for every number of threads.
//!
//! Loops compute in f32. Activations of f32 are read and written where they are. Of bf16, a piece at
//! a time is widened into a buffer, and the results of a piece are rounded, while both are in a
//! cache.

use crate::host;
use crate::lanes::vectorised;
use crate::number::{Number, in_format_of};
use candle_core::{Result, Tensor};
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

/// Elements of a tensor, each from the same elements of `inputs`, which have its shape. `body` gets
/// pieces of all of them.
pub(crate) fn map<const N: usize>(
    inputs: [&Tensor; N],
    body: impl Fn([&[f32]; N], &mut [f32]) + Sync,
) -> Result<Tensor> {
    map_from(inputs, |_, inputs, y| body(inputs, y))
}

/// [`map`], where `body` also gets the number of its first element.
pub(crate) fn map_from<const N: usize>(
    inputs: [&Tensor; N],
    body: impl Fn(usize, [&[f32]; N], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let by_element = Rows { inputs, widths: [1; N], dims: inputs[0].dims(), width: 1 };
    let (y, _) = by_element.run(per_task(1), 0, |first, inputs, y, _| body(first, inputs, y))?;
    Ok(y)
}

/// Rows of a tensor with these dimensions, each from the same row of `inputs`. A row is what the
/// last dimension holds. `body` gets the number of its first row, and whole rows.
pub(crate) fn map_rows<const N: usize>(
    inputs: [&Tensor; N],
    dims: &[usize],
    body: impl Fn(usize, [&[f32]; N], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let rows = Rows::new(inputs, dims);
    let (y, _) =
        rows.run(per_task(rows.widest()), 0, |first, inputs, y, _| body(first, inputs, y))?;
    Ok(y)
}

/// [`map_rows`] with the dimensions of the first input, and `sums` sums over all rows. `body` adds
/// to those of its rows.
pub(crate) fn map_and_sum<const N: usize>(
    inputs: [&Tensor; N],
    sums: usize,
    body: impl Fn([&[f32]; N], &mut [f32], &mut [f32]) + Sync,
) -> Result<(Tensor, Vec<f32>)> {
    let rows = Rows::new(inputs, inputs[0].dims());
    let task = per_sum(inputs[0].elem_count() / rows.width);
    let (y, partial) = rows.run(task, sums, |_, inputs, y, sums| body(inputs, y, sums))?;
    Ok((y, combine(partial)))
}

/// Tensors of one number format in main memory, and one that is made of them, row by row.
struct Rows<'a, const N: usize> {
    inputs: [&'a Tensor; N],
    /// Numbers in a row of each input.
    widths: [usize; N],
    /// Of the result.
    dims: &'a [usize],
    /// Numbers in a row of the result.
    width: usize,
}

impl<'a, const N: usize> Rows<'a, N> {
    fn new(inputs: [&'a Tensor; N], dims: &'a [usize]) -> Self {
        let width = |dims: &[usize]| dims.last().copied().unwrap_or(1);
        Rows { inputs, widths: inputs.map(|input| width(input.dims())), dims, width: width(dims) }
    }

    fn widest(&self) -> usize {
        self.widths.into_iter().fold(self.width, usize::max)
    }

    /// The result, and sums of the rows of each task of `task` rows. `body` computes in f32: it
    /// gets the number of its first row, rows of the inputs, those of the result to fill, and the
    /// sums to add to.
    fn run(
        &self,
        task: usize,
        sums: usize,
        body: impl Fn(usize, [&[f32]; N], &mut [f32], &mut [f32]) + Sync,
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        in_format_of!(self.inputs[0], |E| self.run_as::<E>(task, sums, body))
    }

    fn run_as<E: Number>(
        &self,
        task: usize,
        sums: usize,
        body: impl Fn(usize, [&[f32]; N], &mut [f32], &mut [f32]) + Sync,
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let width = self.width;
        // Rows that `body` gets at once. Sums are added to in the order of rows, so their bits do
        // not depend on it.
        let piece = (E::PIECE / self.widest()).clamp(1, task);

        host::read_as::<E, N, _>(self.inputs, |inputs| {
            let mut y = E::zeros(self.dims.iter().product());
            let tasks = y.par_chunks_mut(task * width).enumerate();

            let made = tasks.map_init(Buffers::new, |buffers, (number, y)| {
                let mut sums = vec![0.0; sums];
                for (at, y) in y.chunks_mut(piece * width).enumerate() {
                    let first = number * task + at * piece;
                    let count = y.len() / width;
                    let inputs: [&[E]; N] = std::array::from_fn(|i| {
                        &inputs[i][first * self.widths[i]..][..count * self.widths[i]]
                    });

                    buffers.call(inputs, y, |inputs, y| body(first, inputs, y, &mut sums));
                }
                sums
            });
            let made = made.collect();

            Ok((host::tensor(y, self.dims)?, made))
        })
    }
}

/// Buffers in which one thread widens pieces of activations.
struct Buffers<const N: usize> {
    inputs: [Vec<f32>; N],
    result: Vec<f32>,
}

impl<const N: usize> Buffers<N> {
    fn new() -> Self {
        Buffers { inputs: std::array::from_fn(|_| Vec::new()), result: Vec::new() }
    }

    /// Calls `body` with pieces of activations in f32.
    fn call<E: Number>(
        &mut self,
        inputs: [&[E]; N],
        y: &mut [E],
        body: impl FnOnce([&[f32]; N], &mut [f32]),
    ) {
        let mut wide: [&[f32]; N] = [&[]; N];
        for ((wide, input), buffer) in wide.iter_mut().zip(inputs).zip(&mut self.inputs) {
            *wide = E::wide(input, buffer);
        }

        E::fill(y, &mut self.result, |y| body(wide, y));
    }
}

/// The sum of all rows of a tensor in main memory, each of `width` numbers: `width` numbers of f32.
pub(crate) fn sum(x: &Tensor, width: usize) -> Result<Vec<f32>> {
    in_format_of!(x, |E| host::read_as::<E, 1, _>([x], |[x]| Ok(sum_as(x, width))))
}

fn sum_as<E: Number>(x: &[E], width: usize) -> Vec<f32> {
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
fn combine(partial: Vec<Vec<f32>>) -> Vec<f32> {
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
pub(crate) fn add<E: Number>(into: &mut [f32], x: &[E]) {
    for (into, &x) in into.iter_mut().zip(x) {
        *into += x.to_f32();
    }
}
