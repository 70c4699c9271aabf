//! Loss and gradients, block by block.
//!
//! The forward pass keeps of each block what its backward pass needs, or its input alone; the
//! backward pass goes through the blocks from the last to the first, so that what a block kept is
//! freed as soon as it has been used, and each position's gradient goes straight to the slot that
//! the binding names, or nowhere.

mod sketches;

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use dlt_kernels::{HeadSums, optimizer};
use dlt_spec::spec::{Checkpointing, Trains};

use crate::architecture::{DropoutPass, StemInput};
use crate::error::Context;
use crate::graph::{ModelGraphs, Run, SideInputs, Trace, absent};
use crate::model::scored;
use crate::parameters::Layout;
use crate::{Batch, Model, ModelError, Result};
pub use sketches::PositionSketches;
use sketches::Sketching;

/// Settings of one training pass.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPass {
    /// What the forward pass keeps.
    pub checkpointing: Checkpointing,
    /// Dropout of this pass.
    pub dropout: Option<DropoutPass>,
    /// Factor of the summed loss whose gradient is taken: 1 / tokens of the whole batch for its
    /// mean.
    pub scale: f64,
    /// Seed of the random projection by which each position's gradient is sketched; the same for
    /// every piece of a batch, another one for each batch. `None` sketches nothing. No gradient
    /// depends on it.
    pub sketch: Option<u64>,
}

/// Gradients of the shared parameters and of each slot's block, in the order of their layouts.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of the parameters outside of blocks.
    pub shared: Vec<Tensor>,
    /// Of blocks, by the layer whose optimizer state takes them.
    pub slots: BTreeMap<usize, Vec<Tensor>>,
    /// Of each position's gradient, where the pass asked for them.
    pub sketches: Option<PositionSketches>,
}

impl Gradients {
    /// Norm of all gradients together.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn norm(&self) -> Result<f64> {
        let all: Vec<&Tensor> = self.shared.iter().chain(self.slots.values().flatten()).collect();
        Ok(optimizer::squared_norms(&all)?.sqrt())
    }

    /// Bytes of all gradients together, without sketches, which take some KiB.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.shared.iter().chain(self.slots.values().flatten()).map(size).sum()
    }
}

/// Gradients of one layout's parameters under way.
struct GradientSums(Vec<Option<Tensor>>);

impl GradientSums {
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
                got: "the architecture does not use the parameter".to_owned(),
            })
        })
        .collect()
    }
}

/// What the forward pass kept of one block.
enum SavedBlock {
    /// Nothing: no gradient goes through it.
    Nothing,
    /// Its input: the rest is computed again.
    Input(Tensor),
    /// All that the backward pass needs.
    Trace(Trace),
}

/// One batch on its way through a model.
struct TrainingStep<'a> {
    model: &'a Model,
    settings: &'a TrainingPass,
    graphs: ModelGraphs,
    side_inputs: &'a SideInputs,
}

impl Model {
    /// Sum of the negative log-likelihoods of a batch, in nats, and the gradients of `scale` times
    /// it.
    ///
    /// # Errors
    /// As [`add_gradients`](Self::add_gradients).
    pub fn gradients(
        &self,
        batch: &Batch<'_>,
        settings: &TrainingPass,
    ) -> Result<(f64, Gradients)> {
        let mut gradients = Gradients::default();
        let loss = self.add_gradients(batch, settings, &mut gradients)?;
        Ok((loss, gradients))
    }

