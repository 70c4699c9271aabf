//! Affine maps: candle's matrix product, then kernels of this crate.

use super::Machine;
use super::elementwise::{add_bias, add_or_set, bias_gelu, gelu};
use crate::Gelu;
use crate::linear::{definition, input_gradient};
use candle_core::{D, Result, Tensor};

/// `x · weightᵀ + bias`.
pub fn linear(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let y = product(x, weight)?;
    if let Some(bias) = bias {
        add_bias(machine, &y, bias)?;
    }
    Ok(y)
}

/// [`linear`], and GELU of its result.
pub fn linear_then_gelu(
    machine: &dyn Machine,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    kind: Gelu,
) -> Result<[Tensor; 2]> {
    let before = product(x, weight)?;
    if let Some(bias) = bias {
        let after = bias_gelu(machine, &before, bias, kind)?;
        return Ok([before, after]);
    }

    let after = gelu(machine, &before, kind)?;
    Ok([before, after])
}

/// `x · weightᵀ` in the dtype of the activations, to which the f32 weight is rounded.
fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    definition(&x.detach(), &weight.detach().to_dtype(x.dtype())?, None)
}

/// Gradient of x.
pub fn linear_input_gradient(weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    input_gradient(&weight.detach().to_dtype(gradient.dtype())?, gradient)
}

/// Adds the gradient of the weight to `into`, in f32; where `into` is `None`, it becomes the
/// gradient.
pub fn linear_weight_gradient(
    machine: &dyn Machine,
    x: &Tensor,
    gradient: &Tensor,
    into: &mut Option<Tensor>,
) -> Result<()> {
    let flat = |tensor: &Tensor| tensor.detach().contiguous()?.flatten_to(D::Minus2);
    // (out, N) x (N, in): cuBLAS reads the transposed matrix in place, so it is not copied.
    let term = flat(gradient)?.t()?.matmul(&flat(x)?)?;
    add_or_set(machine, into, &term)
}
