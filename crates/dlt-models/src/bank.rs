//! The weights behind the storages.
//!
//! Only owners hold parameters that can be tied. What a layer keeps for itself it always holds. The
//! initial weights of a frozen layer are a pure function of the
//! seed and the layer. They are drawn when they are needed, so that memory never holds L blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::binding::{Binding, Move, StorageId};
use crate::division::Division;
use crate::parameters::{Layout, Parameters};

/// Where the weights of frozen layers come from.
#[derive(Clone, Debug)]
pub enum InitialBlocks {
    /// Drawn from this root seed.
    Drawn {
        /// Root seed.
        seed: u64,
    },
    /// Read from a file and held in memory: tied tensors by the layer that a storage began with, in
    /// the order of their layout.
    Stored(BTreeMap<usize, Vec<Tensor>>),
}

/// Tied weights of blocks by storage, and what each layer keeps.
#[derive(Clone, Debug)]
pub struct BlockBank {
    division: Arc<Division>,
    device: Device,
    blocks: BTreeMap<StorageId, Parameters>,
    /// By layer.
    kept: Vec<Parameters>,
    initial: InitialBlocks,
}

impl BlockBank {
    /// A bank that holds a block for every storage in use that is not frozen: the `given` tensors
    /// of the layer that the storage began with, or its initial weights if none are given. `kept` are
    /// the tensors that each layer keeps.
    ///
    /// # Errors
    /// Fails if initial weights are missing or the device has no memory left.
    pub fn new(
        division: &Arc<Division>,
        binding: &Binding,
        mut given: BTreeMap<usize, Vec<Tensor>>,
        kept: Vec<Vec<Tensor>>,
        initial: InitialBlocks,
        device: &Device,
    ) -> Result<Self> {
        let parameters = |tensors: Vec<Tensor>| Parameters::new(division.kept(), &tensors);
        let mut bank = Self {
            division: Arc::clone(division),
            device: device.clone(),
            kept: kept.into_iter().map(parameters).collect::<Result<_>>()?,
            blocks: BTreeMap::new(),
            initial,
        };

        for layer in (0..binding.n_layers()).filter(|&layer| !binding.is_frozen(layer)) {
            let id = binding.storage(layer);

            // Given tensors are dropped one block at a time, so that memory never holds all of them
            // twice.
            if let Some(tensors) = given.remove(&id.0) {
                bank.blocks.insert(id, Parameters::new(bank.layout(), &tensors)?);
            }
            bank.materialise(id)?;
        }

        bank.forget_unused(binding);
        Ok(bank)
    }

    /// Carries out the moves of a decision, in their order. `binding` is that after the decision.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn apply(&mut self, moves: &[Move], binding: &Binding) -> Result<()> {
        // The order of the moves matters, see [`Move`].
        for step in moves {
            match *step {
                Move::Materialise(id) => self.materialise(id)?,
                Move::Copy { from, to } => {
                    let copy = self.block(from).duplicate()?;
                    self.blocks.insert(to, copy);
                }
                Move::Blend { from, into, share } => {
                    let blended = self.block(into).blended(self.block(from), share)?;
                    self.blocks.insert(into, blended);
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
    /// Panics if the storage is frozen or unknown, which the binding rules out.
    #[must_use]
    pub fn block(&self, id: StorageId) -> &Parameters {
        self.blocks.get(&id).expect("a storage in use that is not frozen has a block")
    }

    /// The tied weights behind a storage, in the order of their layout. Those of a frozen layer are
    /// drawn at each call.
    ///
    /// # Errors
    /// Fails if the device has no memory left for drawn weights.
    pub fn weights(&self, id: StorageId) -> Result<Vec<Tensor>> {
        match self.blocks.get(&id) {
            Some(block) => Ok(block.tensors()),
            None => self.initial(id),
        }
    }

    /// The blocks in memory, by storage.
    #[must_use]
    pub fn blocks(&self) -> &BTreeMap<StorageId, Parameters> {
        &self.blocks
    }

    /// What a layer keeps for itself.
    ///
    /// # Panics
    /// Panics if there is no such layer.
    #[must_use]
    pub fn kept(&self, layer: usize) -> &Parameters {
        &self.kept[layer]
    }

    /// The device of the weights.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Names and shapes of the parameters of a block that layers can share.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        self.division.tied()
    }

    /// Which parameters of a block layers can share, and which each layer keeps.
    #[must_use]
    pub fn division(&self) -> &Arc<Division> {
        &self.division
    }

    /// Makes a trainable block of a storage's initial weights, unless there is a block.
    fn materialise(&mut self, id: StorageId) -> Result<()> {
        if !self.blocks.contains_key(&id) {
            let block = Parameters::new(self.layout(), &self.initial(id)?)?;
            self.blocks.insert(id, block);
        }
        Ok(())
    }

    /// The seed that frozen layers are drawn from, if they are drawn.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        match self.initial {
            InitialBlocks::Drawn { seed } => Some(seed),
            InitialBlocks::Stored(_) => None,
        }
    }

    /// One tied parameter, by its number in the layout. For a frozen layer only this
    /// parameter is drawn.
    ///
    /// # Errors
    /// Fails if the device has no memory left for drawn weights.
    pub fn parameter(&self, id: StorageId, index: usize) -> Result<Tensor> {
        match (self.blocks.get(&id), &self.initial) {
            (Some(block), _) => Ok(block.variables()[index].as_detached_tensor()),
            (None, InitialBlocks::Drawn { seed }) => {
                self.layout().draw_one(*seed, &place(id.0), index, &self.device)
            }
            (None, InitialBlocks::Stored(_)) => Ok(self.initial(id)?.swap_remove(index)),
        }
    }

    /// The initial weights of the layer that a storage began with.
    fn initial(&self, id: StorageId) -> Result<Vec<Tensor>> {
        match &self.initial {
            InitialBlocks::Drawn { seed } => self.layout().draw(*seed, &place(id.0), &self.device),
            InitialBlocks::Stored(layers) => match layers.get(&id.0) {
                Some(tensors) => Ok(tensors.clone()),
                // A lookup that finds nothing gives the error that names what is missing.
                None => self.layout().take(&format!("block {}: ", id.0), &|_| Ok(None)),
            },
        }
    }

    /// Drops the stored initial weights that no frozen layer needs any more.
    fn forget_unused(&mut self, binding: &Binding) {
        if let InitialBlocks::Stored(layers) = &mut self.initial {
            let needed = |id| {
                (0..binding.n_layers()).any(|layer| {
                    binding.is_frozen(layer) && binding.storage(layer) == StorageId(id)
                })
            };

            layers.retain(|&id, _| needed(id));
        }
    }
}

/// The name of the random streams of a layer's initial weights.
pub(crate) fn place(layer: usize) -> String {
    format!("layer {layer}")
}