    /// Sum of the negative log-likelihoods of a batch, in nats. The gradients of `scale` times it
    /// are added to those of other pieces of the batch.
    ///
    /// A layer that is frozen is computed again in the backward pass whatever `checkpointing` says,
    /// so that its weights are not held in between.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for windows that are too long or ids outside the vocabulary.
    pub fn add_gradients(
        &self,
        batch: &Batch<'_>,
        settings: &TrainingPass,
        gradients: &mut Gradients,
    ) -> Result<f64> {
        let prepared = batch.prepare(self.architecture(), self.device())?;
        let graphs = self.graphs(&prepared.dims)?;
        let step =
            TrainingStep { model: self, settings, graphs, side_inputs: &prepared.side_inputs };
        let mut sketching = self.sketching(settings, gradients)?;
        let shared = self.shared.tensors();
        let mut sums = self.shared_sums(std::mem::take(&mut gradients.shared))?;

        let run = step.run(&shared, 0);
        let mut x = step.graphs.stem.result(self.stem_rows(&prepared.input)?, &run)?;
        let mut kept = Vec::with_capacity(self.binding.n_layers());

        for layer in 0..self.binding.n_layers() {
            let (block, y) = step.block_forward(layer, x)?;
            kept.push(block);
            x = y;
        }

        let (loss, mut upstream) = step.head(x, &prepared.targets, &shared, &mut sums)?;
        if self.trains() == Trains::Head {
            gradients.shared = self.trained_sums(sums)?;
            gradients.sketches = sketching.map(Sketching::finish).transpose()?;
            return Ok(loss);
        }

        for layer in (0..self.binding.n_layers()).rev() {
            let Some(block) = kept.pop() else { break };
            let slots = &mut gradients.slots;
            upstream = step
                .block_backward(layer, block, upstream, slots)
                .map_err(|error| error.at(|| format!("backward pass of layer {layer}")))?;

            if let (Some(sketching), Some(slot)) = (&mut sketching, self.slot(layer)) {
                sketching.take(layer, slot, slots.get(&slot).map_or(&[], Vec::as_slice))?;
            }
        }

        step.stem_backward(&prepared.input, upstream, &shared, &mut sums)?;
        gradients.shared = self.trained_sums(sums)?;
        gradients.sketches = sketching.map(Sketching::finish).transpose()?;

        Ok(loss)
    }

    /// The sketches that a pass goes on from, if it asks for any.
    fn sketching(
        &self,
        settings: &TrainingPass,
        gradients: &mut Gradients,
    ) -> Result<Option<Sketching>> {
        let earlier = gradients.sketches.take();
        let again = !gradients.shared.is_empty();
        Sketching::begin(settings.sketch, earlier, again, self.kernels(), self.binding.n_layers())
    }

    /// Sums by the layout of all shared parameters, from those of the ones that train.
    fn shared_sums(&self, gradients: Vec<Tensor>) -> Result<GradientSums> {
        let mut sums = vec![None; self.shared.layout().entries().len()];
        for (entry, gradient) in self.trained_shared().layout().entries().iter().zip(gradients) {
            sums[self.shared.layout().number(entry.name)?] = Some(gradient);
        }
        Ok(GradientSums(sums))
    }

    /// Gradients of the shared parameters that train.
    fn trained_sums(&self, GradientSums(mut sums): GradientSums) -> Result<Vec<Tensor>> {
        let layout = self.trained_shared().layout();
        let places = layout.entries().iter().map(|entry| self.shared.layout().number(entry.name));
        let trained = places.map(|place| Ok(sums[place?].take())).collect::<Result<_>>()?;
        GradientSums(trained).finish(layout)
    }

