//! What every family of transformer has: a stem that embeds, a stack of equal blocks, a head.
//!
//! A further family is one file that implements [`Architecture`]; tying, checkpointing and training are
//! written once, over this trait.

use std::fmt::Debug;

use candle_core::Tensor;
use dlt_kernels::{Dropout, Kernels};

use crate::Result;
use crate::parameters::{Layout, Weights};

/// A family of transformer at given sizes.
pub trait Architecture: Debug + Send + Sync {
    /// Parameters outside of blocks.
    fn shared_layout(&self) -> Layout;

    /// Parameters of one block.
    fn block_layout(&self) -> Layout;

    /// Name of the shared parameter (V, C) in which tokens are looked up.
    fn token_table(&self) -> &'static str;

    /// Name of the shared parameter (V, C) that the head multiplies hidden states with.
    fn output_table(&self) -> &'static str;

    /// Name of layer `layer`'s parameters up to the block's own names, e.g. `transformer.h.3.`.
    fn block_prefix(&self, layer: usize) -> String;

    /// Names of the shared parameters up to their own, e.g. `transformer.`.
    fn shared_prefix(&self) -> &'static str;

    /// Longest window, in tokens.
    fn max_tokens(&self) -> usize;

    /// Size of the vocabulary, V.
    fn vocabulary(&self) -> usize;

    /// Number of layers, L.
    fn n_layers(&self) -> usize;

    /// The input of the first block, from the rows of the token table.
    ///
    /// # Shapes
    /// `rows` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails for more tokens than positions.
    fn embed(&self, shared: &Weights, rows: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// One block.
    ///
    /// # Shapes
    /// `x` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails where a weight has another shape than the layout says.
    fn block(&self, weights: &Weights, layer: usize, x: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// What the output table multiplies.
    ///
    /// # Shapes
    /// `x` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails where a weight has another shape than the layout says.
    fn head(&self, shared: &Weights, x: &Tensor, pass: &Pass) -> Result<Tensor>;
}

/// How a pass computes: with which kernels, and with which dropout.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Implementation of the operations.
    pub kernels: Kernels,
    /// Dropout, where the pass is one of training.
    pub dropout: Option<DropoutPass>,
}

/// Dropout of one training pass. Masks depend on the seed, the place and the window's number in the batch,
/// so that a batch in pieces gets the masks of the whole one, and a recomputed block the same ones again.
#[derive(Clone, Copy, Debug)]
pub struct DropoutPass {
    /// Probability that an activation is zeroed.
    pub probability: f64,
    /// Seed of the step.
    pub seed: u64,
    /// Number of the first window of this piece in its batch.
    pub first_window: usize,
}

impl Pass {
    /// Dropout at a place of the network for an activation of `per_window` numbers a window.
    ///
    /// `site` numbers the places: 0 for the stem, `1 + layer * 3 + k` for the k-th of a block.
    #[must_use]
    pub fn dropout_at(&self, site: usize, per_window: usize) -> Option<Dropout> {
        let dropout = self.dropout.filter(|dropout| dropout.probability > 0.0)?;
        Some(Dropout {
            probability: dropout.probability as f32,
            seed: dropout.seed ^ (site as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            offset: (dropout.first_window * per_window) as u64,
        })
    }

    /// Applies dropout to (B, ...) activations at a site.
    ///
    /// # Errors
    /// Fails where the device has no memory left.
    pub fn drop(&self, x: Tensor, site: usize) -> Result<Tensor> {
        let windows = x.dims().first().copied().unwrap_or(1).max(1);
        match self.dropout_at(site, x.elem_count() / windows) {
            Some(dropout) => Ok(self.kernels.dropout(&x, dropout)?),
            None => Ok(x),
        }
    }
}
