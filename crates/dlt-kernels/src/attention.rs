//! Scaled dot-product attention over all heads.

use crate::{Dropout, Kernels, composed};
use candle_core::{Result, Tensor, bail};

/// Which positions a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and everything before it.
    Causal,
    /// Every position.
    Full,
}

impl Kernels {
    /// `softmax(q kᵀ / sqrt(D)) v` for each head.
    ///
    /// The fused path keeps one log-sum-exp for each row and computes the probabilities again in the backward pass:
    /// no T x T matrix for all heads exists at any time. Element (b, h, i, j) of the probabilities takes number
    /// `((b H + h) T + i) T + j` of the dropout stream.
    ///
    /// # Shapes
    /// `qkv` (B, T, 3C): queries, keys, values, each (H, D); returns (B, T, C).
    ///
    /// # Errors
    /// When `qkv` is empty or not of rank 3, or its width is not a multiple of three times `heads`, or the dropout
    /// probability is not in [0, 1).
    pub fn attention(
        self,
        qkv: &Tensor,
        heads: usize,
        mask: Mask,
        dropout: Option<Dropout>,
    ) -> Result<Tensor> {
        let (batch, tokens, width) = match qkv.dims() {
            &[b, t, w] => (b, t, w),
            other => bail!("attention: expected qkv of shape [batch, tokens, 3 x width], came {other:?}"),
        };
        if heads == 0 || width % (3 * heads) != 0 {
            bail!(
                "attention: expected a last dimension that is a multiple of 3 x {heads} heads, came {width}"
            )
        }
        if batch * tokens * width == 0 {
            bail!("attention: expected a non-empty qkv, came shape {:?}", qkv.dims())
        }
        if let Some(dropout) = dropout {
            dropout.check()?;
        }
        composed::attention(qkv, heads, mask, dropout)
    }
}
