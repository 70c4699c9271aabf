//! Loss and gradients of one batch, in pieces that fit into memory.

use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::{Batch, Model};
use dlt_spec::{CheckedSpec, seeds};
use rand::RngCore;

use crate::Result;
use crate::evaluation::Evaluation;

/// Loss of a batch, and the gradients of its mean. The number of micro-batches in the spec changes
/// neither.
///
/// `step` selects the dropout masks, and the projection of the sketches if `sketches` is set.
pub(crate) fn gradients(
    model: &Model,
    batch: Batch<'_>,
    spec: &CheckedSpec,
    step: usize,
    sketches: bool,
) -> Result<(Evaluation, Gradients)> {
    // Counted over the whole batch: micro-batches can predict different numbers of tokens, and a
    // mean of their means would weigh those tokens unequally.
    let mut loss = Evaluation { tokens: batch.n_predictions(), ..Evaluation::default() };
    let mut gradients = Gradients::default();

    for (first_window, piece) in batch.pieces(spec.micro_batch()) {
        let dropout = (spec.model.dropout > 0.0).then(|| DropoutPass {
            probability: spec.model.dropout,
            // One seed for all micro-batches: a mask is drawn by the window's number in the batch,
            // so `first_window` keeps masks independent of the micro-batch size.
            seed: dropout_seed(spec.seed, step),
            first_window,
        });

        let pass = TrainingPass {
            checkpointing: spec.training.checkpointing,
            dropout,
            scale: 1.0 / loss.tokens as f64,
            sketch: sketches.then(|| sketch_seed(spec.seed, step)),
        };

        loss.loss_sum += model.add_gradients(&piece, &pass, &mut gradients)?;
    }

    Ok((loss, gradients))
}

/// Seed of the dropout masks of one training step. It depends on the root seed and the step only,
/// so a resumed run draws the same masks.
fn dropout_seed(root: u64, step: usize) -> u64 {
    seeds::stream(root, &format!("dropout/{step}")).next_u64()
}

/// Seed of the random projection in one training step's sketches.
fn sketch_seed(root: u64, step: usize) -> u64 {
    seeds::stream(root, &format!("sketch/{step}")).next_u64()
}
