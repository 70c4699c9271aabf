//! Attention.

use candle_core::Tensor;
use dlt_kernels::{Dropout, Mask};

use super::operation::{Call, Kept, Operation, Outcome, Reads, Sums};
use crate::Result;

/// Attention over queries, keys and values side by side. The sums of its softmax are saved, two numbers for
/// each row of scores.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) mask: Mask,
    pub(super) site: usize,
}

impl Attention {
    fn dropout(&self, call: &Call<'_>, qkv: &Tensor) -> Result<Option<Dropout>> {
        let tokens = qkv.dim(1)?;
        Ok(call.dropout_at(self.site, self.heads * tokens * tokens))
    }
}

impl Operation for Attention {
    fn forward(&self, call: &Call<'_>, saving: bool) -> Result<Outcome> {
        let qkv = call.input(0)?;
        let dropout = self.dropout(call, qkv)?;
        if !saving {
            return Ok(call.kernels.attention(qkv, self.heads, self.mask, dropout)?.into());
        }
        let [value, sums] = call.kernels.attention_and_sums(qkv, self.heads, self.mask, dropout)?;
        Ok(Outcome { value, saved: Some(sums) })
    }

    fn backward(&self, call: &Call<'_>, kept: &Kept<'_>, _into: Sums<'_>) -> Result<Vec<Tensor>> {
        let qkv = call.input(0)?;
        let (dropout, forward) = (self.dropout(call, qkv)?, [kept.result()?, kept.saved()?]);
        let kernels = call.kernels;
        let gradient =
            kernels.attention_gradient(qkv, forward, self.heads, self.mask, dropout, kept.gradient)?;
        Ok(vec![gradient])
    }

    fn reads(&self, _trains: bool) -> Reads {
        Reads { inputs: true, result: true, saved: true }
    }

    fn saved_elements(&self, input: &[usize]) -> usize {
        2 * input[0] * self.heads * input[1]
    }
}
