//! Loss and gradients, block by block.
//!
//! The forward pass saves what the backward pass of each block needs, or the block's input alone.
//! The backward pass visits the blocks from the last to the first and frees what was saved for a
//! block once it has been used. The gradient of each position is added to the slot that the binding
//! names; for a position without a slot it is never computed.

mod packed;
mod sketches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::{D, Tensor};
use dlt_kernels::{HeadSums, optimizer};
use dlt_spec::spec::{Checkpointing, Trains};

use crate::architecture::{DropoutPass, StemInput};
use crate::division::Division;
use crate::error::Context;
use crate::graph::{BlockPacks, ModelGraphs, Run, SideInputs, Trace, Trained, absent};
use crate::model::scored;
use crate::parameters::Layout;
use crate::{Batch, Model, ModelError, Result};
pub use packed::PackedWeights;
pub use sketches::PositionSketches;
use sketches::Sketching;

/// Settings of one training pass.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPass {
    /// What the forward pass keeps.
    pub checkpointing: Checkpointing,
    /// Dropout of this pass.
    pub dropout: Option<DropoutPass>,
    /// Factor of the summed loss in the gradients. 1 / (predictions of the whole batch) gives the
    /// gradients of the mean loss.
    pub scale: f64,
    /// Seed of the random projection that sketches the gradient of each position. All pieces of a
    /// batch have the same seed, each batch has another one. `None` makes no sketches. No gradient
    /// depends on it.
    pub sketch: Option<u64>,
}

/// Gradients of the shared parameters, of each slot's block and of what layers keep, in the order of
/// their layouts.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of the parameters outside of blocks.
    pub shared: Vec<Tensor>,
    /// Of tied parameters, by slot: the layer whose optimizer state uses them.
    pub slots: BTreeMap<usize, Vec<Tensor>>,
    /// Of the parameters that a layer keeps, by layer.
    pub kept: BTreeMap<usize, Vec<Tensor>>,
    /// Which parameters of a block are tied and which are kept; `None` before the first pass.
    pub division: Option<Arc<Division>>,
    /// Sketches of the gradient of each position, if the pass asked for them.
    pub sketches: Option<PositionSketches>,
}

impl Gradients {
    /// Euclidean norm of all gradients together.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn norm(&self) -> Result<f64> {
        Ok(optimizer::squared_norms(&self.all())?.sqrt())
    }

    /// All gradients: those outside of blocks, then block after block. The order within a block is
    /// that of its layout, so sums over gradients do not depend on what is tied.
    #[must_use]
    pub fn all(&self) -> Vec<&Tensor> {
        let mut all: Vec<&Tensor> = self.shared.iter().collect();
        let layers: BTreeSet<_> = self.slots.keys().chain(self.kept.keys()).copied().collect();

        for layer in layers {
            match (self.slots.get(&layer), self.kept.get(&layer), &self.division) {
                (Some(tied), Some(kept), Some(division)) => {
                    all.extend(division.joined(tied, kept));
                }
                (tied, kept, _) => all.extend([tied, kept].into_iter().flatten().flatten()),
            }
        }

        all
    }

    /// Adds the gradients of another part of the batch, in place. A gradient that only the other
    /// part has is moved.
    ///
    /// # Errors
    /// Fails if a shape differs or the device fails.
    pub fn add(&mut self, other: Self) -> Result<()> {
        add_all(&mut self.shared, other.shared)?;
        for (slot, gradients) in other.slots {
            add_all(self.slots.entry(slot).or_default(), gradients)?;
        }
        for (layer, gradients) in other.kept {
            add_all(self.kept.entry(layer).or_default(), gradients)?;
        }
        self.division = self.division.take().or(other.division);

        self.sketches = match (self.sketches.take(), other.sketches) {
            (Some(own), Some(other)) => Some(own.plus(&other)),
            (own, other) => own.or(other),
        };
        Ok(())
    }

    /// Bytes of all gradients together. Sketches, a few KiB, are not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.all().into_iter().map(size).sum()
    }
}

