//! Loss and gradients of one batch, in pieces that fit into memory.

use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, HandOver, Holder, PackedWeights, TrainingPass, add_all};
use dlt_models::{Batch, Model};
use dlt_spec::{CheckedSpec, seeds};
use rand::RngCore;

use crate::evaluation::Losses;
use crate::exchange::{Exchange, Key, Touched};
use crate::{Result, TrainError};

/// The losses of this process's shards of a batch, and the gradients of the mean over the whole
/// batch. The number of micro-batches in the spec changes neither.
///
/// In a run of several processes the gradients are this process's [`Share`](crate::Share) of each
/// parameter, flat. A slot's gradients are sent while the backward pass continues.
///
/// `step` selects the dropout masks, and the projection of the sketches if `sketches` is set.
pub(crate) fn gradients(
    model: &Model,
    batch: Batch<'_>,
    spec: &CheckedSpec,
    step: usize,
    sketches: bool,
    exchange: &mut Exchange,
) -> Result<(Losses, Gradients)> {
    let share = exchange.share();
    let own = share.items(spec.training.shards);
    let windows = spec.shard_windows();

    // Counted over the whole batch: its parts can predict different numbers of tokens, and a mean
    // of their means would weigh those tokens unequally.
    let predictions = batch.n_predictions();
    let mut losses = Losses::default();

    // Sums of complete subtrees of shards, the largest first. Each waits for its right neighbour.
    let mut waiting: Vec<Gradients> = Vec::new();
    let mut arrived = Gradients::default();

    let mut packed = if own.len() > 1 || spec.micro_batch() < windows {
        PackedWeights::of_several_passes()
    } else {
        PackedWeights::of_one_pass()
    };

    for shard in own.clone() {
        let first_of_shard = shard * windows;
        let part = batch.of_windows(first_of_shard..first_of_shard + windows);
        let mut gradients = Gradients::default();

        for (first, piece) in part.pieces(spec.micro_batch()) {
            let pass = TrainingPass {
                checkpointing: spec.training.checkpointing,
                dropout: (spec.model.dropout > 0.0).then(|| DropoutPass {
                    probability: spec.model.dropout,
                    // One seed for the whole batch: a mask is drawn by the window's number in the
                    // batch, which keeps masks independent of how the batch is cut.
                    seed: dropout_seed(spec.seed, step),
                    first_window: first_of_shard + first,
                }),
                scale: 1.0 / predictions as f64,
                sketch: sketches.then(|| sketch_seed(spec.seed, step)),
            };

            let is_last = shard + 1 == own.end && first + piece.windows == windows;
            let mut send = |holder: Holder, mut sum| -> Result<()> {
                // The last shard completes the tree of this process's shards.
                for left in waiting.iter_mut().rev() {
                    let left = match holder {
                        Holder::Slot(slot) => left.slots.remove(&slot),
                        Holder::Layer(layer) => left.kept.remove(&layer),
                    };
                    let mut left = left.unwrap_or_default();
                    add_all(&mut left, sum)?;
                    sum = left;
                }

                let division = model.bank().division();
                let layout = match holder {
                    Holder::Slot(_) => division.tied(),
                    Holder::Layer(_) => division.kept(),
                };
                exchange.send_gradients(Key::Block(holder), layout, sum, None, &mut arrived)
            };
            let whole: Option<HandOver<'_, TrainError>> =
                if is_last && !share.is_whole() { Some(&mut send) } else { None };

            let loss =
                model.add_gradients_with(&piece, &pass, &mut gradients, &mut packed, whole)?;
            losses.push(loss, piece.n_predictions());
        }

        // As in a binary counter: a shard with an odd number completes the subtree on its left, and
        // that one perhaps the next larger one.
        for _ in 0..(shard - own.start).trailing_ones() {
            if let Some(mut left) = waiting.pop() {
                left.add(gradients)?;
                gradients = left;
            }
        }
        waiting.push(gradients);
    }

    let sum = waiting.pop().unwrap_or_default();
    if share.is_whole() {
        return Ok((losses, sum));
    }

    let layout = model.trained_shared().layout();
    let touched = Touched::of(model, &batch, share);
    exchange.send_gradients(Key::Shared, layout, sum.shared, touched.as_ref(), &mut arrived)?;
    exchange.land_all(&mut arrived)?;

    arrived.sketches = sum.sketches;
    arrived.division = sum.division;
    exchange.sketches(&mut arrived)?;
    Ok((losses, arrived))
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
