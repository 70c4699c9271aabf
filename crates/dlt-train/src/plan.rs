//! The plan of a run: all of it that can fail, made before anything is written.

pub(crate) mod restored;

use std::sync::Arc;

use candle_core::Device;
use dlt_agent::Agent;
use dlt_data::{DataError, Examples, Material, Split};
use dlt_models::Model;
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Objective, Selection};
use dlt_spec::{CheckedSpec, seeds};
use dlt_state::Recording;

use crate::assembly::{
    Weights, agent_for, certain_binding, empty_recording, initial_binding, kernels, model_for,
};
use crate::exchange::Share;
use crate::feed::Feed;
use crate::optimizer::Optimizer;
use crate::run_state::RunState;
use crate::timetable::Timetable;
use crate::{Result, TrainError, memory};

/// A run before its next step, checked against its data and the memory that is left. It lacks only
/// its weights, which [`with_weights`](Self::with_weights) adds, and its folder.
pub struct Plan {
    pub(crate) spec: CheckedSpec,
    /// What the model computes.
    pub(crate) architecture: Arc<dyn Architecture>,
    pub(crate) material: Material,
    pub(crate) device: Device,
    /// The share of this process among those that train together.
    pub(crate) share: Share,
    pub(crate) agent: Option<Agent>,
    /// The decisions so far.
    pub(crate) recording: Recording,
    pub(crate) timetable: Timetable,
    /// Training batches.
    pub(crate) train: Feed,
    /// Batches that rewards are measured on.
    pub(crate) rewards: Feed,
    pub(crate) validation: Examples,
    /// Training steps of the whole run.
    pub(crate) steps: usize,
    pub(crate) run: RunState,
    /// Step of the newest checkpoint; `None` if there is none.
    pub(crate) saved: Option<usize>,
    start_bytes: usize,
}

/// A planned run with its weights: all of it but its folder.
pub struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) model: Model,
    pub(crate) optimizer: Optimizer,
    /// Resident memory before the model was made, in megabytes.
    pub(crate) process_mb: Option<f64>,
}

