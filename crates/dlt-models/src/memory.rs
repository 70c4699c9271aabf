//! How much memory training needs, computed from shapes before anything is allocated.
//!
//! The prediction uses the graphs that run: they say which values they keep. It goes through the
//! phases of a step in the order of [`Model::add_gradients`](crate::Model::add_gradients) and the
//! optimizer.
//!
//! - The figures are for the fused kernels; candle's own operations need more.
//! - With bf16 activations they include packed weights, and count f32 copies for matrix products and
//!   a few other operations. Products on the CPU need less, and kernels on a GPU too.
//! - Sketches of gradients are not included: they are made from the slots' sums and need a
//!   sixty-fourth of a block while they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlt_kernels::cross_entropy_workspace;
use dlt_spec::spec::{Activations, Checkpointing, Gradient, Objective, Pooling, Trains};

use crate::Result;
use crate::architecture::{Architecture, HeadSettings};
use crate::batch::Dims;
use crate::binding::Binding;
use crate::graph::{Footprint, ModelGraphs, Reading, Trained};
use crate::model::dtype;

/// Bytes of one number of weights, gradients, moments and logits.
const F32: usize = size_of::<f32>();

/// Bytes of one number of packed weights.
const BF16: usize = 2;

/// Gaps that the allocator leaves are one part in so many of what is allocated and freed within a
/// step. Measured with glibc: between a thirtieth and a seventh.
const GAPS: usize = 12;

/// Exchanges of blocks between processes that are under way at once. More would hold more buffers,
/// and the oldest one is usually over by then.
pub const UNDER_WAY: usize = 4;

/// Bytes for the stacks and buffers of the threads that compute.
pub const THREADS: usize = 3 << 20;

/// A training step, as far as its memory goes.
#[derive(Clone, Copy, Debug)]
pub struct StepShape {
    /// Windows in memory at once: those of a micro-batch.
    pub windows: usize,
    /// Micro-batches of a step.
    pub pieces: usize,
    /// Positions of a window that pass through the blocks, T.
    pub tokens: usize,
    /// Predictions of a micro-batch.
    pub predictions: usize,
    /// How much of the model trains.
    pub trains: Trains,
    /// What the forward pass keeps.
    pub checkpointing: Checkpointing,
    /// Number format of activations.
    pub activations: Activations,
    /// Which positions contribute to the gradient of shared weights.
    pub gradient: Gradient,
    /// Processes that train together, R.
    pub processes: usize,
    /// Shards of a batch that one process computes, a power of two.
    pub shards: usize,
}

/// Bytes that training needs: the peak of each kind by itself, and the peak of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Weights: shared parameters, and a block for each storage that is not frozen.
    pub weights: usize,
    /// Gradients: those of shared parameters, and a buffer for each slot.
    pub gradients: usize,
    /// The two moments of AdamW.
    pub moments: usize,
    /// What the forward pass keeps for the backward pass.
    pub activations: usize,
    /// What else is in use at the peak: the values and gradients of the operations that run, a
    /// chunk of logits, what matrix products pack, and gaps between buffers.
    pub workspace: usize,
    /// Peak of all together. It is less than the sum of the others, because their peaks are at
    /// different times.
    pub peak: usize,
    /// The phase of a step that has the peak.
    pub phase: &'static str,
}

