//! A transformer whose layers share blocks.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{D, Device, Tensor};
use dlt_kernels::Kernels;
use dlt_spec::spec::Gradient;

use crate::architecture::Architecture;
use crate::bank::{BlockBank, InitialBlocks};
use crate::binding::{Binding, Change, Rules, Settlement};
use crate::error::Context;
use crate::graph::{Run, Stretches};
use crate::parameters::Parameters;
use crate::{ModelError, Result};

/// Windows of tokens with what is to be predicted, as host arrays of B x T ids.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token ids, window after window.
    pub inputs: &'a [u32],
    /// The id that follows each of them.
    pub targets: &'a [u32],
    /// Number of windows, B.
    pub windows: usize,
}

impl<'a> Batch<'a> {
    /// Predicted tokens.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.targets.len()
    }

    /// The batch in pieces of at most `windows` windows, with the number of each piece's first window.
    pub fn pieces(self, windows: usize) -> impl Iterator<Item = (usize, Batch<'a>)> {
        let tokens = self.inputs.len() / self.windows.max(1);
        (0..self.windows).step_by(windows.max(1)).map(move |first| {
            let count = windows.min(self.windows - first);
            let range = first * tokens..(first + count) * tokens;
            (
                first,
                Batch { inputs: &self.inputs[range.clone()], targets: &self.targets[range], windows: count },
            )
        })
    }
}

/// A transformer: an architecture, its shared parameters, a bank of blocks and the binding of layers to
/// them.
#[derive(Debug)]
pub struct Model {
    pub(crate) architecture: Box<dyn Architecture>,
    pub(crate) shared: Parameters,
    pub(crate) bank: BlockBank,
    pub(crate) binding: Binding,
    rules: Rules,
    kernels: Kernels,
    device: Device,
}

impl Model {
    /// A model with freshly drawn weights: a pure function of the root seed.
    ///
    /// # Errors
    /// Fails where the device has no memory left.
    pub fn new(
        architecture: Box<dyn Architecture>,
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let layout = std::sync::Arc::new(architecture.shared_layout());
        let shared = Parameters::new(&layout, &layout.draw(seed, "shared", device)?)?;
        let initial = InitialBlocks::Drawn { seed };
        let bank = BlockBank::new(architecture.block_layout(), &binding, BTreeMap::new(), initial, device)?;
        Ok(Self { architecture, shared, bank, binding, rules, kernels, device: device.clone() })
    }

    /// A model with weights by name. Frozen layers are drawn from `seed`; without one their weights are looked
    /// up too, and kept.
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a tensor that is missing or has another shape.
    pub fn from_weights(
        architecture: Box<dyn Architecture>,
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
        lookup: &dyn Fn(&str) -> Result<Option<Tensor>>,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Self> {
        let layout = std::sync::Arc::new(architecture.shared_layout());
        let shared = Parameters::new(&layout, &layout.take(architecture.shared_prefix(), lookup)?)?;
        let blocks = architecture.block_layout();
        let take = |frozen: bool| -> Result<BTreeMap<usize, Vec<Tensor>>> {
            let layers = (0..binding.n_layers()).filter(|&layer| binding.is_frozen(layer) == frozen);
            let ids: BTreeSet<_> = layers.map(|layer| binding.storage(layer).0).collect();
            ids.into_iter().map(|id| Ok((id, blocks.take(&architecture.block_prefix(id), lookup)?))).collect()
        };
        let initial = match seed {
            Some(seed) => InitialBlocks::Drawn { seed },
            None => InitialBlocks::Stored(take(true)?),
        };
        let given = take(false)?;
        let bank = BlockBank::new(blocks, &binding, given, initial, device)?;
        Ok(Self { architecture, shared, bank, binding, rules, kernels, device: device.clone() })
    }

    /// Carries a decision out: weights move in rising order of layers, unused blocks are freed at once.
    ///
    /// # Errors
    /// [`ModelError::Depth`] for states of another depth; fails where the device has no memory left.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<Settlement> {
        let settlement = self.binding.apply(&self.rules, change)?;
        self.bank.apply(&settlement.moves, &self.binding)?;
        Ok(settlement)
    }

    /// Sum of the negative log-likelihoods of the targets, in nats, without dropout.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for windows that are too long or ids outside the vocabulary.
    pub fn loss_sum(&self, batch: &Batch<'_>) -> Result<f64> {
        let (inputs, targets) = self.tensors(batch)?;
        let hidden = self.hidden(&inputs)?.flatten_to(D::Minus2)?;
        let table = self.table(self.architecture.output_table())?;
        self.kernels.cross_entropy_sum(&hidden, &table, &targets).context(|| "evaluating the loss".to_owned())
    }

    /// Logits of the token that follows a window.
    ///
    /// # Shapes
    /// `tokens`: T ids; result V numbers.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for no tokens, too many, or ids outside the vocabulary.
    pub fn next_logits(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let hidden = self.window(tokens)?;
        let last = hidden.dim(0)?.saturating_sub(1);
        Ok(self.project(&hidden.narrow(0, last, 1)?)?.flatten_all()?.to_vec1()?)
    }