impl Prepared {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Plan {
    /// The plan of a run before its first step. `recording` holds the decisions that
    /// `agent.recording` names, for policies that replay.
    ///
    /// # Errors
    /// [`TrainError::Vocabulary`] and [`TrainError::Classes`] if the data have more of them than
    /// the model, [`TrainError::Data`] if a split is missing or too short, [`TrainError::Agent`] if
    /// a recording does not fit the spec, [`TrainError::Memory`] if the run does not fit into
    /// memory.
    pub fn new(
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<Self> {
        Self::among(Share::WHOLE, spec, material, recording, device)
    }

    /// As [`new`](Self::new), for one of several processes that train together. Every one of them
    /// makes the same plan, and trains it by [`Trainer::among`](crate::Trainer::among).
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`TrainError::Processes`] if the number of processes does not
    /// divide `training.shards`.
    pub fn among(
        share: Share,
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<Self> {
        let architecture = of_spec(&spec, material.extents());
        Self::made(architecture, share, spec, material, recording, device)
    }

    /// As [`new`](Self::new), with a model of this architecture in place of the one that the spec
    /// names, for example of a family of another crate. The spec still says everything else: the
    /// number of layers, what is predicted, the training.
    ///
    /// The run folder does not name the architecture. Resume it with the same one, by
    /// [`Resumption::plan_of_architecture`](crate::Resumption::plan_of_architecture); `dlt` cannot
    /// read its model.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`TrainError::Layers`] if the architecture has another number of
    /// layers than the spec.
    pub fn of_architecture(
        architecture: Arc<dyn Architecture>,
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<Self> {
        Self::made(architecture, Share::WHOLE, spec, material, recording, device)
    }

    pub(crate) fn made(
        architecture: Arc<dyn Architecture>,
        share: Share,
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<Self> {
        let processes = share.size;
        let shards = spec.training.shards;
        if !shards.is_multiple_of(processes) {
            return Err(TrainError::Processes { processes, shards });
        }

        let layers = architecture.n_layers();
        if layers != spec.model.layers {
            return Err(TrainError::Layers { architecture: layers, spec: spec.model.layers });
        }

        check_extents(&spec, material.extents())?;
        if spec.evaluation.select_on == Selection::ValidationAndTest && !material.has(Split::Test) {
            let name = material.provenance().source.clone();
            let advice = "add files for it, or leave out evaluation.select_on";
            return Err(DataError::NoSplit { name, split: Split::Test, advice }.into());
        }

        let examples = material.examples(Split::Train);
        let windows = examples.count();
        let feed = |name| Feed::new(examples, spec.training.batch, seeds::stream(spec.seed, name));

        // Two streams: a measured reward then takes no batch from training, so a run sees the same
        // training batches whatever its rewards are.
        let train = feed("data")?;
        let rewards = feed("reward")?;

        // Memory is checked before the agent is made, because the agent can be larger than the
        // model.
        let certain = certain_binding(&spec, windows);
        let widest = material.widest();
        let fits = memory::check_fit(&*architecture, &spec, widest, &certain, processes, &device)?;
        let start_bytes = match initial_binding(&spec) {
            start if start == certain => fits.peak,
            start => memory::predict(&*architecture, &spec, widest, &start, processes)?.peak,
        };

        let agent = agent_for(&spec, recording)?;

        let all = material.examples(Split::Validation);
        let used = spec.evaluation.windows.or(all.count());
        let validation = if used < all.count() { all.first(used)? } else { all.clone() };
        let steps = spec.steps(windows);

        Ok(Self {
            agent,
            recording: empty_recording(&spec),
            timetable: Timetable::new(&spec, steps, windows, recording),
            train,
            rewards,
            validation,
            steps,
            run: RunState { predicted_bytes: start_bytes, ..RunState::new(&material, recording) },
            saved: None,
            start_bytes,
            architecture,
            spec,
            material,
            device,
            share,
        })
    }

    /// Adds the weights of step 0: freshly drawn, or those that `start` looks up for a spec that
    /// names `model.start`.
    ///
    /// # Errors
    /// Fails if `start` lacks a weight or has it in another shape, or if the device is out of
    /// memory.
    pub fn with_weights(self, start: Option<Weights<'_>>) -> Result<Prepared> {
        let process_mb = process_mb();
        let Self { architecture, spec, device, .. } = &self;
        let kernels = kernels(spec, device)?;
        let model = model_for(Arc::clone(architecture), spec, start, kernels, device)?;
        let optimizer = Optimizer::new(&spec.optimizer, &spec.tying).of_share(self.share);
        Ok(Prepared { plan: self, model, optimizer, process_mb })
    }

    /// The spec of the run.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// What the model of the run computes.
    #[must_use]
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// Number of processes that train together.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.share.size
    }

    /// The data of the run.
    #[must_use]
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// Predicted peak of the memory at step 0, in bytes, without the program and its data.
    #[must_use]
    pub fn start_bytes(&self) -> usize {
        self.start_bytes
    }
}

/// Resident memory before the model exists. Memory that reading and tokenizing have freed is given
/// back first, because it does not belong to the run.
fn process_mb() -> Option<f64> {
    memory::give_back();
    memory::resident().map(|resident| resident.now_mb)
}

/// Checks that the model has an output for every token and class of the data.
fn check_extents(spec: &CheckedSpec, data: Extents) -> Result<()> {
    let model = spec.extents(data);
    if model.vocabulary < data.vocabulary {
        return Err(TrainError::Vocabulary { tokenizer: data.vocabulary, spec: model.vocabulary });
    }

    // A single score distinguishes two classes, by its sign.
    let distinguished = if model.classes == 1 { 2 } else { model.classes };

    if spec.model.objective == Objective::Classes && distinguished < data.classes {
        return Err(TrainError::Classes { data: data.classes, spec: model.classes });
    }

    Ok(())
}
