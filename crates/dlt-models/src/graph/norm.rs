//! Layer norm and root-mean-square norm.

use candle_core::Tensor;

use super::operation::{
    Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, SavedValues,
};
use crate::Result;

/// Layer norm over the last dimension, with the numbers of its parameters. Its result is computed
/// again from its input.
#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) weight: usize,
    pub(super) bias: usize,
    pub(super) epsilon: f64,
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
pub(super) struct RmsNorm {
    pub(super) weight: usize,
    pub(super) epsilon: f64,
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