    /// Logits at every position of one window.
    ///
    /// # Shapes
    /// `tokens`: T ids; result (T, V).
    ///
    /// # Errors
    /// [`ModelError::Batch`] for no tokens, too many, or ids outside the vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Result<Tensor> {
        self.project(&self.window(tokens)?)
    }

    /// Hidden states (T, C) of one window.
    fn window(&self, tokens: &[u32]) -> Result<Tensor> {
        let (inputs, _) = self.tensors(&Batch { inputs: tokens, targets: tokens, windows: 1 })?;
        Ok(self.hidden(&inputs)?.squeeze(0)?)
    }

    /// Logits (N, V) of hidden states (N, C).
    fn project(&self, hidden: &Tensor) -> Result<Tensor> {
        let table = self.table(self.architecture.output_table())?;
        Ok(self.kernels.linear(&hidden.contiguous()?, &table, None)?)
    }

    /// Hidden states that the output table multiplies, without dropout.
    fn hidden(&self, inputs: &Tensor) -> Result<Tensor> {
        let (stretches, rows) = (self.stretches(inputs.dims())?, self.rows(inputs)?);
        let shared = self.shared.tensors();
        let mut x = stretches.stem.result(rows, &Run::plain(self.kernels, &shared))?;
        for layer in 0..self.binding.n_layers() {
            let weights = self.bank.weights(self.binding.storage(layer))?;
            x = stretches.block.result(x, &Run::plain(self.kernels, &weights))?;
        }
        stretches.head.result(x, &Run::plain(self.kernels, &shared))
    }

    /// Stem, block and head for a batch of (B, T) ids.
    pub(crate) fn stretches(&self, dims: &[usize]) -> Result<Stretches> {
        let (shared, block) = (self.shared.layout(), self.bank.layout());
        Stretches::new(self.architecture.as_ref(), shared, block, dims)
    }

    /// Rows of the token table.
    pub(crate) fn rows(&self, inputs: &Tensor) -> Result<Tensor> {
        Ok(self.kernels.embedding(&self.table(self.architecture.token_table())?, inputs)?)
    }

    /// A shared parameter by its name.
    pub(crate) fn table(&self, name: &str) -> Result<Tensor> {
        Ok(self.shared.variables()[self.shared.layout().number(name)?].as_detached_tensor())
    }

    /// The batch on the device: inputs (B, T), targets (B T).
    pub(crate) fn tensors(&self, batch: &Batch<'_>) -> Result<(Tensor, Tensor)> {
        let (n, vocabulary) = (batch.inputs.len(), self.architecture.vocabulary());
        let refuse = |expected: String, came: String| Err(ModelError::Batch { expected, came });
        if batch.windows == 0 || n == 0 || !n.is_multiple_of(batch.windows) || batch.targets.len() != n {
            return refuse(
                "equally many inputs and targets in windows of one length".to_owned(),
                format!("{n} inputs and {} targets in {} windows", batch.targets.len(), batch.windows),
            );
        }
        if let Some(id) = batch.inputs.iter().chain(batch.targets).find(|&&id| id as usize >= vocabulary) {
            return refuse(format!("token ids below {vocabulary}"), id.to_string());
        }
        let inputs = Tensor::from_slice(batch.inputs, (batch.windows, n / batch.windows), &self.device)?;
        let targets = Tensor::from_slice(batch.targets, n, &self.device)?;
        Ok((inputs, targets))
    }

    /// Which storage each layer uses.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// What the model computes.
    #[must_use]
    pub fn architecture(&self) -> &dyn Architecture {
        self.architecture.as_ref()
    }

    /// Parameters outside of blocks.
    #[must_use]
    pub fn shared(&self) -> &Parameters {
        &self.shared
    }

    /// The weights of blocks.
    #[must_use]
    pub fn bank(&self) -> &BlockBank {
        &self.bank
    }

    /// The parameters that layer `slot`'s optimizer state updates.
    #[must_use]
    pub fn slot_parameters(&self, slot: usize) -> &Parameters {
        self.bank.block(self.binding.storage(slot))
    }

    /// Whose gradient goes where.
    #[must_use]
    pub fn gradient_rule(&self) -> Gradient {
        self.rules.gradient
    }

    /// Implementation of the operations.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Where the tensors live.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Numbers outside of blocks.
    #[must_use]
    pub fn n_shared_parameters(&self) -> usize {
        self.shared.layout().n_parameters()
    }

    /// Numbers in one block.
    #[must_use]
    pub fn n_block_parameters(&self) -> usize {
        self.bank.layout().n_parameters()
    }

    /// Numbers that training changes now: shared ones and those of every trained storage, each once.
    #[must_use]
    pub fn n_trainable_parameters(&self) -> usize {
        self.n_shared_parameters() + self.binding.trained().len() * self.n_block_parameters()
    }
}
