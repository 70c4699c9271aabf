//! Loss and gradients, block by block.
//!
//! The forward pass cuts the graph at every block boundary; the backward pass goes through the blocks from
//! the last to the first, so that each block's graph is freed as soon as it has been used, and each
//! position's gradient is at hand by itself: it goes to the slot that the binding names, or nowhere.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{D, Tensor, Var};
use dlt_kernels::optimizer;
use dlt_spec::spec::Checkpointing;

use crate::architecture::{DropoutPass, Pass};
use crate::error::Context;
use crate::parameters::{Tracking, Weights};
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
    /// Adds the gradients of another piece of the batch.
    ///
    /// # Errors
    /// Fails where shapes differ.
    pub fn add(&mut self, other: Self) -> Result<()> {
        accumulate(&mut self.shared, other.shared)?;
        for (slot, gradients) in other.slots {
            accumulate(self.slots.entry(slot).or_default(), gradients)?;
        }
        Ok(())
    }

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

fn accumulate(into: &mut Vec<Tensor>, gradients: Vec<Tensor>) -> Result<()> {
    if into.is_empty() {
        *into = gradients;
        return Ok(());
    }
    for (into, gradient) in into.iter().zip(&gradients) {
        optimizer::add_in_place(into, gradient)?;
    }
    Ok(())
}

/// What the forward pass kept of one block.
struct Kept {
    input: Tensor,
    /// The block's input as a leaf, its tracked weights and its output, where the graph was kept.
    graph: Option<(Var, Weights, Tensor)>,
}

