//! Weights of blocks in the order in which products of bf16 read them.

use std::collections::BTreeMap;
use std::ops::Range;

use dlt_kernels::Packs;
use dlt_spec::spec::Activations;

use crate::Model;
use crate::binding::StorageId;
use crate::graph::BlockPacks;

/// Packed weights: tied ones by storage, those that a layer keeps by layer. Layers that share a block
/// share what is packed. While this exists, the weights of the model must keep their values.
#[derive(Debug)]
pub struct PackedWeights {
    tied: BTreeMap<StorageId, Vec<Packs>>,
    kept: BTreeMap<usize, Vec<Packs>>,
    until: Until,
}

/// How long packed weights are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    LastUse,
    NextPass,
}

impl PackedWeights {
    /// For one pass: what is packed is freed after its last use in each direction.
    #[must_use]
    pub fn of_one_pass() -> Self {
        PackedWeights::until(Until::LastUse)
    }

    /// For the passes of several pieces of a batch: what the first one packs serves all of them.
    #[must_use]
    pub fn of_several_passes() -> Self {
        PackedWeights::until(Until::NextPass)
    }

    fn until(until: Until) -> Self {
        PackedWeights { tied: BTreeMap::new(), kept: BTreeMap::new(), until }
    }

    /// Where the packed weights of a layer are kept. A frozen layer has none: its weights are drawn
    /// again for each pass.
    pub(super) fn of<'a>(&'a mut self, model: &'a Model, layer: usize) -> Option<BlockPacks<'a>> {
        if model.activations() != Activations::Bf16 || model.binding().is_frozen(layer) {
            return None;
        }

        let is_kept = model.bank().division().is_kept();
        let make = || std::iter::repeat_with(Packs::default).take(is_kept.len()).collect();
        let tied = self.tied.entry(model.binding().storage(layer)).or_insert_with(make);
        let kept = self.kept.entry(layer).or_insert_with(make);

        Some(BlockPacks { tied, kept, is_kept })
    }

    /// Frees what was packed for a layer, except for tied weights that one of those that follow in
    /// the pass uses, and unless another pass uses all.
    pub(super) fn end(&mut self, model: &Model, layer: usize, mut following: Range<usize>) {
        if self.until == Until::NextPass {
            return;
        }

        let binding = model.binding();
        let storage = binding.storage(layer);
        self.kept.remove(&layer);

        if following.all(|other| binding.storage(other) != storage) {
            self.tied.remove(&storage);
        }
    }
}
