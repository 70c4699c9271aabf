//! The contents of a checkpoint as the loop uses them, checked against the spec and the data before
//! anything in the run folder changes.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_models::architecture::Architecture;
use dlt_models::binding::Rules;
use dlt_models::parameters::Layout;
use dlt_models::{Model, ModelError};
use dlt_spec::CheckedSpec;
use dlt_spec::size::Extents;

use super::{Plan, Prepared, process_mb};
use crate::Result;
use crate::assembly::kernels;
use crate::checkpoint::Checkpoint;
use crate::exchange::Share;
use crate::optimizer::resting::RestingPlace;
use crate::optimizer::{Optimizer, OptimizerState, ParameterMoments};
use crate::run_state::RunState;

impl Plan {
    /// Puts what a checkpoint holds in place of the values of a fresh run. The agent's part leaves
    /// the checkpoint, so that the Q-network is not held twice. `needed` are the predicted
    /// bytes of the next steps.
    pub(crate) fn take_up(&mut self, checkpoint: &mut Checkpoint, needed: usize) -> Result<()> {
        let expected = self.spec.model.layers;
        let got = checkpoint.recording().n_layers();
        if expected != got {
            return Err(checkpoint
                .refuse(format!("expected a recording of {expected} layers, got one of {got}")));
        }

        match (&mut self.agent, checkpoint.take_agent()) {
            (Some(agent), Some(snapshot)) => agent.restore(&snapshot)?,
            (None, None) => {}
            _ => {
                return Err(checkpoint
                    .refuse("either the checkpoint or the spec has an agent, but not both"));
            }
        }

        let run = checkpoint.run();
        if !run.statistics.fit(self.spec.model.layers) {
            return Err(checkpoint.refuse(
                "its inner products of gradients are for another number of layers, or not finite",
            ));
        }

        if run.probe.as_ref().is_some_and(|probe| !probe.loss.is_finite()) {
            return Err(
                checkpoint.refuse("its loss before the pending decision is not a finite number")
            );
        }

        for (feed, position) in [(&mut self.train, &run.train), (&mut self.rewards, &run.rewards)] {
            position.clone().map_or(Ok(()), |position| feed.resume(position))?;
        }

        self.run = RunState { predicted_bytes: needed.max(run.predicted_bytes), ..run.clone() };
        self.saved = Some(run.step);
        self.recording = checkpoint.recording().clone();

        // After the recording is in place: splits that it holds are not made again, even if more
        // steps have moved the times of the others.
        self.timetable = self.timetable.clone().behind(&self.recording, &self.spec, self.steps);
        Ok(())
    }

    /// Adds the weights and moments of a checkpoint. Moments of layers that are not independent go
    /// to `place` one layer at a time, so they are never all in memory at once.
    pub(crate) fn with_saved(
        self,
        checkpoint: &Checkpoint,
        place: &RestingPlace,
    ) -> Result<Prepared> {
        let process_mb = process_mb();
        let Self { architecture, spec, material, device, .. } = &self;
        let model = model(checkpoint, Arc::clone(architecture), spec, material.extents(), device)?;

        let share = self.share;
        let mut optimizer = Optimizer::new(&spec.optimizer, &spec.tying).of_share(share);
        optimizer.restore(moments_of(checkpoint, &model, share, place, device)?);
        Ok(Prepared { plan: self, model, optimizer, process_mb })
    }
}

