//! Sums over rows, and sums of squares, in two stages with a fixed order.

use super::{Grid, KernelFile, Launch, Machine, Memory, fresh_f32, plain, run, written};
use candle_core::{DType, Result, Tensor};

/// The most partial sums over rows.
const PARTIAL_SUMS: usize = 128;
/// The fewest rows of a partial sum.
const FEWEST_ROWS: usize = 16;
/// The most partial sums of squares of a tensor. The host adds them.
const SQUARE_SUMS: usize = 1024;
/// The fewest elements of a partial sum of squares.
const FEWEST_SQUARES: usize = 16_384;

/// The division of rows among partial sums. It depends only on the number of rows, so a sum has the
/// same bits each time.
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

/// The sum of rows of `width`, (width) in f32.
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

/// Partial sums (groups, `width`) of rows of `width`.
fn stage(machine: &dyn Machine, x: &Tensor, width: usize, groups: Groups) -> Result<Tensor> {
    let sums = fresh_f32(machine, (groups.count, width), x)?;
    let grid = Grid::Columns { width, groups: groups.count };
    let launch = Launch::new(KernelFile::Sums, "column_sums", x.dtype(), grid)?;
    let launch = launch.with_sizes([x.elem_count() / width, width, groups.rows])?;
    written(machine, &launch, &[x], sums)
}

/// The sum of the squares of all elements, in f64. The tensors are on one device, and none is
/// empty. The host waits for the device once.
pub fn squared_norms(machine: &dyn Machine, tensors: &[&Tensor]) -> Result<f64> {
    let pieces = |x: &Tensor| {
        let count = x.elem_count();
        let per_sum = count.div_ceil(SQUARE_SUMS).max(FEWEST_SQUARES);
        (per_sum, count.div_ceil(per_sum))
    };

    let Some(first) = tensors.first() else { return Ok(0.0) };
    let all: usize = tensors.iter().map(|x| pieces(x).1).sum();
    let sums = machine.fresh(all.into(), DType::F64, first.device())?;
    let mut start = 0;

    for x in tensors {
        let [x] = plain([x])?;
        let (per_sum, blocks) = pieces(&x);
        let launch = Launch::new(KernelFile::Sums, "squares", x.dtype(), Grid::Blocks(blocks))?;
        let launch = launch.with_count(x.elem_count()).with_count(per_sum);

        run(machine, &launch, &[Memory::Read(&x), Memory::Write(&sums.narrow(0, start, blocks)?)])?;
        start += blocks;
    }

    // Tensor by tensor, so that a sum depends on no other tensor's size.
    let sums = sums.to_vec1::<f64>()?;
    let mut rest = sums.as_slice();
    let mut total = 0.0;

    for x in tensors {
        let (of_x, others) = rest.split_at(pieces(x).1);
        total += of_x.iter().sum::<f64>();
        rest = others;
    }

    Ok(total)
}
