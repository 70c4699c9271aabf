//! Activations other than GELU.

use candle_core::{DType, Tensor};

use super::operation::{
    Backward, Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, Trained,
};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// `silu(gate) · up` of gate and up side by side.
    ///
    /// # Shapes
    /// `x` (..., 2F); result (..., F).
    pub fn swiglu(&mut self, x: Node) -> Node {
        let mut shape = self.shape(x).to_vec();
        if let Some(last) = shape.last_mut() {
            *last /= 2;
        }
        self.push(Swiglu, &[x], shape)
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: Node) -> Node {
        self.push(Tanh, &[x], self.shape(x).to_vec())
    }
}

/// `silu(gate) · up`. Its result is computed again from its input.
#[derive(Debug)]
struct Swiglu;

impl Operation for Swiglu {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        Ok(call.kernels.swiglu(call.input(0)?)?.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![back.call.kernels.swiglu_gradient(back.call.input(0)?, back.gradient)?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads { inputs: true, ..Reads::default() }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Inputs
    }
}

/// Hyperbolic tangent, on the few rows that a head reads. It is computed in f32 by candle's own
/// operations.
#[derive(Debug)]
struct Tanh;

impl Operation for Tanh {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?.detach();
        Ok(x.to_dtype(DType::F32)?.tanh()?.to_dtype(x.dtype())?.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        // tanh'(x) = 1 - tanh(x)²
        let slope = back.result()?.detach().to_dtype(DType::F32)?.sqr()?.affine(-1.0, 1.0)?;
        let gradient = back.gradient.detach();
        Ok(vec![(gradient.to_dtype(DType::F32)? * slope)?.to_dtype(gradient.dtype())?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads { result: true, ..Reads::default() }
    }

    fn widens(&self) -> bool {
        true
    }
}
