//! The weights behind the storages. Owners alone hold parameters: a frozen layer's initial weights are a
//! pure function of the seed and the layer, drawn when needed, so that memory never holds L blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::binding::{Binding, Move, StorageId};
use crate::parameters::{Layout, Parameters, Tracking, Weights};

/// Where the initial weights of blocks come from.
#[derive(Clone, Debug)]
pub enum InitialBlocks {
    /// Drawn from this root seed.
    Drawn {
        /// Root seed.
        seed: u64,
    },
    /// Read from a file: tensors of every layer, in the order of the layout.
    Stored(BTreeMap<usize, Vec<Tensor>>),
}

/// Block weights by storage.
#[derive(Clone, Debug)]
pub struct BlockBank {
    layout: Arc<Layout>,
    device: Device,
    blocks: BTreeMap<StorageId, Parameters>,
    initial: InitialBlocks,
}

impl BlockBank {
    /// A bank that holds a block for every storage in use that is not frozen.
    ///
    /// # Errors
    /// Fails where initial weights are missing, or the device has no memory left.
    pub fn new(layout: Layout, binding: &Binding, initial: InitialBlocks, device: &Device) -> Result<Self> {
        let mut bank =
            Self { layout: Arc::new(layout), device: device.clone(), blocks: BTreeMap::new(), initial };
        for layer in (0..binding.n_layers()).filter(|&layer| !binding.is_frozen(layer)) {
            bank.materialise(binding.storage(layer))?;
        }
        bank.forget_unused(binding);
        Ok(bank)
    }

    /// Carries out the moves of a decision, after which `binding` holds.
    ///
    /// # Errors
    /// Fails where the device has no memory left.
    pub fn apply(&mut self, moves: &[Move], binding: &Binding) -> Result<()> {
        for step in moves {
            match *step {
                Move::Materialise(id) => self.materialise(id)?,
                Move::Copy { from, to } => {
                    let copy = self.block(from).duplicate()?;
                    self.blocks.insert(to, copy);
                }
                Move::Release(id) => {
                    self.blocks.remove(&id);
                }
            }
        }
        self.forget_unused(binding);
        Ok(())
    }

    /// The trainable block behind a storage in use that is not frozen.
    ///
    /// # Panics
    /// Where the storage is frozen or unknown, which the binding excludes.
    #[must_use]
    pub fn block(&self, id: StorageId) -> &Parameters {
        self.blocks.get(&id).expect("a storage in use that is not frozen has a block")
    }

    /// The weights that a layer computes with.
    ///
    /// # Errors
    /// Fails where the device has no memory left for drawn weights.
    pub fn weights(&self, id: StorageId, tracking: Tracking) -> Result<Weights> {
        match self.blocks.get(&id) {
            Some(block) => Ok(block.view(tracking)),
            None => Ok(Weights::untracked(&self.layout, self.initial(id)?)),
        }
    }

    /// Blocks that are held in memory, by storage.
    #[must_use]
    pub fn blocks(&self) -> &BTreeMap<StorageId, Parameters> {
        &self.blocks
    }

    /// Names and shapes of one block.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn materialise(&mut self, id: StorageId) -> Result<()> {
        if !self.blocks.contains_key(&id) {
            let block = Parameters::new(&self.layout, &self.initial(id)?)?;
            self.blocks.insert(id, block);
        }
        Ok(())
    }

    /// The initial weights of the layer that a storage began with.
    fn initial(&self, id: StorageId) -> Result<Vec<Tensor>> {
        match &self.initial {
            InitialBlocks::Drawn { seed } => {
                self.layout.draw(*seed, &format!("layer {}", id.0), &self.device)
            }
            InitialBlocks::Stored(layers) => match layers.get(&id.0) {
                Some(tensors) => Ok(tensors.clone()),
                None => self.layout.take(&format!("block {}: ", id.0), &|_| Ok(None)),
            },
        }
    }

    /// Drops stored initial weights that no frozen layer needs any more.
    fn forget_unused(&mut self, binding: &Binding) {
        if let InitialBlocks::Stored(layers) = &mut self.initial {
            let needed = |id| {
                (0..binding.n_layers())
                    .any(|layer| binding.is_frozen(layer) && binding.storage(layer) == StorageId(id))
            };
            layers.retain(|&id, _| needed(id));
        }
    }
}