/// Adds gradients of one layout in place; none yet are replaced.
///
/// # Errors
/// Fails if a shape differs or the device fails.
pub fn add_all(into: &mut Vec<Tensor>, other: Vec<Tensor>) -> Result<()> {
    if into.is_empty() {
        *into = other;
        return Ok(());
    }

    for (into, other) in into.iter().zip(&other) {
        optimizer::add_in_place(into, other)?;
    }
    Ok(())
}

/// Whose gradients in blocks are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Those of tied parameters, of this slot.
    Slot(usize),
    /// Those of what this layer keeps.
    Layer(usize),
}

/// Receives gradients in blocks once no further layer adds to them: see
/// [`Model::add_gradients_with`].
pub type HandOver<'a, E> = &'a mut dyn FnMut(Holder, Vec<Tensor>) -> std::result::Result<(), E>;

/// Gradients of the parameters of one layout while they are summed, by number in the layout; `None`
/// where nothing has been added yet.
struct GradientSums(Vec<Option<Tensor>>);

impl GradientSums {
    /// Continues from these gradients, or from none.
    fn from(gradients: Option<Vec<Tensor>>, layout: &Layout) -> Self {
        let mut sums: Vec<_> = gradients.into_iter().flatten().map(Some).collect();
        sums.resize(layout.entries().len(), None);
        Self(sums)
    }

    /// The summed gradients.
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a parameter without a gradient: no operation uses it.
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

/// What the forward pass saved of one block.
enum SavedBlock {
    /// Nothing: no gradient goes through the block.
    Nothing,
    /// Its input: the backward pass computes the rest again.
    Input(Tensor),
    /// All that the backward pass needs.
    Trace(Trace),
}

/// The computation of one piece of a batch: forward to the loss, and back.
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

    /// Sum of the negative log-likelihoods of a batch, in nats. Adds the gradients of `scale` times
    /// this sum to `gradients`, which holds those of earlier pieces of the same batch.
    ///
    /// A frozen layer is computed again in the backward pass whatever `checkpointing` says, so that
    /// its drawn weights are not held between the two passes.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for windows that are too long, ids outside the vocabulary, or pieces
    /// of one batch with different sketch seeds.
    pub fn add_gradients(
        &self,
        batch: &Batch<'_>,
        settings: &TrainingPass,
        gradients: &mut Gradients,
    ) -> Result<f64> {
        let mut packed = PackedWeights::of_one_pass();
        self.add_gradients_with::<ModelError>(batch, settings, gradients, &mut packed, None)
    }

