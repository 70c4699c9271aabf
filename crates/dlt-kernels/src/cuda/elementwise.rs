//! Operations on each element by itself.

use super::{Grid, KernelFile, Launch, Machine, Memory, Number, fresh, plain, run, written};
use crate::gated::halved;
use crate::rotary::Turns;
use crate::{Dropout, Gelu};
use candle_core::{DType, Result, Tensor};

fn of_elements(kernel: &str, dtype: DType, count: usize) -> Result<Launch> {
    let grid = Grid::Elements(count);
    Ok(Launch::new(KernelFile::Elementwise, kernel, dtype, grid)?.with_count(count))
}

fn form(kind: Gelu) -> &'static str {
    match kind {
        Gelu::Tanh => "tanh",
        Gelu::Erf => "erf",
    }
}

/// A result of the shape of all inputs, by a kernel that gets these numbers.
fn mapped<const N: usize>(
    machine: &dyn Machine,
    kernel: &str,
    inputs: [&Tensor; N],
    numbers: impl IntoIterator<Item = Number>,
) -> Result<Tensor> {
    let inputs = plain(inputs)?;
    let x = &inputs[0];
    let y = fresh(machine, x.shape(), x)?;
    let launch = of_elements(kernel, x.dtype(), x.elem_count())?.with(numbers);
    written(machine, &launch, &inputs.each_ref(), y)
}

/// GELU of x.
pub fn gelu(machine: &dyn Machine, x: &Tensor, kind: Gelu) -> Result<Tensor> {
    mapped(machine, &format!("gelu_{}", form(kind)), [x], [])
}

/// Gradient of x.
pub fn gelu_gradient(
    machine: &dyn Machine,
    x: &Tensor,
    kind: Gelu,
    gradient: &Tensor,
) -> Result<Tensor> {
    mapped(machine, &format!("gelu_gradient_{}", form(kind)), [x, gradient], [])
}

/// Adds the bias to each row of x, in place.
pub(super) fn add_bias(machine: &dyn Machine, x: &Tensor, bias: &Tensor) -> Result<()> {
    let [bias] = plain([bias])?;
    let launch =
        of_elements("add_bias", x.dtype(), x.elem_count())?.with_sizes([bias.elem_count()])?;
    run(machine, &launch, &[Memory::Write(x), Memory::Read(&bias)])
}

/// Adds the bias to each row of x, in place, and returns GELU of the result.
pub(super) fn bias_gelu(
    machine: &dyn Machine,
    x: &Tensor,
    bias: &Tensor,
    kind: Gelu,
) -> Result<Tensor> {
    let [bias] = plain([bias])?;
    let y = fresh(machine, x.shape(), x)?;
    let launch = of_elements(&format!("bias_gelu_{}", form(kind)), x.dtype(), x.elem_count())?;
    let launch = launch.with_sizes([bias.elem_count()])?;

    run(machine, &launch, &[Memory::Write(x), Memory::Read(&bias), Memory::Write(&y)])?;
    Ok(y)
}

/// The gated unit (..., F) of x (..., 2F), where `half` is F.
pub fn swiglu(machine: &dyn Machine, x: &Tensor, half: usize) -> Result<Tensor> {
    let [x] = plain([x])?;
    let y = fresh(machine, halved(x.dims(), half), &x)?;
    let launch = of_elements("swiglu", x.dtype(), y.elem_count())?.with_sizes([half])?;
    written(machine, &launch, &[&x], y)
}

/// Gradient of x (..., 2F), from that of the result (..., F).
pub fn swiglu_gradient(
    machine: &dyn Machine,
    x: &Tensor,
    half: usize,
    gradient: &Tensor,
) -> Result<Tensor> {
    let [x, gradient] = plain([x, gradient])?;
    let dx = fresh(machine, x.shape(), &x)?;
    let launch =
        of_elements("swiglu_gradient", x.dtype(), gradient.elem_count())?.with_sizes([half])?;

    written(machine, &launch, &[&x, &gradient], dx)
}

/// The turn of every row of x.
pub(crate) fn turn(machine: &dyn Machine, x: &Tensor, turns: &Turns) -> Result<Tensor> {
    let [x] = plain([x])?;
    let y = fresh(machine, x.shape(), &x)?;
    let &Turns { batch, tokens, width, heads, half, .. } = turns;

    let table = |numbers: &[f32]| Tensor::from_slice(numbers, numbers.len(), x.device());
    let [cosines, sines] = turns.tables();
    let cosines = table(cosines)?;
    let sines = table(sines)?;
    let blocks = (0..batch).map(|window| turns.block(window) as u32).collect();
    let blocks = Tensor::from_vec(blocks, batch, x.device())?;

    let launch = of_elements("rotate", x.dtype(), x.elem_count())?;
    let launch = launch.with_sizes([tokens, width, 2 * heads * half, half])?;
    written(machine, &launch, &[&x, &cosines, &sines, &blocks], y)
}

/// x after dropout.
pub fn dropout(machine: &dyn Machine, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    mapped(machine, "dropout", [x], dropout_numbers(Some(dropout)))
}

/// A kernel's parameters for dropout: the offset, and the four numbers of a stream.
pub(super) fn dropout_numbers(dropout: Option<Dropout>) -> [Number; 5] {
    // A threshold of zero keeps everything.
    let ([first, second], threshold, scale) = dropout.map_or(([0, 0], 0, 1.0), |dropout| {
        (dropout.keys().into(), dropout.threshold(), dropout.scale())
    });
    [
        Number::U64(dropout.map_or(0, |dropout| dropout.offset)),
        Number::U32(first),
        Number::U32(second),
        Number::U32(threshold),
        Number::F32(scale),
    ]
}

/// `factor · x`.
pub fn scaled(machine: &dyn Machine, x: &Tensor, factor: f32) -> Result<Tensor> {
    mapped(machine, "scaled", [x], [Number::F32(factor)])
}

/// `a + factor · b`.
pub fn add_scaled(machine: &dyn Machine, a: &Tensor, b: &Tensor, factor: f32) -> Result<Tensor> {
    mapped(machine, "add_scaled", [a, b], [Number::F32(factor)])
}

/// `into += term`, where `into` is f32.
pub fn add_in_place(machine: &dyn Machine, into: &Tensor, term: &Tensor) -> Result<()> {
    let [term] = plain([term])?;
    let launch = of_elements("add_in_place", term.dtype(), term.elem_count())?;
    run(machine, &launch, &[Memory::Write(into), Memory::Read(&term)])
}

/// `into += term`, in f32; where `into` is `None`, it becomes the term.
pub(super) fn add_or_set(
    machine: &dyn Machine,
    into: &mut Option<Tensor>,
    term: &Tensor,
) -> Result<()> {
    match into {
        Some(into) => add_in_place(machine, into, term)?,
        None => *into = Some(term.detach().to_dtype(DType::F32)?),
    }
    Ok(())
}
