//! Affine maps, alone and followed by GELU.

use crate::gelu::Gelu;
use crate::shape::{expect_vector, matrix, rows_and_width};
use crate::{Kernels, composed};
use candle_core::{Result, Tensor, bail};

impl Kernels {
    /// `x · weightᵀ + bias` over the last dimension.
    ///
    /// The gradient of a weight (or of `x`, or of the bias) that is not tracked is not computed by the fused path.
    ///
    /// # Shapes
    /// `x` (..., in), `weight` (out, in), `bias` (out); returns (..., out).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        check("linear", x, weight, bias)?;
        composed::linear(x, weight, bias)
    }

    /// [`Kernels::linear`] followed by [`Kernels::gelu`].
    ///
    /// # Shapes
    /// As [`Kernels::linear`].
    ///
    /// # Errors
    /// As [`Kernels::linear`].
    pub fn linear_gelu(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        kind: Gelu,
    ) -> Result<Tensor> {
        check("linear_gelu", x, weight, bias)?;
        composed::gelu(&composed::linear(x, weight, bias)?, kind)
    }
}

fn check(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (_, width) = rows_and_width(op, x)?;
    let (outputs, inputs) = matrix(op, "weight", weight)?;
    if inputs != width {
        bail!("{op}: expected weight of shape [{outputs}, {width}], came [{outputs}, {inputs}]")
    }
    bias.map_or(Ok(()), |bias| expect_vector(op, "bias", bias, outputs))
}