fn moments_of(
    checkpoint: &Checkpoint,
    model: &Model,
    share: Share,
    place: &RestingPlace,
    device: &Device,
) -> Result<OptimizerState> {
    let architecture = model.architecture();
    let counts = &checkpoint.run().moments;
    let moments = |prefix: &str, layout: &Layout, steps: &[u64]| {
        moments(checkpoint, prefix, layout, share, steps, device)
    };
    let shared =
        moments(architecture.shared_prefix(), model.trained_shared().layout(), &counts.shared)?;

    let mut state = OptimizerState { shared, ..OptimizerState::default() };
    for (&slot, steps) in &counts.slots {
        if slot >= model.binding().n_layers() {
            return Err(checkpoint.refuse(format!(
                "it holds moments of layer {slot}, which the model does not have"
            )));
        }

        let moments = moments(&architecture.block_prefix(slot), model.bank().layout(), steps)?;
        // As after a decision: where moments are kept must not depend on whether the run was
        // resumed. Bits are the same in both places.
        if !model.binding().trains_alone(slot) && place.takes(&moments) {
            state.resting.insert(slot, Arc::new(place.put(slot, &moments)?));
        } else {
            state.slots.insert(slot, moments);
        }
    }

    for (&layer, steps) in &counts.kept {
        if !model.keepers().contains(&layer) {
            return Err(checkpoint.refuse(format!(
                "it holds moments of what layer {layer} keeps, which is nothing in this model"
            )));
        }
        let kept = model.bank().division().kept();
        state.kept.insert(layer, moments(&architecture.block_prefix(layer), kept, steps)?);
    }

    Ok(state)
}

/// This process's share of the moments of the parameters of one layout; none if none of them has made a step.
fn moments(
    checkpoint: &Checkpoint,
    prefix: &str,
    layout: &Layout,
    share: Share,
    steps: &[u64],
    device: &Device,
) -> Result<Vec<ParameterMoments>> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    if steps.len() != layout.entries().len() {
        return Err(checkpoint.refuse(format!(
            "expected {} step counts for {prefix}, got {}",
            layout.entries().len(),
            steps.len()
        )));
    }

    let lookup = |name: &str| checkpoint.tensor(name, device);
    let take = |which: &str| -> Result<Vec<Tensor>> {
        let taken = layout.take(&format!("moments/{which}/{prefix}"), &lookup);
        let taken = taken.map_err(|error| misfit(checkpoint, error))?;
        let parts = share.parts(layout, &taken)?;

        // A view would keep the whole tensor in memory.
        let copy = |part: &Tensor| if share.is_whole() { Ok(part.clone()) } else { part.copy() };
        let copies = parts.iter().map(copy).collect::<candle_core::Result<_>>();
        Ok(copies.map_err(ModelError::from)?)
    };

    let moments = take("first")?.into_iter().zip(take("second")?).zip(steps);
    Ok(moments.map(|((first, second), &step)| ParameterMoments { first, second, step }).collect())
}

/// The model of a checkpoint.
pub(crate) fn model(
    checkpoint: &Checkpoint,
    architecture: Arc<dyn Architecture>,
    spec: &CheckedSpec,
    data: Extents,
    device: &Device,
) -> Result<Model> {
    let binding = checkpoint.binding()?;
    let extents = spec.extents(data);

    for (what, expected, got) in [
        ("layers in the binding", spec.model.layers, binding.n_layers()),
        ("entries in the vocabulary", extents.vocabulary, checkpoint.vocabulary()?),
        ("classes", extents.classes, checkpoint.classes()?),
    ] {
        if expected != got {
            return Err(checkpoint.refuse(format!("expected {expected} {what}, got {got}")));
        }
    }

    let lookup = |name: &str| checkpoint.tensor(name, device);
    let rules = Rules::from(&spec.tying);
    let model = Model::from_weights(
        architecture,
        binding,
        rules,
        kernels(spec, device)?,
        &lookup,
        Some(spec.seed),
        device,
    );

    let model = model.map_err(|error| misfit(checkpoint, error))?;
    Ok(model.training(spec.training.trains).computing_in(spec.training.activations))
}

/// Names the checkpoint in the error if one of its tensors is missing or has another shape.
fn misfit(checkpoint: &Checkpoint, error: ModelError) -> crate::TrainError {
    match error {
        ModelError::Weight { .. } => checkpoint.refuse(error.to_string()),
        other => other.into(),
    }
}
