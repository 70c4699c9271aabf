//! Averages of blocks that no layer uses after a decision into the blocks that replace them
//! (DEVIATIONS row 42).

use alloc::vec::Vec;

use super::{Binding, Gradient, Merged, Move, StorageId};

/// A block that becomes the average of itself and a released one.
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

    /// The same average for the moments. Each block has one optimizer state: that of the lowest
    /// layer that trains it.
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
    /// The averages for released blocks. A block that layers of a released block now use becomes
    /// the mean of what its layers used before. Every layer counts once. A layer that used a block
    /// which stays counts for the block that it uses now. Blocks that never trained are not
    /// averaged.
    pub(super) fn blends(&self, before: &Self, released: &[StorageId]) -> Vec<Blend> {
        let trained = before.trained();
        let mut blends = Vec::new();
        let mut blocks: Vec<_> = self.storage.clone();

        blocks.sort_unstable();
        blocks.dedup();

        for into in blocks {
            // Layers that used `id` before and use `into` now.
            let users = |id: StorageId| {
                let both = self.storage.iter().zip(&before.storage);
                both.filter(|&(now, was)| *now == into && *was == id).count()
            };

            let gone = |id: &&StorageId| trained.contains(id);
            let coming: Vec<_> = released.iter().filter(gone).map(|&id| (id, users(id))).collect();
            let got: usize = coming.iter().map(|(_, users)| users).sum();
            let all = self.storage.iter().filter(|&&id| id == into).count();

            // Layers that count for the block as it is. Never 0, as the owner is one of them: if it
            // needs a new block it takes over the one that it used, which then stays.
            let mut weight = all - got;

            // A running mean: each share is that of the new layers among all counted so far.
            for (from, users) in coming.into_iter().filter(|(_, users)| *users > 0) {
                weight += users;
                blends.push(Blend { from, into, share: users as f64 / weight as f64 });
            }
        }

        blends
    }
}
