//! Affine maps.

use candle_core::Tensor;
use dlt_kernels::Gelu;

use super::operation::{
    Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, SavedValues,
};
use crate::Result;

/// `x · weightᵀ + bias`, with the numbers of its parameters.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
}

impl Linear {
    fn parameters<'a>(&self, call: &'a Call<'_>) -> Result<(&'a Tensor, Option<&'a Tensor>)> {
        let bias = self.bias.map(|bias| call.parameter(bias)).transpose()?;
        Ok((call.parameter(self.weight)?, bias))
    }

    fn gradients(
        &self,
        call: &Call<'_>,
        gradient: &Tensor,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        // Added to the sums in place: there is never a second buffer of the weight's size.
        if let Some(into) = into {
            call.kernels.linear_weight_gradient(
                call.input(0)?,
                gradient,
                &mut into[self.weight],
            )?;

            if let Some(bias) = self.bias {
                call.kernels.linear_bias_gradient(gradient, &mut into[bias])?;
            }
        }

        // Nothing reads the gradient of pixels.
        if call.is_data(0) {
            return Ok(Vec::new());
        }

        Ok(vec![call.kernels.linear_input_gradient(call.parameter(self.weight)?, gradient)?])
    }
}

impl Operation for Linear {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let (weight, bias) = self.parameters(call)?;
        Ok(call.kernels.linear(call.input(0)?, weight, bias)?.into())
    }

    fn backward(
        &self,
        call: &Call<'_>,
        values: &SavedValues<'_>,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        self.gradients(call, values.gradient, into)
    }

    fn reads(&self, trains: bool) -> Reads {
        Reads { inputs: trains, ..Reads::default() }
    }
}

/// [`Linear`] followed by GELU. It saves what GELU is applied to, and computes its result from that
/// again: GELU is cheap, the product is not.
#[derive(Debug)]
pub(super) struct LinearGelu {
    pub(super) affine: Linear,
    pub(super) kind: Gelu,
    /// Number of elements of the result.
    pub(super) elements: usize,
}

impl Operation for LinearGelu {
    fn forward(&self, call: &Call<'_>, saving: bool) -> Result<Outcome> {
        let (weight, bias) = self.affine.parameters(call)?;
        if !saving {
            return Ok(call.kernels.linear_gelu(call.input(0)?, weight, bias, self.kind)?.into());
        }

        let [before, value] =
            call.kernels.linear_then_gelu(call.input(0)?, weight, bias, self.kind)?;
        Ok(Outcome { value, saved: Some(before) })
    }

    fn backward(
        &self,
        call: &Call<'_>,
        values: &SavedValues<'_>,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        let gradient = call.kernels.gelu_gradient(values.saved()?, self.kind, values.gradient)?;
        self.affine.gradients(call, &gradient, into)
    }

    fn reads(&self, trains: bool) -> Reads {
        Reads { inputs: trains, saved: true, result: false }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Saved
    }

    fn recompute(&self, call: &Call<'_>, saved: &Tensor) -> Result<Tensor> {
        Ok(call.kernels.gelu(saved, self.kind)?)
    }

    fn saved_bytes(&self, _input: &[usize], activation: usize) -> usize {
        self.elements * activation
    }
}
