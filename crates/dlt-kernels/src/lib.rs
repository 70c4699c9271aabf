//! Differentiable CPU and CUDA kernels for candle, each with a composed reference.
//!
//! Every operation is a method of [`Kernels`], and so is its gradient. [`Kernels::Composed`] builds
//! it from candle's own operations. That is the definition, and it runs on every device and dtype.
//! [`Kernels::Fused`] computes the same on f32 and bf16 tensors: in main memory with hand-written
//! loops, and on a CUDA device (feature `cuda`) where the operation has a kernel there. Anywhere
//! else it silently uses the composed operations.
//!
//! What a loop or a kernel returns has no graph of candle's, so candle's autograd ends there.
//! Gradients are computed by the methods that name them. They return gradients of activations, and
//! add those of weights to sums.
//!
//! Activations may be bf16 over f32 weights. The loops on the CPU read and write bf16 and compute in
//! f32: the result is that of the same numbers in f32, rounded. Matrix products on the CPU round
//! weights to bf16 too, and have sums of f32; [`product_engine`] says what multiplies. Composed
//! operations widen whole activations to f32, and round their results. Gradients of weights, sums of
//! a softmax and losses are f32 everywhere.
//!
//! Shape letters: `B` batch, `T` tokens, `C` width, `H` heads, `G` key heads, `D = C/H` head width,
//! `V` vocabulary, `N` rows.
//!
//! Vector loops choose AVX-512, AVX2 or portable code at run time and give the same bits in each.
//! Matrix products of f32 come from the `gemm` crate, which chooses in the same way. The crate was built
//! and tested on x86-64 only.
//!
//! Results are fresh buffers of up to `B·T·4C` elements. If the allocator returns such buffers to
//! the system after each use, every pass pays for page faults. A program that trains should keep
//! them (with glibc: a large `mmap_threshold` and `trim_threshold`).
//!
//! A fused result is bit-identical from run to run for a fixed number of threads: every reduction
//! has a fixed order.

pub mod gpu;
pub mod optimizer;

mod attention;
mod choice;
mod composed;
#[doc(hidden)]
pub mod cuda;
mod dropout;
mod embedding;
mod gated;
mod gelu;
mod host;
mod lanes;
mod linear;
mod loss;
mod matrix;
mod norm;
mod normal;
mod number;
mod rms_norm;
mod rotary;
mod rounding;
mod rows;
mod scaling;
#[cfg(test)]
mod sequence;
mod shape;
mod sketch;
mod tiles;

pub use attention::{Attention, KeyValues, Mask};
pub use dropout::Dropout;
pub use gelu::Gelu;
pub use lanes::instruction_set;
#[doc(hidden)]
pub use lanes::set_portable;
pub use loss::{HeadGradients, HeadSums, Projection, cross_entropy_workspace};
pub use normal::normals;
pub use rotary::{Rotary, Stretch};
pub use sketch::SKETCH_WIDTH;
pub use tiles::{Packs, Weight, product_engine, set_product_engine};

/// Which implementation computes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Hand-written loops on the CPU, and CUDA kernels where an operation has one; the composed
    /// operations on other devices and dtypes.
    Fused,
    /// [`Kernels::Fused`], but affine maps and the head multiply f32 matrices in main memory as
    /// three products of bf16. A product is within 1.2e-5 of the sum of its terms' sizes. It is for
    /// processors with AMX.
    FusedBf16x3,
    /// candle's own operations, on any device.
    Composed,
}
