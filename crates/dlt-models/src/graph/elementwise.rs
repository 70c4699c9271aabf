//! Sums with residual branches, their gains, and dropout.

use candle_core::{D, DType, Tensor};

use super::operation::{Backward, Call, Operation, Outcome, ParameterSums, Reads, Trained};
use super::{Graph, Node};
use crate::Result;
use crate::division::Half;

impl Graph {
    /// Dropout, if the pass has any.
    pub fn dropout(&mut self, x: Node) -> Node {
        let site = self.site();
        self.push(Drop { site }, &[x], self.shape(x).to_vec())
    }

    /// `x + s · branch`, of the same shape. s is the layer's factor, see
    /// [`Architecture::residual_factor`](crate::architecture::Architecture::residual_factor). A run
    /// supplies it, so that all layers have one graph. If layers have gains of their own
    /// ([`Half::scale`]), the branch is first multiplied by that of its half.
    ///
    /// # Errors
    /// Fails for a name that the layout lacks, which this rules out.
    pub fn add_branch(&mut self, x: Node, branch: Node, half: Half) -> Result<Node> {
        let has_gain = self.layout.entries().iter().any(|entry| entry.name == half.scale());
        let branch = if has_gain {
            let gain = self.layout.number(half.scale())?;
            self.push(Gain { gain }, &[branch], self.shape(branch).to_vec())
        } else {
            branch
        };

        Ok(self.push(AddBranch, &[x, branch], self.shape(x).to_vec()))
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

/// `gain ⊙ x`, with the number of a parameter of one gain for each channel. It is computed in f32 by
/// candle's own operations.
#[derive(Debug)]
struct Gain {
    gain: usize,
}

impl Gain {
    /// `gain ⊙ x`, in the format of `x`.
    fn multiplied(&self, call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
        let gain = call.parameter(self.gain)?.detach();
        let wide = x.detach().to_dtype(DType::F32)?;
        Ok(wide.broadcast_mul(&gain)?.to_dtype(x.dtype())?)
    }
}

impl Operation for Gain {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        Ok(self.multiplied(call, call.input(0)?)?.into())
    }

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        if let Some(into) = into.filter(|_| back.call.trained.has(self.gain)) {
            // (B, T, C) -> (N, C) -> (C)
            let wide = |x: &Tensor| x.detach().to_dtype(DType::F32)?.flatten_to(D::Minus2);
            let products = (wide(back.call.input(0)?)? * wide(back.gradient)?)?;
            let gradient = products.sum(0)?;

            into[self.gain] = Some(match into[self.gain].take() {
                Some(sum) => back.call.kernels.add(&sum, &gradient)?,
                None => gradient,
            });
        }

        Ok(vec![self.multiplied(&back.call, back.gradient)?])
    }

    fn reads(&self, trained: Trained<'_>) -> Reads {
        Reads { inputs: trained.has(self.gain), ..Reads::default() }
    }

    /// The product that is summed over rows, in f32.
    fn working_bytes(&self, input: &[usize], _activation: usize) -> usize {
        size_of::<f32>() * input.iter().product::<usize>()
    }

    fn widens(&self) -> bool {
        true
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
