//! Layer norm and root-mean-square norm.

use candle_core::Tensor;

use super::operation::{
    Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, SavedValues,
};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// Layer norm over the last dimension.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn layer_norm(&mut self, x: Node, weight: &str, bias: &str, epsilon: f64) -> Result<Node> {
        let operation = LayerNorm {
            weight: self.layout.number(weight)?,
            bias: self.layout.number(bias)?,
            epsilon,
        };

        Ok(self.push(operation, &[x], self.shape(x).to_vec()))
    }

    /// Root-mean-square norm over the last dimension.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn rms_norm(&mut self, x: Node, weight: &str, epsilon: f64) -> Result<Node> {
        let operation = RmsNorm { weight: self.layout.number(weight)?, epsilon };
        Ok(self.push(operation, &[x], self.shape(x).to_vec()))
    }
}

/// Layer norm over the last dimension, with the numbers of its parameters. Its result is computed
/// again from its input.
#[derive(Debug)]
struct LayerNorm {
    weight: usize,
    bias: usize,
    epsilon: f64,
}

impl Operation for LayerNorm {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let weight = call.parameter(self.weight)?;
        let bias = call.parameter(self.bias)?;
        Ok(call.kernels.layer_norm(call.input(0)?, weight, bias, self.epsilon)?.into())
    }

    fn backward(
        &self,
        call: &Call<'_>,
        values: &SavedValues<'_>,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        let x = call.input(0)?;
        let weight = call.parameter(self.weight)?;

        // The kernel adds to both sums in one pass, so both are borrowed at once.
        let sums = match into {
            Some(into) => Some(into.get_disjoint_mut([self.weight, self.bias]).map_err(|_| {
                super::operation::absent("a weight and a bias apart from each other")
            })?),
            None => None,
        };

        Ok(vec![call.kernels.layer_norm_gradient(
            x,
            weight,
            self.epsilon,
            values.gradient,
            sums,
        )?])
    }

    fn reads(&self, _trains: bool) -> Reads {
        Reads { inputs: true, ..Reads::default() }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Inputs
    }
}

/// Root-mean-square norm over the last dimension, with the number of its weight. Its result is
/// computed again from its input.
#[derive(Debug)]
struct RmsNorm {
    weight: usize,
    epsilon: f64,
}

impl Operation for RmsNorm {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        Ok(call
            .kernels
            .rms_norm(call.input(0)?, call.parameter(self.weight)?, self.epsilon)?
            .into())
    }

    fn backward(
        &self,
        call: &Call<'_>,
        values: &SavedValues<'_>,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>> {
        let x = call.input(0)?;
        let weight = call.parameter(self.weight)?;
        let sum = into.map(|into| &mut into[self.weight]);
        Ok(vec![call.kernels.rms_norm_gradient(x, weight, self.epsilon, values.gradient, sum)?])
    }

    fn reads(&self, _trains: bool) -> Reads {
        Reads { inputs: true, ..Reads::default() }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Inputs
    }
}
