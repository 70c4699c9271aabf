//! The contents of a checkpoint as the loop uses them, checked against the spec and the data before
//! anything in the run folder changes.

use std::sync::Arc;

use candle_core::Device;
use dlt_agent::Agent;
use dlt_data::{BatchPosition, Material, Split};
use dlt_kernels::Kernels;
use dlt_models::architecture::of_spec;
use dlt_models::binding::Rules;
use dlt_models::parameters::Layout;
use dlt_models::{Model, ModelError};
use dlt_spec::size::Extents;
use dlt_spec::{CheckedSpec, seeds};
use dlt_state::Recording;

use crate::Result;
use crate::assembly::agent_for;
use crate::checkpoint::Checkpoint;
use crate::feed::Feed;
use crate::optimizer::resting::RestingPlace;
use crate::optimizer::{OptimizerState, ParameterMoments};

pub(super) struct Restored {
    pub(super) optimizer: OptimizerState,
    pub(super) agent: Option<Agent>,
    /// Training batches.
    pub(super) train: Feed,
    /// Batches that rewards are measured on.
    pub(super) rewards: Feed,
}

impl Restored {
    /// Reads the model and everything else. Moments of layers that are not independent go to disk
    /// one layer at a time, so they are never all in memory at once.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        place: &RestingPlace,
        spec: &CheckedSpec,
        material: &Material,
        recording: Option<&Recording>,
        device: &Device,
    ) -> Result<(Model, Self)> {
        let run = checkpoint.run();
        let expected = spec.model.layers;
        let got = checkpoint.recording().n_layers();

        if expected != got {
            return Err(checkpoint
                .refuse(format!("expected a recording of {expected} layers, got one of {got}")));
        }

        let model = model(checkpoint, spec, material.extents(), device)?;
        let optimizer = optimizer(checkpoint, &model, place, device)?;
        let mut agent = agent_for(spec, recording)?;

        match (&mut agent, &run.agent) {
            (Some(agent), Some(snapshot)) => agent.restore(snapshot)?,
            (None, None) => {}
            _ => {
                return Err(checkpoint
                    .refuse("either the checkpoint or the spec has an agent, but not both"));
            }
        }

        if !run.statistics.fit(spec.model.layers) {
            return Err(checkpoint.refuse(
                "its inner products of gradients are for another number of layers, or not finite",
            ));
        }

        if run.probe.as_ref().is_some_and(|probe| !probe.loss.is_finite()) {
            return Err(
                checkpoint.refuse("its loss before the pending decision is not a finite number")
            );
        }

        // Both orders go through the training split, each from its own stream, as in a new run.
        let examples = material.examples(Split::Train);
        let feed = |name: &str, position: &Option<BatchPosition>| -> Result<Feed> {
            let mut feed =
                Feed::new(examples, spec.training.batch, seeds::stream(spec.seed, name))?;
            position.clone().map_or(Ok(()), |position| feed.resume(position))?;
            Ok(feed)
        };

        let train = feed("data", &run.train)?;
        let rewards = feed("reward", &run.rewards)?;
        Ok((model, Self { optimizer, agent, train, rewards }))
    }
}

fn optimizer(
    checkpoint: &Checkpoint,
    model: &Model,
    place: &RestingPlace,
    device: &Device,
) -> Result<OptimizerState> {
    let architecture = model.architecture();
    let counts = &checkpoint.run().moments;
    let moments = |prefix: &str, layout: &Layout, steps: &[u64]| {
        moments(checkpoint, prefix, layout, steps, device)
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

    Ok(state)
}

/// Moments of the parameters of one layout; none if none of them has made a step.
fn moments(
    checkpoint: &Checkpoint,
    prefix: &str,
    layout: &Layout,
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
    let take = |which: &str| {
        let taken = layout.take(&format!("moments/{which}/{prefix}"), &lookup);
        taken.map_err(|error| misfit(checkpoint, error))
    };

    let moments = take("first")?.into_iter().zip(take("second")?).zip(steps);
    Ok(moments.map(|((first, second), &step)| ParameterMoments { first, second, step }).collect())
}

/// The model of a checkpoint.
pub(crate) fn model(
    checkpoint: &Checkpoint,
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
    let architecture = of_spec(spec, data);
    let rules = Rules::from(&spec.tying);
    let model = Model::from_weights(
        architecture,
        binding,
        rules,
        Kernels::Fused,
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