    /// As [`add_gradients`](Self::add_gradients) with `packed` weights, which several pieces of a
    /// batch can share. With the last piece comes `whole`: gradients in blocks go to it as soon as
    /// no lower layer adds to them, while the backward pass continues. They are not in `gradients`
    /// afterwards.
    ///
    /// # Errors
    /// As [`add_gradients`](Self::add_gradients), and any error of `whole`.
    pub fn add_gradients_with<E: From<ModelError>>(
        &self,
        batch: &Batch<'_>,
        settings: &TrainingPass,
        gradients: &mut Gradients,
        packed: &mut PackedWeights,
        mut whole: Option<HandOver<'_, E>>,
    ) -> std::result::Result<f64, E> {
        let prepared = batch.prepare(self.architecture(), self.device())?;
        let graphs = self.graphs(&prepared.dims)?;
        let step =
            TrainingStep { model: self, settings, graphs, side_inputs: &prepared.side_inputs };
        let mut sketching = self.sketching(settings, gradients)?;
        let shared = self.shared.tensors();
        let mut sums = self.shared_sums(std::mem::take(&mut gradients.shared))?;
        gradients.division = Some(Arc::clone(self.bank.division()));

        let run = step.run(&shared, 0);
        let mut x = step.graphs.stem.result(self.stem_rows(&prepared.input)?, &run)?;
        let mut saved = Vec::with_capacity(self.binding.n_layers());

        for layer in 0..self.binding.n_layers() {
            let (block, y) = step.block_forward(layer, x, packed.of(self, layer))?;
            packed.end(self, layer, layer + 1..self.binding.n_layers());
            saved.push(block);
            x = y;
        }

        let (loss, mut upstream) = step.head(x, &prepared.targets, &shared, &mut sums)?;

        // Nothing below the head trains, so the backward pass ends here.
        if self.trains() == Trains::Head {
            gradients.shared = self.trained_sums(sums)?;
            gradients.sketches = sketching.map(Sketching::finish).transpose()?;
            return Ok(loss);
        }

        for layer in (0..self.binding.n_layers()).rev() {
            // `pop` hands over what was saved, so that it is freed with this block. Memory falls as
            // the pass goes down.
            let block = saved.pop().ok_or_else(|| absent("what the forward pass saved"))?;
            upstream = step
                .block_backward(layer, block, upstream, gradients, packed.of(self, layer))
                .map_err(|error| error.at(|| format!("backward pass of layer {layer}")))?;
            packed.end(self, layer, 0..layer);

            // Before another layer adds to the same slot: the sketch of this layer's gradient is
            // the difference of the slot's sums after it and before it.
            if let (Some(sketching), Some(slot)) = (&mut sketching, self.slot(layer)) {
                let sums = gradients.slots.get(&slot);
                sketching.take(layer, slot, sums.map_or(&[], Vec::as_slice))?;
            }

            if let (Some(whole), Some(slot)) = (&mut whole, self.slot(layer))
                && (0..layer).all(|lower| self.slot(lower) != Some(slot))
            {
                whole(Holder::Slot(slot), gradients.slots.remove(&slot).unwrap_or_default())?;
            }
            if let Some(whole) = &mut whole
                && let Some(kept) = gradients.kept.remove(&layer)
            {
                whole(Holder::Layer(layer), kept)?;
            }
        }

        step.stem_backward(&prepared.input, upstream, &shared, &mut sums)?;
        gradients.shared = self.trained_sums(sums)?;
        gradients.sketches = sketching.map(Sketching::finish).transpose()?;

        Ok(loss)
    }

    /// The sketches that a pass continues from, if it asks for any.
    fn sketching(
        &self,
        settings: &TrainingPass,
        gradients: &mut Gradients,
    ) -> Result<Option<Sketching>> {
        let earlier = gradients.sketches.take();

        // Earlier pieces of the batch always leave shared gradients.
        let is_continued = !gradients.shared.is_empty();
        let layers = self.binding.n_layers();
        Sketching::begin(settings.sketch, earlier, is_continued, self.kernels(), layers)
    }

    /// Sums in the layout of all shared parameters, from the gradients of those that train. Graphs
    /// know only the numbers of the full layout.
    fn shared_sums(&self, gradients: Vec<Tensor>) -> Result<GradientSums> {
        let mut sums = vec![None; self.shared.layout().entries().len()];
        for (entry, gradient) in self.trained_shared().layout().entries().iter().zip(gradients) {
            sums[self.shared.layout().number(entry.name)?] = Some(gradient);
        }
        Ok(GradientSums(sums))
    }

    /// Gradients of the shared parameters that train; the others are dropped.
    fn trained_sums(&self, GradientSums(mut sums): GradientSums) -> Result<Vec<Tensor>> {
        let layout = self.trained_shared().layout();
        let places = layout.entries().iter().map(|entry| self.shared.layout().number(entry.name));
        let trained = places.map(|place| Ok(sums[place?].take())).collect::<Result<_>>()?;
        GradientSums(trained).finish(layout)
    }

    /// Number of the first gradient that is NaN or infinite, in the order of [`Gradients::all`].
    /// [`gradient_name`](Self::gradient_name) names it.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn first_non_finite(&self, gradients: &Gradients) -> Result<Option<usize>> {
        for (number, tensor) in gradients.all().into_iter().enumerate() {
            if !optimizer::squared_norm(tensor)?.is_finite() {
                return Ok(Some(number));
            }
        }

