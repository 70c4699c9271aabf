//! Layer norm and root-mean-square norm, of a whole row or of each head.

use candle_core::Tensor;

use super::operation::{
    Backward, Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, Trained,
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

    /// Root-mean-square norms of each of H heads of queries with one weight, and of each of G heads
    /// of keys with another, `heads` being [H, G]. Values stay as they are.
    ///
    /// # Shapes
    /// `qkv` and result (B, T, (H + 2 G) D): queries, keys, values; weights (D).
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn head_norms(
        &mut self,
        qkv: Node,
        heads: [usize; 2],
        weights: [&str; 2],
        epsilon: f64,
    ) -> Result<Node> {
        let [queries, keys] = weights;
        let weights = [self.layout.number(queries)?, self.layout.number(keys)?];
        let operation = HeadNorms { heads, weights, epsilon };
        Ok(self.push(operation, &[qkv], self.shape(qkv).to_vec()))
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

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let kernels = back.call.kernels;
        let x = back.call.input(0)?;
        let weight = back.call.parameter(self.weight)?;

        // The kernel adds to both sums in one pass, so both are borrowed at once.
        let sums = match into.filter(|_| back.call.trained.has(self.weight)) {
            Some(into) => Some(into.get_disjoint_mut([self.weight, self.bias]).map_err(|_| {
                super::operation::absent("a weight and a bias apart from each other")
            })?),
            None => None,
        };

        Ok(vec![kernels.layer_norm_gradient(x, weight, self.epsilon, back.gradient, sums)?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
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

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let kernels = back.call.kernels;
        let x = back.call.input(0)?;
        let weight = back.call.parameter(self.weight)?;
        let into = into.filter(|_| back.call.trained.has(self.weight));
        let sum = into.map(|into| &mut into[self.weight]);
        Ok(vec![kernels.rms_norm_gradient(x, weight, self.epsilon, back.gradient, sum)?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads { inputs: true, ..Reads::default() }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Inputs
    }
}

/// Root-mean-square norms of each head of queries and of each head of keys, in queries, keys and
/// values side by side. Values stay as they are. Its result is computed again from its input.
#[derive(Debug)]
struct HeadNorms {
    /// H and G.
    heads: [usize; 2],
    /// The numbers of the weights of queries and of keys.
    weights: [usize; 2],
    epsilon: f64,
}

impl HeadNorms {
    /// The heads of queries (0), keys (1) or values (2).
    ///
    /// (B, T, (H + 2 G) D) -> (B, T, H, D) or (B, T, G, D)
    fn part(&self, qkv: &Tensor, part: usize) -> Result<Tensor> {
        let (windows, tokens, width) = qkv.dims3()?;
        let [heads, key_heads] = self.heads;
        let all = heads + 2 * key_heads;

        let [first, count] = [[0, heads], [heads, key_heads], [heads + key_heads, key_heads]][part];
        let by_head = qkv.detach().reshape((windows, tokens, all, width / all))?;
        Ok(by_head.narrow(2, first, count)?.contiguous()?)
    }

    /// (B, T, H, D), (B, T, G, D), (B, T, G, D) -> (B, T, (H + 2 G) D)
    fn joined(parts: [Tensor; 3], like: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&parts, 2)?.reshape(like.shape())?)
    }
}

impl Operation for HeadNorms {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let qkv = call.input(0)?;
        let normed = |part: usize| -> Result<Tensor> {
            let weight = call.parameter(self.weights[part])?;
            Ok(call.kernels.rms_norm(&self.part(qkv, part)?, weight, self.epsilon)?)
        };

        let parts = [normed(0)?, normed(1)?, self.part(qkv, 2)?];
        Ok(Self::joined(parts, qkv)?.into())
    }

    fn backward(&self, back: &Backward<'_>, mut into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let qkv = back.call.input(0)?;
        let mut of_part = |part: usize| -> Result<Tensor> {
            let number = self.weights[part];
            let x = self.part(qkv, part)?;
            let gradient = self.part(back.gradient, part)?;
            let trained = into.as_deref_mut().filter(|_| back.call.trained.has(number));
            let sum = trained.map(|into| &mut into[number]);
            let weight = back.call.parameter(number)?;

            Ok(back.call.kernels.rms_norm_gradient(&x, weight, self.epsilon, &gradient, sum)?)
        };

        let parts = [of_part(0)?, of_part(1)?, self.part(back.gradient, 2)?];
        Ok(vec![Self::joined(parts, qkv)?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads { inputs: true, ..Reads::default() }
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Inputs
    }

    fn working_bytes(&self, input: &[usize], activation: usize) -> usize {
        let all = activation * input.iter().product::<usize>();
        let [heads, key_heads] = self.heads;
        let queries = all / (heads + 2 * key_heads) * heads;

        // The parts, next to the joined result; or queries, their gradient and that of their norm.
        all.max((3 * queries).saturating_sub(all))
    }
}
