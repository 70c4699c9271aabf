//! Sums over rows and of squares, in two stages of a fixed order.

use super::{Launch, Machine, Memory, Source, fresh_f32, plain, run};
use candle_core::{DType, Result, Tensor};

/// Partial sums over rows, at most.
const PARTIAL_SUMS: usize = 128;
/// Rows of a partial sum, at least.
const FEWEST_ROWS: usize = 16;
/// Partial sums of squares, at most: the host adds them.
const SQUARE_SUMS: usize = 1024;
/// Elements of a partial sum of squares, at least.
const FEWEST_SQUARES: usize = 16_384;

/// How rows are divided among partial sums: by their number only.
pub(super) struct Groups {
    pub(super) rows: usize,
    pub(super) count: usize,
}

impl Groups {
    pub(super) fn of(rows: usize) -> Self {
        let per_sum = rows.div_ceil(PARTIAL_SUMS).max(FEWEST_ROWS);
        Groups { rows: per_sum, count: rows.div_ceil(per_sum) }
    }
}

/// The sum of rows of `width`, in f32.
pub fn row_sum(machine: &dyn Machine, x: &Tensor, width: usize) -> Result<Tensor> {
    let [x] = plain([x])?;
    combine(machine, stage(machine, &x, width, Groups::of(x.elem_count() / width))?)
}

/// The sum (W) of partial sums (P, W), first to last.
pub(super) fn combine(machine: &dyn Machine, partial: Tensor) -> Result<Tensor> {
    let (rows, width) = partial.dims2()?;
    match rows {
        1 => partial.flatten_all(),
        _ => stage(machine, &partial, width, Groups { rows, count: 1 })?.flatten_all(),
    }
}

fn stage(machine: &dyn Machine, x: &Tensor, width: usize, groups: Groups) -> Result<Tensor> {
    let sums = fresh_f32(machine, (groups.count, width), x)?;
    let launch = Launch::of_columns(Source::Sums, "column_sums", x.dtype(), width, groups.count)?;
    let launch = launch.with_sizes([x.elem_count() / width, width, groups.rows])?;
    run(machine, &launch, &[Memory::Read(x), Memory::Write(&sums)])?;
    Ok(sums)
}

/// The sum of the squares of all elements of a tensor that has some, in f64.
pub fn squared_norm(machine: &dyn Machine, x: &Tensor) -> Result<f64> {
    let [x] = plain([x])?;
    let count = x.elem_count();
    let per_sum = count.div_ceil(SQUARE_SUMS).max(FEWEST_SQUARES);
    let blocks = count.div_ceil(per_sum);
    let sums = machine.fresh(blocks.into(), DType::F64, x.device())?;
    let launch = Launch::of_blocks(Source::Sums, "squares", x.dtype(), blocks)?;
    let launch = launch.with_count(count).with_count(per_sum);
    run(machine, &launch, &[Memory::Read(&x), Memory::Write(&sums)])?;
    Ok(sums.to_vec1::<f64>()?.iter().sum())
}
