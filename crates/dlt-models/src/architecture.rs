//! What every family of transformer has: a stem that embeds, a stack of equal blocks, a head.
//!
//! A further family is one file that implements [`Architecture`]; tying, checkpointing, training and the
//! prediction of memory are written once, over this trait.

use std::fmt::Debug;

use dlt_kernels::Dropout;

use crate::Result;
use crate::graph::{Graph, Node};
use crate::parameters::Layout;

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

    /// Width of the rows of the token table, C.
    fn width(&self) -> usize;

    /// Size of the vocabulary, V.
    fn vocabulary(&self) -> usize;

    /// Number of layers, L.
    fn n_layers(&self) -> usize;

    /// Writes the stem: the input of the first block, from the rows of the token table.
    ///
    /// # Shapes
    /// `rows` (B, T, C); result the same.
    ///
    /// # Errors
    /// [`ModelError::Batch`](crate::ModelError::Batch) for more tokens than positions.
    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node>;

    /// Writes one block.
    ///
    /// # Shapes
    /// `x` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails for a name that the layout lacks.
    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node>;

    /// Writes the head: what the output table multiplies.
    ///
    /// # Shapes
    /// `x` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails for a name that the layout lacks.
    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node>;
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

impl DropoutPass {
    /// Dropout at a place of the model for an activation of `per_window` numbers a window. Places count from
    /// the stem through the blocks.
    pub(crate) fn at(&self, site: usize, per_window: usize) -> Option<Dropout> {
        (self.probability > 0.0).then(|| Dropout {
            probability: self.probability as f32,
            seed: self.seed ^ (site as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            offset: (self.first_window * per_window) as u64,
        })
    }
}
