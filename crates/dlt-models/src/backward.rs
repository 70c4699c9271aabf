//! Loss and gradients, block by block.
//!
//! The forward pass keeps of each block what its backward pass needs, or its input alone; the backward pass
//! goes through the blocks from the last to the first, so that what a block kept is freed as soon as it has
//! been used, and each position's gradient goes straight to the slot that the binding names, or nowhere.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use dlt_kernels::optimizer;
use dlt_spec::spec::Checkpointing;

use crate::architecture::DropoutPass;
use crate::error::Context;
use crate::graph::{Run, Stretches, Trace};
use crate::parameters::Layout;
use crate::{Batch, Model, ModelError, Result};

/// Settings of one training pass.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPass {
    /// What the forward pass keeps.
    pub checkpointing: Checkpointing,
    /// Dropout of this pass.
    pub dropout: Option<DropoutPass>,
    /// Factor of the summed loss whose gradient is taken: 1 / tokens of the whole batch for its mean.
    pub scale: f64,
}

/// Gradients of the shared parameters and of each slot's block, in the order of their layouts.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of the parameters outside of blocks.
    pub shared: Vec<Tensor>,
    /// Of blocks, by the layer whose optimizer state takes them.
    pub slots: BTreeMap<usize, Vec<Tensor>>,
}

impl Gradients {
    /// Norm of all gradients together.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.shared.iter().chain(self.slots.values().flatten()) {
            sum += optimizer::squared_norm(gradient)?;
        }
        Ok(sum.sqrt())
    }

    /// Bytes of all gradients together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.shared.iter().chain(self.slots.values().flatten()).map(size).sum()
    }
}

/// Gradients of one layout's parameters under way.
struct Sums(Vec<Option<Tensor>>);

impl Sums {
    /// Goes on from these gradients, or from none.
    fn from(gradients: Vec<Tensor>, layout: &Layout) -> Self {
        let mut sums: Vec<_> = gradients.into_iter().map(Some).collect();
        sums.resize(layout.entries().len(), None);
        Self(sums)
    }

    /// The gradients, of which none may be missing.
    fn finish(self, layout: &Layout) -> Result<Vec<Tensor>> {
        let sums = self.0.into_iter().zip(layout.entries());
        sums.map(|(sum, entry)| {
            sum.ok_or_else(|| ModelError::Weight {
                name: format!("gradient of {}", entry.name),
                expected: entry.shape.clone(),
                came: "the architecture does not use the parameter".to_owned(),
            })
        })
        .collect()
    }
}

/// What the forward pass kept of one block.
enum Kept {
    /// Its input: the rest is computed again.
    Input(Tensor),
    /// All that the backward pass needs.
    Trace(Trace),
}

/// One batch on its way through a model.
struct Passage<'a> {
    model: &'a Model,
    settings: &'a TrainingPass,
    stretches: Stretches,
}

impl Model {
    /// Sum of the negative log-likelihoods of a batch, in nats, and the gradients of `scale` times it.
    ///
    /// # Errors
    /// As [`add_gradients`](Self::add_gradients).
    pub fn gradients(&self, batch: &Batch<'_>, settings: &TrainingPass) -> Result<(f64, Gradients)> {
        let mut gradients = Gradients::default();
        let loss = self.add_gradients(batch, settings, &mut gradients)?;
        Ok((loss, gradients))
    }

    /// Sum of the negative log-likelihoods of a batch, in nats. The gradients of `scale` times it are added to
    /// those of other pieces of the batch.
    ///
    /// A layer that is frozen is computed again in the backward pass whatever `checkpointing` says, so that
    /// its weights are not held in between.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for windows that are too long or ids outside the vocabulary.
    pub fn add_gradients(
        &self,
        batch: &Batch<'_>,
        settings: &TrainingPass,
        gradients: &mut Gradients,
    ) -> Result<f64> {
        let (inputs, targets) = self.tensors(batch)?;
        let passage = Passage { model: self, settings, stretches: self.stretches(inputs.dims())? };
        let shared = self.shared.tensors();
        let layout = self.shared.layout();
        let mut sums = Sums::from(std::mem::take(&mut gradients.shared), layout);
        let run = passage.run(&shared, 0);
        let mut x = passage.stretches.stem.result(self.rows(&inputs)?, &run)?;
        let mut kept = Vec::with_capacity(self.binding.n_layers());
        for layer in 0..self.binding.n_layers() {
            let (block, y) = passage.block_forward(layer, x)?;
            kept.push(block);
            x = y;
        }
        let (loss, mut upstream) = passage.head(x, &targets, &shared, &mut sums)?;
        for layer in (0..self.binding.n_layers()).rev() {
            let Some(block) = kept.pop() else { break };
            let slots = &mut gradients.slots;
            upstream = passage
                .block_backward(layer, block, upstream, slots)
                .map_err(|error| error.at(|| format!("backward pass of layer {layer}")))?;
        }
        passage.stem_backward(&inputs, upstream, &shared, &mut sums)?;
        gradients.shared = sums.finish(layout)?;
        Ok(loss)
    }