impl Model {
    /// Sum of the negative log-likelihoods of a batch, in nats, and the gradients of `scale` times it.
    ///
    /// A layer that is frozen is computed again in the backward pass whatever `checkpointing` says, so that
    /// its weights are not held in between.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for windows that are too long or ids outside the vocabulary.
    pub fn gradients(&self, batch: &Batch<'_>, settings: &TrainingPass) -> Result<(f64, Gradients)> {
        let pass = Pass { kernels: self.kernels(), dropout: settings.dropout };
        let (inputs, targets) = self.tensors(batch)?;
        let untracked = self.shared.view(Tracking::Off);
        let mut x = self.architecture.embed(&untracked, &self.rows(&inputs)?, &pass)?;
        let mut kept = Vec::with_capacity(self.binding.n_layers());
        for layer in 0..self.binding.n_layers() {
            let (block, y) = self.block_forward(layer, x, settings.checkpointing, &pass)?;
            kept.push(block);
            x = y;
        }
        let mut gradients = Gradients::default();
        let (loss, mut upstream) = self.head_backward(&x, &targets, settings.scale, &pass, &mut gradients)?;
        drop(x);
        for layer in (0..self.binding.n_layers()).rev() {
            let Some(block) = kept.pop() else { break };
            upstream = self.block_backward(layer, block, &upstream, &pass, &mut gradients)?;
        }
        self.stem_backward(&inputs, &upstream, &pass, &mut gradients)?;
        Ok((loss, gradients))
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

    fn tracking(&self, layer: usize) -> Tracking {
        match self.binding.slot(layer, self.gradient_rule()) {
            Some(_) => Tracking::On,
            None => Tracking::Off,
        }
    }

    fn block_forward(
        &self,
        layer: usize,
        input: Tensor,
        checkpointing: Checkpointing,
        pass: &Pass,
    ) -> Result<(Kept, Tensor)> {
        let id = self.binding.storage(layer);
        if checkpointing == Checkpointing::Block || self.binding.is_frozen(layer) {
            let weights = self.bank.weights(id, Tracking::Off)?;
            let y = self.architecture.block(&weights, layer, &input, pass)?;
            return Ok((Kept { input, graph: None }, y));
        }
        let graph = self.block_graph(layer, &input, pass)?;
        let y = graph.2.detach();
        Ok((Kept { input, graph: Some(graph) }, y))
    }

    fn block_graph(&self, layer: usize, input: &Tensor, pass: &Pass) -> Result<(Var, Weights, Tensor)> {
        let leaf = Var::from_tensor(input)?;
        let weights = self.bank.weights(self.binding.storage(layer), self.tracking(layer))?;
        let y = self.architecture.block(&weights, layer, leaf.as_tensor(), pass)?;
        Ok((leaf, weights, y))
    }

    fn block_backward(
        &self,
        layer: usize,
        kept: Kept,
        upstream: &Tensor,
        pass: &Pass,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let (leaf, weights, y) = match kept.graph {
            Some(graph) => graph,
            None => self.block_graph(layer, &kept.input, pass)?,
        };
        let mut store = pull(&y, upstream).context(|| format!("backward pass of layer {layer}"))?;
        drop(y);
        if let Some(slot) = self.binding.slot(layer, self.gradient_rule()) {
            let own = take(&mut store, weights.tensors());
            accumulate(gradients.slots.entry(slot).or_default(), own?)?;
        }
        taken(&mut store, leaf.as_tensor())
    }

    /// Gradients of the final norm and, through the output head, of the token table.
    fn head_backward(
        &self,
        x: &Tensor,
        targets: &Tensor,
        scale: f64,
        pass: &Pass,
        gradients: &mut Gradients,
    ) -> Result<(f64, Tensor)> {
        let leaf = Var::from_tensor(x)?;
        let shared = self.shared.view(Tracking::On);
        let hidden = self.architecture.head(&shared, leaf.as_tensor(), pass)?;
        let untracked = self.shared.view(Tracking::Off);
        let table = untracked.get(self.architecture.output_table())?;
        let rows = hidden.detach().flatten_to(D::Minus2)?;
        let head =
            pass.kernels.cross_entropy(&rows, table, targets, scale, None).context(|| "loss".to_owned())?;
        let upstream = head.hidden.reshape(hidden.shape())?;
        let mut store = pull(&hidden, &upstream).context(|| "backward pass of the head".to_owned())?;
        drop(hidden);
        let table_name = self.architecture.output_table();
        for (entry, tensor) in self.shared.layout().entries().iter().zip(shared.tensors()) {
            let through_head = store.remove(tensor);
            gradients.shared.push(match (entry.name == table_name, through_head) {
                (true, None) => head.table.clone(),
                (true, Some(gradient)) => (gradient.detach() + &head.table)?,
                (false, Some(gradient)) => gradient.detach(),
                (false, None) => tensor.zeros_like()?.detach(),
            });
        }
        Ok((head.loss_sum, taken(&mut store, leaf.as_tensor())?))
    }

    /// Gradients of what makes the first block's input; the token table's is added row by row to what came
    /// through the head, without a table of its own.
    fn stem_backward(
        &self,
        inputs: &Tensor,
        upstream: &Tensor,
        pass: &Pass,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let shared = self.shared.view(Tracking::On);
        let leaf = Var::from_tensor(&self.rows(inputs)?)?;
        let embedded = self.architecture.embed(&shared, leaf.as_tensor(), pass)?;
        let mut store = pull(&embedded, upstream).context(|| "backward pass of the stem".to_owned())?;
        drop(embedded);
        let rows = taken(&mut store, leaf.as_tensor())?;
        let entries = self.shared.layout().entries();
        for ((entry, into), tensor) in entries.iter().zip(&gradients.shared).zip(shared.tensors()) {
            if let Some(gradient) = store.remove(tensor) {
                optimizer::add_in_place(into, &gradient.detach())?;
            }
            if entry.name == self.architecture.token_table() {
                pass.kernels.embedding_gradient(into, inputs, &rows)?;
            }
        }
        Ok(())
    }
}

/// Backward pass from a tensor whose gradient is `upstream`.
fn pull(y: &Tensor, upstream: &Tensor) -> candle_core::Result<GradStore> {
    (y * upstream)?.sum_all()?.backward()
}

fn taken(store: &mut GradStore, tensor: &Tensor) -> Result<Tensor> {
    match store.remove(tensor) {
        Some(gradient) => Ok(gradient.detach()),
        None => Err(ModelError::Weight {
            name: format!("gradient of shape {:?}", tensor.dims()),
            expected: tensor.dims().to_vec(),
            came: "an operation has cut the graph".to_owned(),
        }),
    }
}

fn take(store: &mut GradStore, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| taken(store, tensor)).collect()
}
