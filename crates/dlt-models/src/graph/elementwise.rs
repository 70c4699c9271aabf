//! Sums and dropout.

use candle_core::Tensor;

use super::operation::{Call, Kept, Operation, Outcome, Reads, Sums};
use crate::Result;

/// `a + b`.
#[derive(Debug)]
pub(super) struct Add;

impl Operation for Add {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        Ok(call.kernels.add(call.input(0)?, call.input(1)?)?.into())
    }

    fn backward(&self, _call: &Call<'_>, kept: &Kept<'_>, _into: Sums<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![kept.gradient.clone(), kept.gradient.clone()])
    }

    fn reads(&self, _trains: bool) -> Reads {
        Reads::default()
    }
}

/// Dropout, where the pass has one: its own backward pass, by the same mask.
#[derive(Debug)]
pub(super) struct Drop {
    pub(super) site: usize,
}

impl Drop {
    fn apply(&self, call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
        let windows = x.dims().first().copied().unwrap_or(1).max(1);
        match call.dropout_at(self.site, x.elem_count() / windows) {
            Some(dropout) => Ok(call.kernels.dropout(&x.detach(), dropout)?),
            None => Ok(x.clone()),
        }
    }
}

impl Operation for Drop {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        Ok(self.apply(call, call.input(0)?)?.into())
    }

    fn backward(&self, call: &Call<'_>, kept: &Kept<'_>, _into: Sums<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![self.apply(call, kept.gradient)?])
    }

    fn reads(&self, _trains: bool) -> Reads {
        Reads::default()
    }
}
