//! Launches of the kernels in `cuda/`: which kernel, over how many blocks, on which memory.
//!
//! This code knows a [`Machine`] but no GPU, so tests run all of it on a build of the same sources
//! for the CPU. Matrix products are candle's, which are cuBLAS's on a GPU.

mod attention;
mod elementwise;
mod embedding;
mod launch;
mod launcher;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod sketch;
mod sums;

pub use crate::rotary::rotate_on as rotate;
pub use attention::{attention, attention_gradient};
pub(crate) use elementwise::turn;
pub use elementwise::{
    add_in_place, add_scaled, dropout, gelu, gelu_gradient, scaled, swiglu, swiglu_gradient,
};
pub use embedding::embedding_gradient;
use launch::Grid;
pub use launch::{KernelFile, Launch, Number};
pub use launcher::Launcher;
pub use linear::{linear, linear_input_gradient, linear_then_gelu, linear_weight_gradient};
pub use loss::{cross_entropy, cross_entropy_sum};
pub use norm::{layer_norm, layer_norm_gradients, rms_norm, rms_norm_gradients};
pub use optimizer::adamw;
pub use sketch::sketch;
pub use sums::{row_sum, squared_norms};

use crate::host;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

/// A machine that runs launches.
pub trait Machine {
    /// A tensor whose elements are undefined until a kernel writes them.
    ///
    /// # Errors
    /// When the device has too little memory.
    fn fresh(&self, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor>;

    /// Runs `launch` on contiguous tensors. A tensor that is written shares its storage with no
    /// other one. The kernel's parameters are `memory`, then the launch's numbers.
    ///
    /// # Errors
    /// When the machine cannot run it.
    fn run(&self, launch: &Launch, memory: &[Memory<'_>]) -> Result<()>;
}

/// A tensor that a kernel is given.
#[derive(Clone, Copy, Debug)]
pub enum Memory<'a> {
    /// To read.
    Read(&'a Tensor),
    /// To write, and in some kernels also to read.
    Write(&'a Tensor),
}

impl<'a> Memory<'a> {
    /// The tensor.
    #[must_use]
    pub fn tensor(self) -> &'a Tensor {
        match self {
            Memory::Read(tensor) | Memory::Write(tensor) => tensor,
        }
    }
}

/// Runs a launch, after the checks that [`Machine::run`] relies on.
fn run(machine: &dyn Machine, launch: &Launch, memory: &[Memory<'_>]) -> Result<()> {
    for (at, one) in memory.iter().enumerate() {
        if !one.tensor().is_contiguous() {
            let stride = one.tensor().stride();
            bail!(
                "{}: expected contiguous tensors, got strides {stride:?} of tensor {at}",
                launch.kernel
            )
        }

        if let Memory::Write(written) = one {
            let others = memory.iter().enumerate().filter(|&(other, _)| other != at);
            let others: Vec<&Tensor> = others.map(|(_, other)| other.tensor()).collect();
            host::expect_apart(&launch.kernel, written, &others)?;
        }
    }

    machine.run(launch, memory)
}

/// The result, after a launch that reads `inputs` and writes it.
fn written(
    machine: &dyn Machine,
    launch: &Launch,
    inputs: &[&Tensor],
    result: Tensor,
) -> Result<Tensor> {
    let mut memory: Vec<Memory<'_>> = inputs.iter().map(|input| Memory::Read(input)).collect();
    memory.push(Memory::Write(&result));
    run(machine, launch, &memory)?;
    Ok(result)
}

/// The tensors without what candle records of them, contiguous.
fn plain<const N: usize>(tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
    let mut plain = tensors.map(Tensor::detach);
    for tensor in &mut plain {
        *tensor = tensor.contiguous()?;
    }
    Ok(plain)
}

/// A fresh tensor on the device of `like`, with its dtype.
fn fresh(machine: &dyn Machine, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    machine.fresh(shape.into(), like.dtype(), like.device())
}

/// A fresh tensor of f32 on the device of `like`.
fn fresh_f32(machine: &dyn Machine, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    machine.fresh(shape.into(), DType::F32, like.device())
}
