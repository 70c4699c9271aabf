//! Activations of bf16 where no kernel accepts them: an operation gets them as f32, and its results
//! are rounded.
//!
//! So every sum, statistic and probability inside an operation is f32, and so is what it adds to
//! gradients of weights.

use candle_core::{DType, Result, Tensor};

/// The same numbers in f32.
pub(crate) fn widened<const N: usize>(tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
    let mut wide = tensors.map(Tensor::clone);
    for tensor in &mut wide {
        *tensor = tensor.to_dtype(DType::F32)?;
    }
    Ok(wide)
}

/// A result as the next operation gets it.
pub(crate) fn rounded(result: &Tensor) -> Result<Tensor> {
    result.to_dtype(DType::BF16)
}