    /// Name of the first parameter whose gradient is not finite.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn first_non_finite(&self, gradients: &Gradients) -> Result<Option<String>> {
        let shared = self.shared.layout().entries().iter().zip(&gradients.shared);
        let shared =
            shared.map(|(entry, tensor)| (self.architecture.shared_prefix().to_owned(), entry, tensor));
        let blocks = gradients.slots.iter().flat_map(|(&slot, tensors)| {
            let prefix = self.architecture.block_prefix(slot);
            let entries = self.bank.layout().entries().iter().zip(tensors);
            entries.map(move |(entry, tensor)| (prefix.clone(), entry, tensor))
        });
        for (prefix, entry, tensor) in shared.chain(blocks) {
            if !optimizer::squared_norm(tensor)?.is_finite() {
                return Ok(Some(format!("gradient of {prefix}{}", entry.name)));
            }
        }
        Ok(None)
    }
}

impl Passage<'_> {
    fn run<'a>(&self, parameters: &'a [Tensor], first_site: usize) -> Run<'a> {
        Run { kernels: self.model.kernels(), parameters, dropout: self.settings.dropout, first_site }
    }

    /// Where the gradient of a layer's weights goes.
    fn slot(&self, layer: usize) -> Option<usize> {
        self.model.binding.slot(layer, self.model.gradient_rule())
    }

    fn block_forward(&self, layer: usize, input: Tensor) -> Result<(Kept, Tensor)> {
        let weights = self.model.bank.weights(self.model.binding.storage(layer))?;
        let run = self.run(&weights, self.stretches.first_site(layer));
        let block = &self.stretches.block;
        if self.settings.checkpointing == Checkpointing::Block || self.model.binding.is_frozen(layer) {
            let y = block.result(input.clone(), &run)?;
            return Ok((Kept::Input(input), y));
        }
        let (y, trace) = block.forward(input, &run, self.slot(layer).is_some())?;
        Ok((Kept::Trace(trace), y))
    }

    fn block_backward(
        &self,
        layer: usize,
        kept: Kept,
        upstream: Tensor,
        slots: &mut BTreeMap<usize, Vec<Tensor>>,
    ) -> Result<Tensor> {
        let weights = self.model.bank.weights(self.model.binding.storage(layer))?;
        let run = self.run(&weights, self.stretches.first_site(layer));
        let (block, slot) = (&self.stretches.block, self.slot(layer));
        let trace = match kept {
            Kept::Trace(trace) => trace,
            Kept::Input(input) => block.replay(input, &run, slot.is_some())?,
        };
        let Some(slot) = slot else { return block.backward(trace, upstream, &run, None) };
        let layout = self.model.bank.layout();
        let mut sums = Sums::from(slots.remove(&slot).unwrap_or_default(), layout);
        let upstream = block.backward(trace, upstream, &run, Some(&mut sums.0))?;
        slots.insert(slot, sums.finish(layout)?);
        Ok(upstream)
    }

    /// Loss, and gradients of what makes it from the result of the last block; the first is that of the result.
    fn head(&self, x: Tensor, targets: &Tensor, shared: &[Tensor], sums: &mut Sums) -> Result<(f64, Tensor)> {
        let (model, run) = (self.model, self.run(shared, 0));
        let (hidden, trace) = self.stretches.head.forward(x, &run, true)?;
        let table = model.shared.layout().number(model.architecture.output_table())?;
        let rows = hidden.flatten_to(D::Minus2)?;
        let (scale, into) = (self.settings.scale, sums.0[table].as_ref());
        let head = model.kernels().cross_entropy(&rows, &shared[table], targets, scale, into);
        let head = head.context(|| "loss".to_owned())?;
        sums.0[table] = Some(head.table);
        let upstream = head.hidden.reshape(hidden.shape())?;
        drop((hidden, rows));
        Ok((head.loss_sum, self.stretches.head.backward(trace, upstream, &run, Some(&mut sums.0))?))
    }

    /// Gradients of what makes the first block's input; the token table's is added row by row to what came
    /// through the head, without a table of its own.
    fn stem_backward(
        &self,
        inputs: &Tensor,
        upstream: Tensor,
        shared: &[Tensor],
        sums: &mut Sums,
    ) -> Result<()> {
        let (model, run) = (self.model, self.run(shared, 0));
        let trace = self.stretches.stem.replay(model.rows(inputs)?, &run, true)?;
        let rows = self.stretches.stem.backward(trace, upstream, &run, Some(&mut sums.0))?;
        let table = model.shared.layout().number(model.architecture.token_table())?;
        let into = match sums.0[table].take() {
            Some(into) => into,
            None => shared[table].zeros_like()?,
        };
        model.kernels().embedding_gradient(&into, inputs, &rows)?;
        sums.0[table] = Some(into);
        Ok(())
    }
}