    /// Name of the first parameter whose gradient is not finite.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn first_non_finite(&self, gradients: &Gradients) -> Result<Option<String>> {
        let shared = self.trained_shared().layout().entries().iter().zip(&gradients.shared);
        let shared = shared
            .map(|(entry, tensor)| (self.architecture.shared_prefix().to_owned(), entry, tensor));
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

impl<'a> TrainingStep<'a> {
    fn run(&self, parameters: &'a [Tensor], first_site: usize) -> Run<'a> {
        let dropout = self.settings.dropout;
        let side_inputs = self.side_inputs;
        Run { dropout, first_site, side_inputs, ..Run::plain(self.model.kernels(), parameters) }
    }

    /// A run of a layer's block; its weights may live shorter than the batch.
    fn block_run<'b>(&'b self, layer: usize, weights: &'b [Tensor]) -> Run<'b> {
        let run = Run { first_site: self.graphs.first_site(layer), ..self.run(&[], 0) };
        run.of_layer(self.model.architecture(), layer, weights)
    }

    fn block_forward(&self, layer: usize, input: Tensor) -> Result<(SavedBlock, Tensor)> {
        let weights = self.model.bank.weights(self.model.binding.storage(layer))?;
        let run = self.block_run(layer, &weights);
        let block = &self.graphs.block;

        if self.model.trains() == Trains::Head {
            return Ok((SavedBlock::Nothing, block.result(input, &run)?));
        }

        if self.settings.checkpointing == Checkpointing::Block
            || self.model.binding.is_frozen(layer)
        {
            let y = block.result(input.clone(), &run)?;
            return Ok((SavedBlock::Input(input), y));
        }

        let (y, trace) = block.forward(input, &run, self.model.slot(layer).is_some())?;
        Ok((SavedBlock::Trace(trace), y))
    }

    fn block_backward(
        &self,
        layer: usize,
        kept: SavedBlock,
        upstream: Tensor,
        slots: &mut BTreeMap<usize, Vec<Tensor>>,
    ) -> Result<Tensor> {
        let weights = self.model.bank.weights(self.model.binding.storage(layer))?;
        let run = self.block_run(layer, &weights);
        let block = &self.graphs.block;
        let slot = self.model.slot(layer);

        let trace = match kept {
            SavedBlock::Nothing => return Err(absent("what its backward pass reads")),
            SavedBlock::Trace(trace) => trace,
            SavedBlock::Input(input) => block.replay(input, &run, slot.is_some())?,
        };

        let passed = || absent("a gradient of its input");
        let Some(slot) = slot else {
            return block.backward(trace, upstream, &run, None)?.ok_or_else(passed);
        };
        let layout = self.model.bank.layout();
        let mut sums = GradientSums::from(slots.remove(&slot).unwrap_or_default(), layout);

        let upstream = block.backward(trace, upstream, &run, Some(&mut sums.0))?;
        slots.insert(slot, sums.finish(layout)?);
        upstream.ok_or_else(passed)
    }

    /// Loss, and gradients of what makes it from the result of the last block; the first is that of
    /// the result.
    fn head(
        &self,
        x: Tensor,
        targets: &Tensor,
        shared: &[Tensor],
        sums: &mut GradientSums,
    ) -> Result<(f64, Tensor)> {
        let model = self.model;
        let head = &self.graphs.head;
        let run = self.run(shared, self.graphs.head_site(model.binding.n_layers()));
        let (hidden, trace) = head.forward(x, &run, true)?;

        // Of a vocabulary, the products are by far the largest of the step: they take activations
        // as they are.
        let rows = match model.architecture().head_settings().has_classes() {
            true => scored(&hidden)?,
            false => hidden.flatten_to(D::Minus2)?,
        };

        let [table, bias] = model.output_numbers()?;
        let is_single = model.architecture().head_settings().has_single_score();

        // The rows of a single score are not its parameters' own: their gradient is added
        // afterwards.
        let sum = |number: Option<usize>| {
            number.filter(|_| !is_single).and_then(|number| sums.0[number].as_ref())
        };
        let into = HeadSums { table: sum(table), bias: sum(bias) };

        let output = model.output(shared)?;
        let made = model.kernels().cross_entropy(
            &rows,
            output.projection(),
            targets,
            self.settings.scale,
            into,
        );

        let made = made.context(|| "loss".to_owned())?;
        for (number, gradient) in [(table, Some(made.table)), (bias, made.bias)] {
            let (Some(number), Some(gradient)) = (number, gradient) else { continue };
            sums.0[number] = Some(match (is_single, sums.0[number].take()) {
                (false, _) => gradient,
                (true, None) => gradient.narrow(0, 1, 1)?.copy()?,
                (true, Some(sum)) => {
                    model.kernels().add(&sum, &gradient.narrow(0, 1, 1)?.copy()?)?
                }
            });
        }

        let upstream = made.hidden.reshape(hidden.shape())?.to_dtype(hidden.dtype())?;
        drop((hidden, rows, made.hidden));

        let upstream = head.backward(trace, upstream, &run, Some(&mut sums.0))?;
        Ok((made.loss_sum, upstream.ok_or_else(|| absent("a gradient of its input"))?))
    }

    /// Gradients of what makes the first block's input; the token table's is added row by row to
    /// what came through the head, without a table of its own.
    fn stem_backward(
        &self,
        input: &Tensor,
        upstream: Tensor,
        shared: &[Tensor],
        sums: &mut GradientSums,
    ) -> Result<()> {
        let model = self.model;
        let run = self.run(shared, 0);
        let trace = self.graphs.stem.replay(model.stem_rows(input)?, &run, true)?;
        let rows = self.graphs.stem.backward(trace, upstream, &run, Some(&mut sums.0))?;

        let (StemInput::Tokens { table, .. }, Some(rows)) = (model.architecture.stem_input(), rows)
        else {
            return Ok(());
        };

        let table = model.shared.layout().number(table)?;
        let into = match sums.0[table].take() {
            Some(into) => into,
            None => shared[table].zeros_like()?,
        };

        model.kernels().embedding_gradient(&into, input, &rows)?;
        sums.0[table] = Some(into);
        Ok(())
    }
}
