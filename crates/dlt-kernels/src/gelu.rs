//! The Gaussian error linear unit in both of its forms.

use crate::shape::rows_and_width;
use crate::{Kernels, composed};
use candle_core::{Result, Tensor};

/// The form of GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x/2 · (1 + tanh(sqrt(2/pi) · (x + 0.044715 x³)))`, as in GPT-2.
    Tanh,
    /// `x/2 · (1 + erf(x / sqrt(2)))`, as in BERT and ViT.
    Erf,
}

impl Kernels {
    /// GELU of every element.
    ///
    /// # Shapes
    /// `x` any non-empty shape but a scalar; returns the same.
    ///
    /// # Errors
    /// When `x` is empty or a scalar.
    pub fn gelu(self, x: &Tensor, kind: Gelu) -> Result<Tensor> {
        rows_and_width("gelu", x)?;
        composed::gelu(x, kind)
    }
}
