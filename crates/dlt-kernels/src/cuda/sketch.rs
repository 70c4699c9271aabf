//! Sketches, in two stages with the fixed order of the loops on the CPU, so the bits are the same.

use super::{Grid, KernelFile, Launch, Machine, Memory, Number, fresh_f32, plain, run, written};
use crate::sketch::{PART, SKETCH_WIDTH, Stream};
use candle_core::{DType, Result, Tensor};

/// The sketch of one tensor or more, all on one device.
pub fn sketch(machine: &dyn Machine, tensors: &[&Tensor], seed: u64) -> Result<Tensor> {
    let device = tensors[0].device();
    let all: usize = tensors.iter().map(|x| x.elem_count().div_ceil(PART)).sum();
    if all == 0 {
        return Tensor::zeros(SKETCH_WIDTH, DType::F64, device);
    }

    let sums = fresh_f32(machine, (all, SKETCH_WIDTH), tensors[0])?;
    let mut start = 0;

    for (number, x) in tensors.iter().enumerate().filter(|(_, x)| x.elem_count() > 0) {
        let [x] = plain([x])?;
        let parts = x.elem_count().div_ceil(PART);
        let grid = Grid::Elements(parts * SKETCH_WIDTH);
        let launch = Launch::new(KernelFile::Sketch, "sketch_parts", x.dtype(), grid)?;
        let launch =
            launch.with([Number::U64(Stream::of(seed, number).key())]).with_count(x.elem_count());

        let launch = launch.with_sizes([PART / SKETCH_WIDTH])?;
        let into = sums.narrow(0, start, parts)?;
        run(machine, &launch, &[Memory::Read(&x), Memory::Write(&into)])?;
        start += parts;
    }

    let sketch = machine.fresh(SKETCH_WIDTH.into(), DType::F64, device)?;
    let grid = Grid::Elements(SKETCH_WIDTH);
    let launch = Launch::new(KernelFile::Sketch, "sketch_sum", DType::F32, grid)?;
    let launch = launch.with_sizes([all])?;

    written(machine, &launch, &[&sums], sketch)
}
