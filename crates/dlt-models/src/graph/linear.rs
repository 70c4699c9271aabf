//! Affine maps.

use candle_core::Tensor;
use dlt_kernels::{Gelu, Weight};

use super::operation::{
    Backward, Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, Trained,
};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// `x · weightᵀ + bias`, or without a bias.
    ///
    /// # Shapes
    /// `x` (..., in); result (..., out).
    ///
    /// # Errors
    /// [`ModelError::Weight`](crate::ModelError::Weight) for a name that the layout lacks.
    pub fn linear<'a>(
        &mut self,
        x: Node,
        weight: &str,
        bias: impl Into<Option<&'a str>>,
    ) -> Result<Node> {
        let (affine, shape) = self.affine(x, weight, bias.into())?;
        Ok(self.push(affine, &[x], shape))
    }

    /// [`linear`](Self::linear) followed by GELU.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn linear_gelu<'a>(
        &mut self,
        x: Node,
        weight: &str,
        bias: impl Into<Option<&'a str>>,
        kind: Gelu,
    ) -> Result<Node> {
        let (affine, shape) = self.affine(x, weight, bias.into())?;
        let elements = shape.iter().product();
        Ok(self.push(LinearGelu { affine, kind, elements }, &[x], shape))
    }

    /// The operation with the numbers of its parameters, and the shape of its result.
    fn affine(&self, x: Node, weight: &str, bias: Option<&str>) -> Result<(Linear, Vec<usize>)> {
        let weight = self.layout.number(weight)?;
        let bias = bias.map(|bias| self.layout.number(bias)).transpose()?;
        let mut shape = self.shape(x).to_vec();

        if let Some(last) = shape.last_mut() {
            *last = self.layout.entries()[weight].shape[0];
        }

        Ok((Linear { weight, bias }, shape))
    }
}

/// `x · weightᵀ + bias`, with the numbers of its parameters.
#[derive(Debug)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
}

impl Linear {
    fn parameters<'a>(&self, call: &'a Call<'_>) -> Result<(Weight<'a>, Option<&'a Tensor>)> {
        let bias = self.bias.map(|bias| call.parameter(bias)).transpose()?;
        Ok((call.weight(self.weight)?, bias))
    }

    fn gradients(
        &self,
        call: &Call<'_>,
        gradient: &Tensor,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        // Added to the sums in place: there is never a second buffer of the weight's size.
        if let Some(into) = into {
            if call.trained.has(self.weight) {
                call.kernels.linear_weight_gradient(
                    call.input(0)?,
                    gradient,
                    &mut into[self.weight],
                )?;
            }

            if let Some(bias) = self.bias.filter(|&bias| call.trained.has(bias)) {
                call.kernels.linear_bias_gradient(gradient, &mut into[bias])?;
            }
        }

        // Nothing reads the gradient of pixels.
        if call.is_data(0) {
            return Ok(Vec::new());
        }

        Ok(vec![call.kernels.linear_input_gradient(call.weight(self.weight)?, gradient)?])
    }
}

impl Operation for Linear {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let (weight, bias) = self.parameters(call)?;
        Ok(call.kernels.linear(call.input(0)?, weight, bias)?.into())
    }

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        self.gradients(&back.call, back.gradient, into)
    }

    fn reads(&self, trained: Trained<'_>) -> Reads {
        Reads { inputs: trained.has(self.weight), ..Reads::default() }
    }

    fn widens(&self) -> bool {
        true
    }
}

/// [`Linear`] followed by GELU. It saves what GELU is applied to, and computes its result from that
/// again: GELU is cheap, the product is not.
#[derive(Debug)]
struct LinearGelu {
    affine: Linear,
    kind: Gelu,
    /// Number of elements of the result.
    elements: usize,
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

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let gradient = back.call.kernels.gelu_gradient(back.saved()?, self.kind, back.gradient)?;
        self.affine.gradients(&back.call, &gradient, into)
    }

    fn reads(&self, trained: Trained<'_>) -> Reads {
        Reads { inputs: trained.has(self.affine.weight), saved: true, result: false }
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

    fn widens(&self) -> bool {
        true
    }
}