        Ok(None)
    }

    /// Name of a gradient by its number among all gradients of a step; `None` if there are fewer.
    #[must_use]
    pub fn gradient_name(&self, number: usize) -> Option<String> {
        let shared = self.trained_shared().layout().entries();
        let prefix = self.architecture.shared_prefix();
        let mut names = shared.iter().map(|entry| format!("{prefix}{}", entry.name));
        if number < shared.len() {
            return names.nth(number).map(|name| format!("gradient of {name}"));
        }

        let slots = self.slots();
        let division = self.bank.division();
        let layers: BTreeSet<_> = slots.iter().copied().chain(self.keepers()).collect();
        let in_blocks = layers.into_iter().flat_map(|layer| {
            let has = [slots.contains(&layer), !self.keepers().is_empty()];
            let entries = division.all().entries().iter().zip(division.is_kept());
            entries
                .filter(move |(_, is_kept)| has[usize::from(**is_kept)])
                .map(move |(entry, _)| (layer, entry.name))
        });

        let (layer, name) = { in_blocks }.nth(number - shared.len())?;
        Some(format!("gradient of {}{name}", self.architecture.block_prefix(layer)))
    }

    /// The parameters of a layer's block that get gradients.
    fn trained(&self, layer: usize) -> Trained<'_> {
        if self.slot(layer).is_some() {
            Trained::All
        } else if self.keepers().contains(&layer) {
            Trained::Marked(self.bank.division().is_kept())
        } else {
            Trained::Nothing
        }
    }

    /// The slots that get gradients, in rising order.
    #[must_use]
    pub fn slots(&self) -> Vec<usize> {
        let layers = 0..self.binding.n_layers();
        layers.filter_map(|layer| self.slot(layer)).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl<'a> TrainingStep<'a> {
    fn run(&self, parameters: &'a [Tensor], first_site: usize) -> Run<'a> {
        let dropout = self.settings.dropout;
        let side_inputs = self.side_inputs;
        Run { dropout, first_site, side_inputs, ..Run::plain(self.model.kernels(), parameters) }
    }

    /// A run of a layer's block. Its weights have their own lifetime, because those of a frozen
    /// layer are drawn for this run only.
    fn block_run<'b>(
        &'b self,
        layer: usize,
        weights: &'b [Tensor],
        packs: Option<BlockPacks<'b>>,
    ) -> Run<'b> {
        let run = Run {
            packs,
            trained: self.model.trained(layer),
            first_site: self.graphs.first_site(layer),
            ..self.run(&[], 0)
        };
        run.of_layer(self.model.architecture(), layer, weights)
    }

    fn block_forward(
        &self,
        layer: usize,
        input: Tensor,
        packs: Option<BlockPacks<'_>>,
    ) -> Result<(SavedBlock, Tensor)> {
        let weights = self.model.weights(layer)?;
        let run = self.block_run(layer, &weights, packs);
        let block = &self.graphs.block;

        // No gradient goes below the head, so no block has to save anything.
        if self.model.trains() == Trains::Head {
            return Ok((SavedBlock::Nothing, block.result(input, &run)?));
        }

        if self.settings.checkpointing == Checkpointing::Block
            || self.model.binding.is_frozen(layer)
        {
            let y = block.result(input.clone(), &run)?;
            return Ok((SavedBlock::Input(input), y));
        }

        let (y, trace) = block.forward(input, &run)?;
        Ok((SavedBlock::Trace(trace), y))
    }

    fn block_backward(
        &self,
        layer: usize,
        saved: SavedBlock,
        upstream: Tensor,
        gradients: &mut Gradients,
        packs: Option<BlockPacks<'_>>,
    ) -> Result<Tensor> {
        let weights = self.model.weights(layer)?;
        let run = self.block_run(layer, &weights, packs);
        let block = &self.graphs.block;

        let trace = match saved {
            SavedBlock::Nothing => return Err(absent("what its backward pass reads")),
            SavedBlock::Trace(trace) => trace,
            SavedBlock::Input(input) => block.replay(input, &run)?,
        };

        // If nothing of the block trains, it only passes the gradient on: no weight gradient is
        // computed.
        let passed = || absent("a gradient of its input");
        if !run.trained.has_any() {
            return block.backward(trace, upstream, &run, None)?.ok_or_else(passed);
        }

        let division = self.model.bank.division();
        let slot = self.model.slot(layer);
        let tied = slot.and_then(|slot| gradients.slots.remove(&slot));
        let tied = GradientSums::from(tied, division.tied());
        let kept = GradientSums::from(gradients.kept.remove(&layer), division.kept());
        let mut sums = division.joined(tied.0, kept.0);

        let upstream = block.backward(trace, upstream, &run, Some(&mut sums))?;
        let (tied, kept) = division.divided(sums);
        if let Some(slot) = slot {
            gradients.slots.insert(slot, GradientSums(tied).finish(division.tied())?);
        }
        if division.keeps_any() {
            gradients.kept.insert(layer, GradientSums(kept).finish(division.kept())?);
        }

        upstream.ok_or_else(passed)
    }

    /// Sum of the losses, and the gradient of the last block's result. Adds the gradients of the
    /// head's and the output's parameters to `sums`.
    ///
    /// # Shapes
    /// `x` and the gradient (B, T, C); `targets` (N).
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
        let (hidden, trace) = head.forward(x, &run)?;

        // (B, T, C) or (N, C) -> (N, C). The scores of a vocabulary are by far the largest products
        // of the step, so they keep the format of activations. Scores of classes are f32.
        let rows = if model.architecture().head_settings().has_classes() {
            scored(&hidden)?
        } else {
            hidden.flatten_to(D::Minus2)?
        };

        let (table, bias) = model.output_numbers()?;
        let is_single = model.architecture().head_settings().has_single_score();

        // The table of a single score has a row of zeros before the parameter's only row. So the
        // kernel cannot add to the parameter's sum in place; the loop below does it.
        let sum = |number: usize| sums.0[number].as_ref().filter(|_| !is_single);
        let into = HeadSums { table: sum(table), bias: bias.and_then(sum) };

        let output = model.output(shared)?;
        let made = model.kernels().cross_entropy(
            &rows,
            output.projection(),
            targets,
            self.settings.scale,
            into,
        );

        let made = made.context(|| "loss".to_owned())?;
        for (number, gradient) in [(Some(table), Some(made.table)), (bias, made.bias)] {
            let (Some(number), Some(gradient)) = (number, gradient) else { continue };

            // Of a single score: (2, C) -> (1, C), or (2) -> (1).
            sums.0[number] = Some(match (is_single, sums.0[number].take()) {
                (false, _) => gradient,
                (true, None) => gradient.narrow(0, 1, 1)?.copy()?,
                (true, Some(sum)) => {
                    model.kernels().add(&sum, &gradient.narrow(0, 1, 1)?.copy()?)?
                }
            });
        }

        // (N, C) -> the shape of the head's result. The rest is freed before the head's backward
        // pass needs memory.
        let upstream = made.hidden.reshape(hidden.shape())?.to_dtype(hidden.dtype())?;
        drop((hidden, rows, made.hidden));

        let upstream = head.backward(trace, upstream, &run, Some(&mut sums.0))?;
        Ok((made.loss_sum, upstream.ok_or_else(|| absent("a gradient of its input"))?))
    }

    /// Adds the gradients of what makes the first block's input to `sums`. That of the token table
    /// is added row by row, to the gradient from the head if the output is tied: a second table is
    /// never made.
    ///
    /// # Shapes
    /// `input` (B, T) ids or (B, N, 3 P P) patches; `upstream` (B, T, C).
    fn stem_backward(
        &self,
        input: &Tensor,
        upstream: Tensor,
        shared: &[Tensor],
        sums: &mut GradientSums,
    ) -> Result<()> {
        let model = self.model;
        let run = self.run(shared, 0);
        let trace = self.graphs.stem.replay(model.stem_rows(input)?, &run)?;
        let rows = self.graphs.stem.backward(trace, upstream, &run, Some(&mut sums.0))?;

        // Patches are data and have no gradient.
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
