//! Sums with residual branches, and dropout.

use candle_core::Tensor;

use super::operation::{Backward, Call, Operation, Outcome, ParameterSums};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// Dropout, if the pass has any.
    pub fn dropout(&mut self, x: Node) -> Node {
        let site = self.site();
        self.push(Drop { site }, &[x], self.shape(x).to_vec())
    }

    /// `x + s · branch`, of the same shape. s is the layer's factor, see
    /// [`Architecture::residual_factor`](crate::architecture::Architecture::residual_factor). A run
    /// supplies it, so that all layers have one graph.
    pub fn add_branch(&mut self, x: Node, branch: Node) -> Node {
        self.push(AddBranch, &[x, branch], self.shape(x).to_vec())
    }
}

/// `x + s · branch`, where s is the factor of the layer that runs. With a factor of 1 nothing is
/// multiplied.
#[derive(Debug)]
struct AddBranch;

impl Operation for AddBranch {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?;
        let branch = call.input(1)?;
        let sum = match call.scaling() {
            None => call.kernels.add(x, branch)?,
            Some(factor) => call.kernels.add_scaled(x, branch, factor)?,
        };

        Ok(sum.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let of_branch = match back.call.scaling() {
            None => back.gradient.clone(),
            Some(factor) => back.call.kernels.scaled(back.gradient, factor)?,
        };
        Ok(vec![back.gradient.clone(), of_branch])
    }
}

/// Dropout, if the pass has any. Its backward pass is the same operation on the gradient: the mask
/// is a function of seed, site and window, so it is made again and not kept.
#[derive(Debug)]
struct Drop {
    site: usize,
}

impl Drop {
    fn apply(&self, call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
        // Masks are drawn by window, so that pieces of a batch get the masks of the whole batch.
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

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![self.apply(&back.call, back.gradient)?])
    }
}
