//! Layer normalisation.

use crate::shape::{expect_vector, rows_and_width};
use crate::{Kernels, composed};
use candle_core::{Result, Tensor};

impl Kernels {
    /// `(x - mean) / sqrt(variance + epsilon) · weight + bias` over the last dimension (variance of the population).
    ///
    /// # Shapes
    /// `x` (..., C), `weight` (C), `bias` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn layer_norm(self, x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
        let (_, width) = rows_and_width("layer_norm", x)?;
        expect_vector("layer_norm", "weight", weight, width)?;
        expect_vector("layer_norm", "bias", bias, width)?;
        composed::layer_norm(x, weight, bias, epsilon)
    }
}
