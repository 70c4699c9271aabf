//! AdamW.

use super::{Grid, KernelFile, Launch, Machine, Memory, Number, plain, run};
use crate::optimizer::{AdamwStep, Factors};
use candle_core::{Result, Tensor};

/// One step, in place: parameter and moments are f32, the gradient is f32 or bf16.
pub fn adamw(
    machine: &dyn Machine,
    parameter: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    step: &AdamwStep,
) -> Result<()> {
    let [gradient] = plain([gradient])?;
    let count = gradient.elem_count();
    let grid = Grid::Elements(count);
    let launch = Launch::new(KernelFile::Optimizer, "adamw", gradient.dtype(), grid)?;
    let launch = launch.with_count(count).with(Factors::new(step).to_array().map(Number::F32));
    let written = [parameter, first, second].map(Memory::Write);

    run(machine, &launch, &[&written[..], &[Memory::Read(&gradient)]].concat())
}
