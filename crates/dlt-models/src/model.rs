//! A transformer whose layers share blocks: its weights, its decisions and its forward pass.

mod folded;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use dlt_kernels::{Kernels, Projection};
use dlt_spec::spec::{Activations, Trains};

use crate::architecture::{Architecture, StemInput};
use crate::bank::{BlockBank, InitialBlocks, place};
use crate::batch::{Dims, Input, Prepared, Tokens};
use crate::binding::{Binding, Change, Rules, Settlement};
use crate::error::Context;
use crate::graph::{ModelGraphs, Reading, Run, SideInputs};
use crate::parameters::Parameters;
use crate::{Batch, Result};
pub(crate) use folded::factors_left;

/// Table and bias that turn hidden states into scores.
pub(crate) struct Output {
    table: Tensor,
    bias: Option<Tensor>,
}

impl Output {
    pub(crate) fn projection(&self) -> Projection<'_> {
        Projection { table: &self.table, bias: self.bias.as_ref() }
    }
}

/// A transformer: an architecture, its shared parameters, a bank of blocks and the binding of
/// layers to them.
#[derive(Debug)]
pub struct Model {
    pub(crate) architecture: Arc<dyn Architecture>,
    pub(crate) shared: Parameters,
    /// The shared parameters that train.
    trained: Parameters,
    trains: Trains,
    pub(crate) bank: BlockBank,
    pub(crate) binding: Binding,
    rules: Rules,
    kernels: Kernels,
    activations: Activations,
    device: Device,
}

impl Model {
    /// A model with newly drawn weights, a pure function of the root seed.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn new(
        architecture: Arc<dyn Architecture>,
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let layout = Arc::new(architecture.shared_layout());
        let shared = Parameters::new(&layout, &layout.draw(seed, "shared", device)?)?;
        let initial = InitialBlocks::Drawn { seed };
        let division = Arc::new(architecture.division());
        let kept = (0..binding.n_layers())
            .map(|layer| division.kept().draw(seed, &place(layer), device))
            .collect::<Result<_>>()?;
        let bank = BlockBank::new(&division, &binding, BTreeMap::new(), kept, initial, device)?;

