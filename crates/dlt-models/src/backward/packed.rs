//! Weights of blocks in the order in which products of bf16 read them.

use std::collections::BTreeMap;

use crate::binding::StorageId;
use dlt_kernels::Packs;
use dlt_spec::spec::Activations;

use crate::Model;

/// The packed weights of a training step. Layers that share a block share what is packed, and so
/// do the pieces of a batch if this is kept for all of them. The model's weights must not change
/// while it exists.
#[derive(Debug, Default)]
pub struct PackedWeights {
    blocks: BTreeMap<StorageId, Vec<Packs>>,
    /// Whether further pieces of the batch follow, so that nothing is freed.
    keeps: bool,
}

impl PackedWeights {
    /// For so many pieces of a batch. For one piece, what is packed is freed after its last use.
    #[must_use]
    pub fn for_pieces(pieces: usize) -> Self {
        Self { blocks: BTreeMap::new(), keeps: pieces > 1 }
    }

    /// Where the packed weights of a layer are kept. A frozen layer has none: its weights are drawn
    /// again for each pass.
    pub(super) fn of(&mut self, model: &Model, layer: usize) -> Option<&[Packs]> {
        if model.activations() != Activations::Bf16
            || !model.device().is_cpu()
            || model.binding().is_frozen(layer)
        {
            return None;
        }

        let count = model.bank().layout().entries().len();
        let make = || std::iter::repeat_with(Packs::default).take(count).collect();
        let storage = model.binding().storage(layer);
        Some(self.blocks.entry(storage).or_insert_with(make).as_slice())
    }

    /// Frees what no higher layer's forward pass reads.
    pub(super) fn end_forward(&mut self, model: &Model, layer: usize) {
        let binding = model.binding();
        let storage = binding.storage(layer);
        let is_last =
            (layer + 1..binding.n_layers()).all(|other| binding.storage(other) != storage);

        if is_last && !self.keeps {
            self.blocks.entry(storage).or_default().iter_mut().for_each(Packs::end_forward);
        }
    }

    /// Frees what no lower layer's backward pass reads.
    pub(super) fn end_backward(&mut self, model: &Model, layer: usize) {
        let binding = model.binding();
        let storage = binding.storage(layer);

        if !self.keeps && (0..layer).all(|other| binding.storage(other) != storage) {
            self.blocks.remove(&storage);
        }
    }
}
