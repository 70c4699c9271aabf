//! The CUDA kernels and everything that launches them, on the CPU. A C++ compiler builds the same
//! sources; the results are compared with the composed reference in f64 and with the loops of
//! `Kernels::Fused`.

mod attention;
mod elementwise;
mod loss;
mod machine;
mod norm;
mod optimizer;
mod sketch;

pub(crate) use machine::Host;

use crate::reference::*;
use candle_core::{DType, Tensor};

/// bf16 has 8 bits. A result is off by half of the last one, and intermediate rounding adds to
/// that.
const BF16_TOLERANCE: f64 = 8e-3;

/// The dtypes of activations, and how far their results may be off.
const ACTIVATIONS: [(DType, f64); 2] = [(DType::F32, F32_TOLERANCE), (DType::BF16, BF16_TOLERANCE)];

/// Numbers that the dtype represents exactly, so that only the result is rounded.
fn held(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    noise(shape, seed).to_dtype(dtype).unwrap()
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}