        Ok(Self::assembled(architecture, shared, bank, binding, rules, kernels))
    }

    fn assembled(
        architecture: Arc<dyn Architecture>,
        shared: Parameters,
        bank: BlockBank,
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
    ) -> Self {
        let trained = shared.clone();
        let device = bank.device().clone();
        let trains = Trains::All;
        let activations = Activations::F32;

        Self {
            architecture,
            shared,
            trained,
            trains,
            bank,
            binding,
            rules,
            kernels,
            activations,
            device,
        }
    }

    /// The same model, with activations of this format.
    #[must_use]
    pub fn computing_in(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// The same model, of which all or only the head trains.
    #[must_use]
    pub fn training(mut self, trains: Trains) -> Self {
        let own = self.architecture.own_head();
        self.trained = match trains {
            Trains::All => self.shared.clone(),
            Trains::Head => self.shared.of_names(own),
        };

        self.trains = trains;
        self
    }

    /// A model with weights that `lookup` returns by name. Frozen layers are drawn from `seed`.
    /// Without a seed their weights are looked up too, and held in memory.
    ///
    /// # Errors
    /// [`ModelError::Weight`](crate::ModelError::Weight) for a tensor that is missing or has
    /// another shape.
    pub fn from_weights(
        architecture: Arc<dyn Architecture>,
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
        lookup: &dyn Fn(&str) -> Result<Option<Tensor>>,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Self> {
        let layout = Arc::new(architecture.shared_layout());
        let shared = Parameters::new(&layout, &layout.take(architecture.shared_prefix(), lookup)?)?;
        let division = Arc::new(architecture.division());

        // By storage, so that tied layers read their block once.
        let take = |frozen: bool| -> Result<BTreeMap<usize, Vec<Tensor>>> {
            let layers =
                (0..binding.n_layers()).filter(|&layer| binding.is_frozen(layer) == frozen);
            let ids: BTreeSet<_> = layers.map(|layer| binding.storage(layer).0).collect();
            ids.into_iter()
                .map(|id| Ok((id, division.tied().take(&architecture.block_prefix(id), lookup)?)))
                .collect()
        };

        let initial = match seed {
            Some(seed) => InitialBlocks::Drawn { seed },
            None => InitialBlocks::Stored(take(true)?),
        };

        let given = take(false)?;
        let kept = (0..binding.n_layers())
            .map(|layer| division.kept().take(&architecture.block_prefix(layer), lookup))
            .collect::<Result<_>>()?;
        let bank = BlockBank::new(&division, &binding, given, kept, initial, device)?;
        Ok(Self::assembled(architecture, shared, bank, binding, rules, kernels))
    }

    /// Carries a decision out. Weights move in rising order of layers, and unused blocks are freed
    /// at once.
    ///
    /// # Errors
    /// [`ModelError::Depth`](crate::ModelError::Depth) for states of another depth; fails if the
    /// device has no memory left.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<Settlement> {
        let settlement = self.binding.apply(&self.rules, change)?;
        self.bank.apply(&settlement.moves, &self.binding)?;
        Ok(settlement)
    }

    /// Whether every layer would compute with the same weights after a decision as before it.
    ///
    /// # Errors
    /// [`ModelError::Depth`](crate::ModelError::Depth) for states of another depth.
    pub fn keeps_function(&self, change: &Change<'_>) -> Result<bool> {
        Ok(self.binding.clone().apply(&self.rules, change)?.keeps_function)
    }

    /// The model as a decision would make it, for evaluation alone. It shares all weights with this
    /// one: a layer that would get a copy reads the block that the copy would be made of. Averages
    /// (`tying.merge`) are left out.
    ///
    /// # Errors
    /// [`ModelError::Depth`](crate::ModelError::Depth) for states of another depth.
    pub fn foreseen(&self, change: &Change<'_>) -> Result<Self> {
        Ok(Self {
            architecture: Arc::clone(&self.architecture),
            shared: self.shared.clone(),
            trained: self.trained.clone(),
            trains: self.trains,
            bank: self.bank.clone(),
            binding: self.binding.foreseen(&self.rules, change)?,
            rules: self.rules,
            kernels: self.kernels,
            activations: self.activations,
            device: self.device.clone(),
        })
    }

    /// The blocks as they are now and which layer uses which, for [`go_back`](Self::go_back).
    /// Nothing is copied, so this is the state of now only until the next training step.
    #[must_use]
    pub fn hold(&self) -> HeldBlocks {
        HeldBlocks { binding: self.binding.clone(), bank: self.bank.clone() }
    }

    /// Undoes the decisions since [`hold`](Self::hold).
    pub fn go_back(&mut self, held: HeldBlocks) {
        self.binding = held.binding;
        self.bank = held.bank;
    }

    /// Sum of the negative log-likelihoods of what is wanted, in nats, without dropout.
    ///
    /// # Errors
    /// [`ModelError::Batch`](crate::ModelError::Batch) for windows that are too long or ids outside
    /// the vocabulary.
    pub fn loss_sum(&self, batch: &Batch<'_>) -> Result<f64> {
        let Prepared { input, targets, side_inputs, dims } =
            batch.prepare(self.architecture(), &self.device)?;
        let hidden = scored(&self.hidden(&input, &side_inputs, &dims)?)?;
        let shared = self.shared.tensors();
        let output = self.output(&shared)?;
        let loss = self.kernels.cross_entropy_sum(&hidden, output.projection(), &targets);

        loss.context(|| "evaluating the loss".to_owned())
    }

    /// Scores of every prediction that a batch wants, in f32 and without dropout. The wanted tokens
    /// or classes themselves have no influence.
    ///
    /// # Shapes
    /// Result (N, V) or (N, K), in the order of `wanted`. A single score z gives (N, 2): 0 and z.
    ///
    /// # Errors
    /// As [`loss_sum`](Self::loss_sum).
    pub fn scores(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let Prepared { input, side_inputs, dims, .. } =
            batch.prepare(self.architecture(), &self.device)?;

        // (B, T, C) or (N, C) -> (N, C)
        self.project(&self.hidden(&input, &side_inputs, &dims)?.flatten_to(D::Minus2)?)
    }

    /// Logits of the token that follows a window.
    ///
    /// # Shapes
    /// `tokens`: T ids; result V numbers.
    ///
    /// # Errors
    /// [`ModelError::Batch`](crate::ModelError::Batch) for no tokens, too many, or ids outside the
    /// vocabulary.
    pub fn next_logits(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let hidden = self.window(tokens)?;
        let last = hidden.dim(0)?.saturating_sub(1);

        // (T, C) -> (1, C) -> (1, V) -> (V)
        Ok(self.project(&hidden.narrow(0, last, 1)?)?.flatten_all()?.to_vec1()?)
    }

    /// Logits at every position of one window.
    ///
    /// # Shapes
    /// `tokens`: T ids; result (T, V).
    ///
    /// # Errors
    /// [`ModelError::Batch`](crate::ModelError::Batch) for no tokens, too many, or ids outside the
    /// vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Result<Tensor> {
        self.project(&self.window(tokens)?)
    }

    /// Hidden states (T, C) of one window.
    fn window(&self, tokens: &[u32]) -> Result<Tensor> {
        let input = Input::Tokens(Tokens::of(tokens));
        let (input, tokens, side_inputs) = input.prepare(1, self.architecture(), &self.device)?;
        let dims = Dims { windows: 1, tokens, reading: Reading::All };

        // (1, T, C) -> (T, C)
        Ok(self.hidden(&input, &side_inputs, &dims)?.squeeze(0)?)
    }

    /// Logits (N, V) of hidden states (N, C), in f32.
    pub(crate) fn project(&self, hidden: &Tensor) -> Result<Tensor> {
        let shared = self.shared.tensors();
        let Output { table, bias } = self.output(&shared)?;
        Ok(self.kernels.linear(&scored(hidden)?.contiguous()?, &table, bias.as_ref())?)
    }

    /// What turns hidden states into scores. A single score gets a row of zeros before its own:
    /// softmax over the scores 0 and z is the logistic function of z.
    pub(crate) fn output(&self, shared: &[Tensor]) -> Result<Output> {
        let (table, bias) = self.output_numbers()?;
        let is_single = self.architecture.head_settings().has_single_score();
        let of = |number: usize| -> Result<Tensor> {
            let own = &shared[number];
            if is_single {
                // (1, C) -> (2, C), or (1) -> (2)
                Ok(Tensor::cat(&[&own.zeros_like()?, own], 0)?)
            } else {
                Ok(own.clone())
            }
        };

        Ok(Output { table: of(table)?, bias: bias.map(of).transpose()? })
    }

    /// Numbers of the shared parameters that turn hidden states into scores: the table, which every
    /// architecture has, and the bias, if there is one.
    pub(crate) fn output_numbers(&self) -> Result<(usize, Option<usize>)> {
        let output = self.architecture.output();
        let layout = self.shared.layout();
        let table = layout.number(output.table)?;
        let bias = output.bias.map(|bias| layout.number(bias)).transpose()?;

        Ok((table, bias))
    }

    /// Hidden states that the output multiplies, without dropout.
    ///
    /// # Shapes
    /// `input` (B, T) ids or (B, N, 3 P P) patches; result (B, T, C), or (N, C) of the rows that
    /// the objective reads.
    fn hidden(&self, input: &Tensor, side_inputs: &SideInputs, dims: &Dims) -> Result<Tensor> {
        let graphs = self.graphs(dims)?;
        let first = self.stem_rows(input)?;
        let shared = self.shared.tensors();
        let run = Run { side_inputs, ..Run::plain(self.kernels, &shared) };
        let mut x = graphs.stem.result(first, &run)?;

        for layer in 0..self.binding.n_layers() {
            // Weights of a frozen layer are drawn here and dropped with this round of the loop.
            let weights = self.weights(layer)?;
            x = graphs.block.result(x, &run.of_layer(self.architecture(), layer, &weights))?;
        }

        graphs.head.result(x, &run)
    }

    /// The graphs of stem, block and head for a batch of this shape.
    pub(crate) fn graphs(&self, dims: &Dims) -> Result<ModelGraphs> {
        let shared = self.shared.layout();
        let block = self.bank.division().all();
        ModelGraphs::new(self.architecture.as_ref(), shared, block, dims)
    }

    /// What the stem starts from: rows of the token table, or patches as they are. They are in the
    /// format of activations, which every operation from here on keeps.
    ///
    /// # Shapes
    /// `input` (B, T) ids, result (B, T, C); or both (B, N, 3 P P).
    pub(crate) fn stem_rows(&self, input: &Tensor) -> Result<Tensor> {
        let rows = match self.architecture.stem_input() {
            StemInput::Tokens { table, .. } => {
                self.kernels.embedding(&self.table(table)?, input)?
            }
            StemInput::Pictures { .. } => input.clone(),
        };

        Ok(rows.to_dtype(dtype(self.activations))?)
    }

    /// A shared parameter by its name.
    fn table(&self, name: &str) -> Result<Tensor> {
        Ok(self.shared.variables()[self.shared.layout().number(name)?].as_detached_tensor())
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

    /// The parameters outside of blocks that train.
    #[must_use]
    pub fn trained_shared(&self) -> &Parameters {
        &self.trained
    }

    /// Name of the shared parameter whose rows the input tokens select, and whose gradient has
    /// nothing but these rows; `None` if the output uses it too, or the input is pictures.
    #[must_use]
    pub fn token_table(&self) -> Option<&'static str> {
        match self.architecture.stem_input() {
            StemInput::Tokens { table, .. } if self.architecture.output().table != table => {
                Some(table)
            }
            _ => None,
        }
    }

    /// How much of the model trains.
    #[must_use]
    pub fn trains(&self) -> Trains {
        self.trains
    }

    /// The slot of a position, see [`Binding::slot`]. `None` if its weights do not train or only
    /// the head does.
    #[must_use]
    pub fn slot(&self, layer: usize) -> Option<usize> {
        match self.trains {
            Trains::All => self.binding.slot(layer, self.rules.gradient),
            Trains::Head => None,
        }
    }

    /// The layers that keep parameters for themselves which train, rising: all or none.
    #[must_use]
    pub fn keepers(&self) -> Range<usize> {
        let keeps = self.bank.division().keeps_any() && self.trains == Trains::All;
        0..if keeps { self.binding.n_layers() } else { 0 }
    }

    /// All weights of a layer, in the order of its block's layout: those that its binding names, and
    /// those that it keeps. Tied weights of a frozen layer are drawn at each call.
    ///
    /// # Errors
    /// Fails if the device has no memory left for drawn weights.
    pub fn weights(&self, layer: usize) -> Result<Vec<Tensor>> {
        let tied = self.bank.weights(self.binding.storage(layer))?;
        Ok(self.bank.division().joined(tied, self.bank.kept(layer).tensors()))
    }

    /// The weights of blocks.
    #[must_use]
    pub fn bank(&self) -> &BlockBank {
        &self.bank
    }

    /// The tied parameters that layer `slot`'s optimizer state updates.
    #[must_use]
    pub fn slot_parameters(&self, slot: usize) -> &Parameters {
        self.bank.block(self.binding.storage(slot))
    }

    /// Implementation of the operations.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Number format of activations.
    #[must_use]
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// The device of the tensors.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of parameters outside of blocks.
    #[must_use]
    pub fn n_shared_parameters(&self) -> usize {
        self.shared.layout().n_parameters()
    }

    /// Number of parameters in one block, tied and kept.
    #[must_use]
    pub fn n_block_parameters(&self) -> usize {
        self.bank.division().all().n_parameters()
    }

    /// Number of parameters in blocks if so many have tied parameters of their own: what all layers
    /// keep is counted in any case.
    #[must_use]
    pub fn n_parameters_in_blocks(&self, blocks: usize) -> usize {
        self.bank.division().n_parameters(self.binding.n_layers(), blocks)
    }

    /// Number of parameters that training changes now: those outside of blocks, those of every
    /// trained storage, each once, and those that layers keep.
    #[must_use]
    pub fn n_trainable_parameters(&self) -> usize {
        let blocks = match self.trains {
            Trains::All => self.n_parameters_in_blocks(self.binding.trained().len()),
            Trains::Head => 0,
        };
        self.trained.layout().n_parameters() + blocks
    }
}

/// Blocks and binding before a decision that may be undone: see [`Model::hold`].
#[derive(Debug)]
pub struct HeldBlocks {
    binding: Binding,
    bank: BlockBank,
}

/// The number format of activations.
pub(crate) fn dtype(activations: Activations) -> DType {
    match activations {
        Activations::F32 => DType::F32,
        Activations::Bf16 => DType::BF16,
    }
}

/// Hidden states (..., C) as rows (N, C) in f32, for scores and evaluated losses.
pub(crate) fn scored(hidden: &Tensor) -> Result<Tensor> {
    Ok(hidden.flatten_to(D::Minus2)?.to_dtype(DType::F32)?)
}