/// Predicts the memory of training steps in one binding.
///
/// # Errors
/// [`ModelError::Batch`](crate::ModelError::Batch) if the windows are longer than the architecture
/// allows.
pub fn predict(
    architecture: &dyn Architecture,
    binding: &Binding,
    shape: &StepShape,
) -> Result<Prediction> {
    let shared = architecture.shared_layout();
    let division = architecture.division();
    let dims = Dims {
        windows: shape.windows,
        tokens: shape.tokens,
        reading: match architecture.head_settings() {
            HeadSettings { objective: Objective::NextToken, .. } => Reading::All,
            HeadSettings { objective: Objective::Classes, pooling: Pooling::Mean, .. } => {
                Reading::Mean
            }
            _ => Reading::Picked(shape.predictions),
        },
    };

    let output = architecture.output();
    let own: usize = match shape.trains {
        Trains::All => shared.n_parameters(),
        Trains::Head => {
            let own = shared
                .entries()
                .iter()
                .filter(|entry| architecture.own_head().contains(&entry.name));
            own.map(|entry| entry.shape.iter().product::<usize>()).sum()
        }
    };

    let graphs = ModelGraphs::new(architecture, &Arc::new(shared.clone()), division.all(), &dims)?;
    let activation = dtype(shape.activations).size_in_bytes();
    let width = architecture.width();
    let widened = if shape.activations == Activations::F32 { 0 } else { shape.predictions * width };

    let walk = Walk {
        shared: F32 * shared.n_parameters(),
        trained: F32 * own,
        tied: F32 * division.tied().n_parameters(),
        kept: F32 * division.kept().n_parameters(),
        stream: activation * shape.windows * shape.tokens * width,
        loss: F32
            * (cross_entropy_workspace(
                dtype(shape.activations),
                shape.predictions,
                width,
                output.rows,
            ) + widened),
        footprints: [Trained::Nothing, Trained::Marked(division.is_kept()), Trained::All]
            .map(|trained| graphs.block.footprint(trained, activation)),
        head: graphs.head.footprint(Trained::All, activation),
        binding,
        shape,
    };

    Ok(walk.prediction())
}

/// The sizes from which the phases of a step are computed. All figures are bytes.
struct Walk<'a> {
    shared: usize,
    /// The shared parameters that train.
    trained: usize,
    /// What a block has that layers can share, and what each layer keeps.
    tied: usize,
    kept: usize,
    /// What passes between two blocks: B T C numbers.
    stream: usize,
    /// What the loss needs besides the hidden states: logits, and the f32 copy of narrower hidden
    /// states.
    loss: usize,
    /// Of a block whose weights do not train, of one in which only kept weights train, and of one
    /// whose weights train.
    footprints: [Footprint; 3],
    head: Footprint,
    binding: &'a Binding,
    shape: &'a StepShape,
}

