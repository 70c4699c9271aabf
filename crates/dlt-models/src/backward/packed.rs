//! Weights of blocks in the order in which products of bf16 read them.

use std::collections::BTreeMap;
use std::ops::Range;

use dlt_kernels::Packs;
use dlt_spec::spec::Activations;

use crate::Model;
use crate::binding::StorageId;

/// The packed weights of a pass, by block. Layers that share a block share what is packed. It is
/// freed after its last use.
#[derive(Default)]
pub(super) struct PackedWeights(BTreeMap<StorageId, Vec<Packs>>);

impl PackedWeights {
    /// Where the packed weights of a layer are kept. A frozen layer has none: its weights are drawn
    /// again for each pass.
    pub(super) fn of(&mut self, model: &Model, layer: usize) -> Option<&[Packs]> {
        if model.activations() != Activations::Bf16 || model.binding().is_frozen(layer) {
            return None;
        }

        let count = model.bank().layout().entries().len();
        let make = || std::iter::repeat_with(Packs::default).take(count).collect();
        Some(self.0.entry(model.binding().storage(layer)).or_insert_with(make).as_slice())
    }

    /// Frees what was packed for a layer, unless one of those that follow in the pass uses it.
    pub(super) fn end(&mut self, model: &Model, layer: usize, mut following: Range<usize>) {
        let binding = model.binding();
        let storage = binding.storage(layer);

        if following.all(|other| binding.storage(other) != storage) {
            self.0.remove(&storage);
        }
    }
}
