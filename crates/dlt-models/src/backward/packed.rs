//! Weights of blocks in the order in which products of bf16 read them.

use std::collections::BTreeMap;
use std::ops::Range;

use dlt_kernels::Packs;
use dlt_spec::spec::Activations;

use crate::Model;
use crate::binding::StorageId;

/// Packed weights, by block. Layers that share a block share what is packed. While this exists, the
/// weights of the model must keep their values.
#[derive(Debug)]
pub struct PackedWeights {
    blocks: BTreeMap<StorageId, Vec<Packs>>,
    kept: Kept,
}

/// How long packed weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    UntilLastUse,
    ForNextPass,
}

impl PackedWeights {
    /// For one pass: what is packed is freed after its last use in each direction.
    #[must_use]
    pub fn of_one_pass() -> Self {
        PackedWeights { blocks: BTreeMap::new(), kept: Kept::UntilLastUse }
    }

    /// For the passes of several pieces of a batch: what the first one packs serves all of them.
    #[must_use]
    pub fn of_several_passes() -> Self {
        PackedWeights { blocks: BTreeMap::new(), kept: Kept::ForNextPass }
    }

    /// Where the packed weights of a layer are kept. A frozen layer has none: its weights are drawn
    /// again for each pass.
    pub(super) fn of(&mut self, model: &Model, layer: usize) -> Option<&[Packs]> {
        if model.activations() != Activations::Bf16 || model.binding().is_frozen(layer) {
            return None;
        }

        let count = model.bank().layout().entries().len();
        let make = || std::iter::repeat_with(Packs::default).take(count).collect();
        Some(self.blocks.entry(model.binding().storage(layer)).or_insert_with(make).as_slice())
    }

    /// Frees what was packed for a layer, unless one of those that follow in the pass uses it, or
    /// another pass does.
    pub(super) fn end(&mut self, model: &Model, layer: usize, mut following: Range<usize>) {
        if self.kept == Kept::ForNextPass {
            return;
        }

        let binding = model.binding();
        let storage = binding.storage(layer);

        if following.all(|other| binding.storage(other) != storage) {
            self.blocks.remove(&storage);
        }
    }
}
