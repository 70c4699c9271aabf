//! Loss and gradients of one batch, in pieces that fit into memory.

use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::{Batch, Model};
use dlt_spec::{CheckedSpec, seeds};
use rand::RngCore;

use crate::Result;

/// Mean cross-entropy of a batch, in nats, and its gradients, however many micro-batches the spec
/// makes of it.
///
/// `step` numbers the dropout masks, and the projections of sketches, where those are asked for.
pub(crate) fn gradients(
    model: &Model,
    batch: Batch<'_>,
    spec: &CheckedSpec,
    step: usize,
    sketches: bool,
) -> Result<(f64, Gradients)> {
    let n_predictions = batch.n_predictions();
    let mut loss_sum = 0.0;
    let mut gradients = Gradients::default();

    for (first_window, piece) in batch.pieces(spec.micro_batch()) {
        let dropout = (spec.model.dropout > 0.0).then(|| DropoutPass {
            probability: spec.model.dropout,
            seed: dropout_seed(spec.seed, step),
            first_window,
        });

        let pass = TrainingPass {
            checkpointing: spec.training.checkpointing,
            dropout,
            scale: 1.0 / n_predictions as f64,
            sketch: sketches.then(|| sketch_seed(spec.seed, step)),
        };

        loss_sum += model.add_gradients(&piece, &pass, &mut gradients)?;
    }

    Ok((loss_sum / n_predictions as f64, gradients))
}

/// Seed of the dropout masks of one training step: the same however the run came to it.
fn dropout_seed(root: u64, step: usize) -> u64 {
    seeds::stream(root, &format!("dropout/{step}")).next_u64()
}

/// Seed of the projection of one training step's sketches.
fn sketch_seed(root: u64, step: usize) -> u64 {
    seeds::stream(root, &format!("sketch/{step}")).next_u64()
}