impl Walk<'_> {
    fn prediction(&self) -> Prediction {
        let layers = self.binding.n_layers();
        let held = (0..layers).filter(|&layer| !self.binding.is_frozen(layer));
        let held: BTreeSet<_> = held.map(|layer| self.binding.storage(layer)).collect();
        let weights = self.shared + held.len() * self.tied + layers * self.kept;
        let gradients = self.all_gradients();
        let moments = (2 * gradients).div_ceil(self.shape.processes);

        // Weights and moments are there in every phase, so the phase with the largest rest is the
        // peak.
        let (phase, load) =
            self.phases().into_iter().max_by_key(|(_, load)| load.sum()).unwrap_or_default();
        let activations = (0..layers).map(|layer| self.kept(layer)).sum::<usize>();
        let gaps = load.sum() / GAPS;
        let peak = weights + moments + load.sum() + gaps;

        Prediction {
            weights,
            gradients,
            moments,
            activations,
            workspace: load.workspace + gaps + THREADS,
            peak: peak + THREADS,
            phase,
        }
    }

    /// What each phase holds besides weights and moments. From the second micro-batch on, all
    /// gradients exist throughout.
    fn phases(&self) -> Vec<(&'static str, Load)> {
        let layers = self.binding.n_layers();
        let again = self.shape.pieces > 1;
        let mut phases = Vec::new();
        let mut kept = 0;
        let all = self.all_gradients();
        // Sums of earlier shards wait for their partner in the tree.
        let waiting = self.shape.shards.ilog2() as usize * all;
        let there = |now: usize| waiting + if again { all } else { now };

        for layer in 0..layers {
            let footprint = self.footprint(layer);
            let forward = if self.keeps(layer) { footprint.forward } else { footprint.result };
            let workspace = forward + self.drawn(layer) + self.packed(1);

            phases.push((
                "the forward pass",
                Load { gradients: there(0), activations: kept, workspace },
            ));
            kept += self.kept(layer);
        }

        // The head's forward pass and the loss, both on top of what all blocks have kept.
        let lasting = if self.has_several_passes() { self.packed(1) } else { 0 };
        let workspace = self.head.forward + self.loss + lasting;
        let gradients = there(self.trained);
        phases.push(("the loss", Load { gradients, activations: kept, workspace }));

        let workspace = self.head.backward + lasting;
        phases.push(("the head's backward pass", Load { gradients, activations: kept, workspace }));

        let mut slots = BTreeSet::new();
        let passed = if self.shape.trains == Trains::All { layers } else { 0 };
        for layer in (0..passed).rev() {
            // The footprint of the block's backward pass includes what the block has kept.
            kept -= self.kept(layer);
            slots.extend(self.slot(layer));

            let footprint = self.footprint(layer);
            let kept_gradients = (layers - layer) * self.kept;
            let gradients = there(self.gradients(&slots) + kept_gradients);

            // While a block is computed again, the gradient of its result waits.
            let replayed = footprint.replay + self.stream;
            let most = if self.keeps(layer) {
                footprint.backward
            } else {
                footprint.backward.max(replayed)
            };

            let under_way = UNDER_WAY.min(slots.len()) * (self.tied + self.kept);
            let sent = self.exchanged(under_way);
            // A block that is computed again packs its weights for both directions.
            let packed = self.packed(if self.keeps(layer) { 1 } else { 2 });
            let workspace = most + self.drawn(layer) + packed + sent;
            phases.push(("the backward pass", Load { gradients, activations: kept, workspace }));
        }

        let most = self.trained.max(UNDER_WAY.min(slots.len()) * (self.tied + self.kept));
        let (gradients, workspace) = (waiting + all, self.exchanged(most));
        phases.push(("the optimizer's step", Load { gradients, activations: 0, workspace }));
        phases
    }

    /// Whether packed weights serve several pieces of a batch.
    fn has_several_passes(&self) -> bool {
        self.shape.pieces * self.shape.shards > 1
    }

    /// Weights packed for products of bf16 while a block packs in so many directions. In a batch of
    /// one piece they are tied ones of blocks that several layers use, and all of the block that runs.
    /// Several pieces keep those of every block, for both directions.
    fn packed(&self, directions: usize) -> usize {
        if self.shape.activations == Activations::F32 {
            return 0;
        }

        let layers = (0..self.binding.n_layers()).filter(|&layer| !self.binding.is_frozen(layer));
        let mut uses = BTreeMap::new();
        layers.for_each(|layer| *uses.entry(self.binding.storage(layer)).or_insert(0) += 1);
        let shared = uses.values().filter(|&&uses| uses > 1).count();

        let packed = if self.has_several_passes() {
            2 * (uses.len() * self.tied + self.binding.n_layers() * self.kept)
        } else {
            directions * ((shared + 1) * self.tied + self.kept)
        };
        packed / F32 * BF16
    }

    /// What an exchange of so many bytes of gradients or weights holds: what is sent, and what is
    /// received.
    fn exchanged(&self, bytes: usize) -> usize {
        let processes = self.shape.processes;
        2 * bytes / processes * (processes - 1)
    }

    /// Gradients of the shared parameters and of these slots.
    fn gradients(&self, slots: &BTreeSet<usize>) -> usize {
        self.trained + slots.len() * self.tied
    }

    /// All gradients of a step.
    fn all_gradients(&self) -> usize {
        let layers = self.binding.n_layers();
        let kept = if self.shape.trains == Trains::All { layers * self.kept } else { 0 };
        self.gradients(&(0..layers).filter_map(|layer| self.slot(layer)).collect()) + kept
    }

    fn slot(&self, layer: usize) -> Option<usize> {
        match self.shape.trains {
            Trains::All => self.binding.slot(layer, self.shape.gradient),
            Trains::Head => None,
        }
    }

    fn footprint(&self, layer: usize) -> &Footprint {
        let number = match (self.slot(layer), self.shape.trains) {
            (Some(_), _) => 2,
            (None, Trains::All) if self.kept > 0 => 1,
            (None, _) => 0,
        };
        &self.footprints[number]
    }

    fn keeps(&self, layer: usize) -> bool {
        self.shape.trains == Trains::All
            && self.shape.checkpointing == Checkpointing::None
            && !self.binding.is_frozen(layer)
    }

    fn kept(&self, layer: usize) -> usize {
        if self.shape.trains == Trains::Head {
            return 0;
        }
        if self.keeps(layer) { self.footprint(layer).kept } else { self.stream }
    }

    /// The weights of a frozen layer, which exist only while the layer is computed.
    fn drawn(&self, layer: usize) -> usize {
        if self.binding.is_frozen(layer) { self.tied } else { 0 }
    }
}

/// What a phase holds.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    gradients: usize,
    activations: usize,
    workspace: usize,
}

impl Load {
    fn sum(&self) -> usize {
        self.gradients + self.activations + self.workspace
    }
}
