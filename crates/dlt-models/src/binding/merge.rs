//! What becomes of blocks that a decision leaves without a layer, where they are averaged into
//! others.

use dlt_spec::spec::Gradient;

use super::{Binding, Merged, Move, StorageId};

/// A block that takes in another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blend {
    from: StorageId,
    into: StorageId,
    share: f64,
}

impl Blend {
    pub(super) fn weights(&self) -> Move {
        let Self { from, into, share } = *self;
        Move::Blend { from, into, share }
    }

    /// The same for the moments: each block has one optimizer state, that of its lowest independent
    /// layer.
    pub(super) fn moments(&self, before: &Binding, after: &Binding) -> Merged {
        let lowest = |binding: &Binding, id| {
            let layer = (0..binding.n_layers()).find(|&layer| binding.storage(layer) == id);
            layer.and_then(|layer| binding.slot(layer, Gradient::Sum)).unwrap_or_default()
        };

        Merged {
            from: lowest(before, self.from),
            into: lowest(after, self.into),
            share: self.share,
        }
    }
}

impl Binding {
    /// Where released blocks go. A block that some layers came to from released ones becomes the
    /// mean of what its layers used before, each layer once: layers that came from a block which
    /// stays count for the block as it is. Blocks that never trained are not averaged.
    pub(super) fn blends(&self, before: &Self, released: &[StorageId]) -> Vec<Blend> {
        let trained = before.trained();
        let mut blends = Vec::new();
        let mut blocks: Vec<_> = self.storage.clone();

        blocks.sort_unstable();
        blocks.dedup();

        for into in blocks {
            let users = |id: StorageId| {
                let both = self.storage.iter().zip(&before.storage);
                both.filter(|&(now, was)| *now == into && *was == id).count()
            };

            let gone = |id: &&StorageId| trained.contains(id);
            let coming: Vec<_> = released.iter().filter(gone).map(|&id| (id, users(id))).collect();
            let got: usize = coming.iter().map(|(_, users)| users).sum();
            let all = self.storage.iter().filter(|&&id| id == into).count();

            // Never none: an owner that needs a block takes over the one that it used, which then
            // stays.
            let mut weight = all - got;
            for (from, users) in coming.into_iter().filter(|(_, users)| *users > 0) {
                weight += users;
                blends.push(Blend { from, into, share: users as f64 / weight as f64 });
            }
        }

        blends
    }
}
