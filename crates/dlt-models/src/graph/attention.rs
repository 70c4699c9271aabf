//! Attention, and the rotation of queries and keys.

use std::sync::Arc;

use candle_core::Tensor;
use dlt_kernels::{Attention as Settings, Mask, Rotary};

use super::operation::{
    Backward, Call, Operation, Outcome, ParameterSums, Reads, RecomputedFrom, Trained,
};
use super::{Graph, Node};
use crate::{ModelError, Result};

impl Graph {
    /// Attention of H heads over G heads of keys and values, `heads` being [H, G], with dropout of
    /// the probabilities. No token attends to padding that the batch names.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2 G) D): queries, keys, values; result (B, T, H D).
    pub fn attention(&mut self, qkv: Node, [heads, key_heads]: [usize; 2], mask: Mask) -> Node {
        let mut shape = self.shape(qkv).to_vec();

        // (H + 2 G) D -> H D
        shape[2] = shape[2] / (heads + 2 * key_heads) * heads;
        let site = self.site();
        self.push(Attention { heads, key_heads, mask, site }, &[qkv], shape)
    }

    /// Rotates the first `heads` heads of `qkv` by their position; the others stay as they are.
    ///
    /// # Shapes
    /// `qkv` and result (B, T, (H + 2 G) D): queries, keys, values.
    pub fn rotate(&mut self, qkv: Node, heads: usize, rotary: Arc<Rotary>) -> Node {
        // What is rotated is kept, or what it is computed from again: never both.
        let of_input =
            qkv.0.checked_sub(1).map(|step| self.steps[step].operation.recomputed_from());
        let recomputed_from = match of_input {
            Some(RecomputedFrom::Inputs) => RecomputedFrom::Inputs,
            _ => RecomputedFrom::Nothing,
        };

        let operation = Rotate { heads, rotary, recomputed_from };
        self.push(operation, &[qkv], self.shape(qkv).to_vec())
    }
}

/// Attention over queries, keys and values side by side. It saves the sums of its softmax, two
/// numbers for each row of scores, which are f32 whatever the format of activations.
#[derive(Debug)]
struct Attention {
    heads: usize,
    key_heads: usize,
    mask: Mask,
    site: usize,
}

impl Attention {
    fn settings<'a>(&self, call: &Call<'a>, qkv: &Tensor) -> Result<Settings<'a>> {
        let tokens = qkv.dim(1)?;
        Ok(Settings {
            key_heads: self.key_heads,
            lengths: call.side_inputs.lengths.as_deref(),
            // Of the probabilities, (H, T, T) for each window.
            dropout: call.dropout_at(self.site, self.heads * tokens * tokens),
            ..Settings::new(self.heads, self.mask)
        })
    }
}

impl Operation for Attention {
    fn forward(&self, call: &Call<'_>, saving: bool) -> Result<Outcome> {
        let qkv = call.input(0)?;

        // Generation: the new tokens attend to the cached keys and values of their sequences too.
        if let Some(caches) = call.caches {
            // A token that sees later ones would change with every token that is added.
            if self.mask == Mask::Full {
                return Err(ModelError::Objective {
                    expected: "tokens from those before them",
                    got: "with every token in sight",
                });
            }

            let cache = &mut caches.values.borrow_mut();
            return Ok(call
                .kernels
                .attend_cached(qkv, cache, &caches.sequences, self.heads)?
                .into());
        }

        let settings = self.settings(call, qkv)?;
        if !saving {
            return Ok(call.kernels.attention(qkv, &settings)?.into());
        }

        let [value, sums] = call.kernels.attention_and_sums(qkv, &settings)?;
        Ok(Outcome { value, saved: Some(sums) })
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let qkv = back.call.input(0)?;
        let settings = self.settings(&back.call, qkv)?;
        let forward = [back.result()?, back.saved()?];
        Ok(vec![back.call.kernels.attention_gradient(qkv, forward, &settings, back.gradient)?])
    }

    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads { inputs: true, result: true, saved: true }
    }

    fn saved_bytes(&self, input: &[usize], _activation: usize) -> usize {
        // (B, H, T, 2)
        2 * input[0] * self.heads * input[1] * size_of::<f32>()
    }

    fn widens(&self) -> bool {
        true
    }
}

/// Rotary positions of the first `heads` heads. A rotation is linear, so its backward pass needs no
/// value: it rotates the gradient the other way.
#[derive(Debug)]
struct Rotate {
    heads: usize,
    rotary: Arc<Rotary>,
    recomputed_from: RecomputedFrom,
}

impl Operation for Rotate {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let first = &call.side_inputs.first;
        Ok(call.kernels.rotate(call.input(0)?, self.heads, &self.rotary, first)?.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let Call { kernels, side_inputs, .. } = &back.call;
        let first = &side_inputs.first;
        Ok(vec![kernels.rotate_gradient(back.gradient, self.heads, &self.rotary, first)?])
    }

    fn recomputed_from(&self) -> RecomputedFrom {
        self.recomputed_from
    }
}
