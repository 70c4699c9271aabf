//! Normalisations.

use super::sums::{Groups, combine};
use super::{
    Grid, KernelFile, Launch, Machine, Memory, Number, fresh, fresh_f32, plain, run, written,
};
use candle_core::{DType, Result, Tensor};

/// Layer norm of the rows of x.
pub fn layer_norm(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    forward(machine, "layer_norm", [x, weight, bias], epsilon)
}

/// Root-mean-square norm of the rows of x.
pub fn rms_norm(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    forward(machine, "rms_norm", [x, weight], epsilon)
}

/// The inputs are x, a weight of its width, and what else the kernel reads.
fn forward<const N: usize>(
    machine: &dyn Machine,
    kernel: &str,
    inputs: [&Tensor; N],
    epsilon: f64,
) -> Result<Tensor> {
    let inputs = plain(inputs)?;
    let x = &inputs[0];
    let width = inputs[1].elem_count();
    let y = fresh(machine, x.shape(), x)?;
    let launch = of_rows(kernel, x.dtype(), x.elem_count() / width, width, epsilon)?;
    written(machine, &launch, &inputs.each_ref(), y)
}

fn of_rows(kernel: &str, dtype: DType, rows: usize, width: usize, epsilon: f64) -> Result<Launch> {
    let launch = Launch::new(KernelFile::Norm, kernel, dtype, Grid::Rows { rows, width })?;
    Ok(launch.with_sizes([width])?.with([Number::F32(epsilon as f32)]))
}

/// Gradients of x, weight and bias.
pub fn layer_norm_gradients(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    gradients(machine, "layer_norm_gradient", x, weight, epsilon, gradient)
}

/// Gradients of x and weight.
pub fn rms_norm_gradients(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    // The third gradient is that of a bias, which this norm does not have: a plain sum at almost no
    // cost.
    let [of_x, of_weight, _] =
        gradients(machine, "rms_norm_gradient", x, weight, epsilon, gradient)?;
    Ok([of_x, of_weight])
}

fn gradients(
    machine: &dyn Machine,
    kernel: &str,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let width = weight.elem_count();
    let rows = x.elem_count() / width;
    let [x, weight, gradient] = plain([x, weight, gradient])?;
    let dx = fresh(machine, x.shape(), &x)?;
    let moments = fresh_f32(machine, (rows, 2), &x)?;

    // First the gradient of x, a block for each row. It leaves the rows' moments for the sums.
    let read = [Memory::Read(&x), Memory::Read(&weight), Memory::Read(&gradient)];
    let made = [Memory::Write(&dx), Memory::Write(&moments)];
    run(machine, &of_rows(kernel, x.dtype(), rows, width, epsilon)?, &[&read[..], &made].concat())?;

    // Then the gradients of weight and bias, a thread for each column of each group of rows.
    let groups = Groups::of(rows);
    let partial = fresh_f32(machine, (groups.count, 2 * width), &x)?;
    let grid = Grid::Columns { width, groups: groups.count };
    let launch = Launch::new(KernelFile::Norm, "norm_sums", x.dtype(), grid)?;
    let launch = launch.with_sizes([rows, width, groups.rows])?;
    let partial = written(machine, &launch, &[&x, &gradient, &moments], partial)?;
    let sums = combine(machine, partial)?;

    // Copies, because later gradients are added to them, and what is written must not share memory.
    Ok([dx, sums.narrow(0, 0, width)?.copy()?, sums.narrow(0, width, width)?.copy()?])
}
