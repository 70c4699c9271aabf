//! The loop: Algorithm 1, read from top to bottom in [`Trainer::advance`].

mod deciding;
mod evaluated;
mod health;
pub(crate) mod restored;
mod saved;

use candle_core::Device;
use dlt_agent::{Agent, Measured};
use dlt_data::{DataError, Examples, Material, Split};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_spec::record::{DecisionRow, MetricRow, StepRow};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Objective, Selection};
use dlt_spec::{CheckedSpec, seeds};
use dlt_state::Recording;

use crate::assembly::{Weights, agent_for, certain_binding, empty_recording, model_for};
use crate::checkpoint::Probe;
use crate::clock::{Clock, per_second};
use crate::ending::Times;
use crate::evaluation::Evaluating;
use crate::feed::Feed;
use crate::folder::RunFolder;
use crate::means::{Means, Peaks, Sample};
use crate::optimizer::Optimizer;
use crate::optimizer::resting::RestingPlace;
use crate::schedule::learning_rate;
use crate::statistics::Statistics;
use crate::timetable::{self, Timetable};
use crate::trainer::evaluated::Best;
use crate::trainer::health::Health;
use crate::trainer::saved::Saving;
use crate::{Result, TrainError, memory, step};

/// What one training step did, for whoever watches.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Training steps done.
    pub step: usize,
    /// Training steps of the whole run.
    pub steps: usize,
    /// Mean cross-entropy of the step's batch, in nats.
    pub loss: f64,
    /// Layers that the state calls independent.
    pub independent_layers: usize,
    /// Training tokens a second, evaluation apart; nothing where the clock shows no time passing.
    pub tokens_per_s: Option<f64>,
    /// The decision that came before the step, where there was one.
    pub decision: Option<DecisionRow>,
    /// Loss and accuracy on the validation split after the step, where they were measured.
    pub validation: Option<Measured>,
}

/// A run under way.
pub struct Trainer {
    spec: CheckedSpec,
    folder: RunFolder,
    device: Device,
    /// Sizes that hang on the data, as the model has them.
    extents: Extents,
    model: Model,
    optimizer: Optimizer,
    agent: Option<Agent>,
    recording: Recording,
    timetable: Timetable,
    /// Training steps that a late reward waits for.
    reward_after: usize,
    statistics: Statistics,
    train: Feed,
    rewards: Feed,
    validation: Examples,
    material: Material,
    step: usize,
    steps: usize,
    evaluate_every: usize,
    pending: Option<DecisionRow>,
    /// The loss before the pending decision, where its reward is made of it.
    probe: Option<Probe>,
    means: Means,
    best: Option<Best>,
    best_on_test: Option<f64>,
    state_bytes_peak: usize,
    /// Resident memory before the model was made, and the most that was predicted beside it.
    process_mb: Option<f64>,
    predicted_bytes: usize,
    /// Of the processes before this one.
    peaks_before: Peaks,
    clock: Clock,
    times: Times,
    saving: Saving,
    health: Health,
    watch: Watch,
}

/// Is told how far evaluations are, which may take longer than training.
pub type Watch = Box<dyn FnMut(Evaluating)>;

/// Resident memory before a model is there. What reading and tokenizing have left free is not the
/// run's.
fn process_mb() -> Option<f64> {
    memory::give_back();
    memory::resident().map(|resident| resident.now_mb)
}

/// The model has to have room for every token and class of the data.
fn check_extents(spec: &CheckedSpec, data: Extents) -> Result<()> {
    let model = spec.extents(data);
    if model.vocabulary < data.vocabulary {
        return Err(TrainError::Vocabulary { tokenizer: data.vocabulary, spec: model.vocabulary });
    }

    // A single score tells two classes apart.
    let told = if model.classes == 1 { 2 } else { model.classes };

    match spec.model.objective == Objective::Classes && told < data.classes {
        true => Err(TrainError::Classes { data: data.classes, spec: model.classes }),
        false => Ok(()),
    }
}

impl Trainer {
    /// What [`new`](Self::new) would refuse about a spec and its data: to be asked before a folder
    /// is made.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check(
        spec: &CheckedSpec,
        material: &Material,
        recording: Option<&Recording>,
        device: &Device,
    ) -> Result<()> {
        check_extents(spec, material.extents())?;
        if spec.evaluation.select_on == Selection::ValidationAndTest && !material.has(Split::Test) {
            let name = material.provenance().source.clone();
            let advice = "add files for it, or leave out evaluation.select_on";
            return Err(DataError::NoSplit { name, split: Split::Test, advice }.into());
        }

        material.batches(spec.training.batch, seeds::stream(spec.seed, "data"))?;
        // Before an agent is made, which may be larger than the model.
        memory::check_fit(
            spec,
            material,
            &certain_binding(spec, material.examples(Split::Train).count()),
            device,
        )?;

        agent_for(spec, recording).map(drop)
    }

    /// A run before its first step. `recording` is what `agent.recording` names, for policies that
    /// replay; `start` looks up the weights that `model.start` names.
    ///
    /// # Errors
    /// [`TrainError::Vocabulary`] and [`TrainError::Classes`] where the data have more of them than
    /// the model, [`TrainError::Data`] where a split is too short, [`TrainError::Agent`] where a
    /// recording does not fit, [`TrainError::Memory`] where the model does not.
    pub fn new(
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        start: Option<Weights<'_>>,
        folder: RunFolder,
        device: Device,
    ) -> Result<Self> {
        Self::check(&spec, &material, recording, &device)?;
        let process_mb = process_mb();
        let model = model_for(&spec, material.extents(), start, Kernels::Fused, &device)?;
        Self::with_model(model, process_mb, spec, material, recording, folder, device)
    }

    /// A run before its first step, with a model that is there already.
    fn with_model(
        model: Model,
        process_mb: Option<f64>,
        spec: CheckedSpec,
        material: Material,
        recording: Option<&Recording>,
        folder: RunFolder,
        device: Device,
    ) -> Result<Self> {
        let examples = material.examples(Split::Train).clone();
        let batch = spec.training.batch;
        let seed = spec.seed;
        let validation = material.examples(Split::Validation).clone();
        let used = spec.evaluation.windows.or(validation.count());
        let steps = spec.steps(examples.count());

        Ok(Self {
            optimizer: Optimizer::new(&spec.optimizer, &spec.tying)
                .resting_in(RestingPlace::in_run(folder.held())),
            agent: agent_for(&spec, recording)?,
            recording: empty_recording(&spec),
            timetable: Timetable::new(&spec, steps, examples.count(), recording),
            reward_after: timetable::every(&spec, examples.count()),
            train: Feed::new(&examples, batch, seeds::stream(seed, "data"))?,
            rewards: Feed::new(&examples, batch, seeds::stream(seed, "reward"))?,
            validation: if used < validation.count() {
                validation.first(used)?
            } else {
                validation
            },
            step: 0,
            steps,
            evaluate_every: spec.evaluate_every(examples.count()),
            pending: None,
            probe: None,
            statistics: Statistics::default(),
            means: Means::default(),
            best: None,
            best_on_test: None,
            state_bytes_peak: 0,
            peaks_before: Peaks::default(),
            process_mb,
            predicted_bytes: memory::predict(&spec, &material, model.binding())?.peak,
            model,
            clock: Clock::start(),
            times: Times::default(),
            saving: Saving::new(&spec, recording),
            health: Health::new(spec.training.non_finite),
            watch: Box::new(|_| ()),
            extents: spec.extents(material.extents()),
            material,
            spec,
            folder,
            device,
        })
    }

    /// One training step with what belongs to it; `None` once all have been made.
    ///
    /// The decision of line 7 of Algorithm 1 stands before the step that follows it, which is the
    /// same sequence: so no decision is made that is never trained.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] where the loss or a gradient is not finite, [`TrainError::Io`]
    /// where the run folder cannot be written.
    pub fn advance(&mut self) -> Result<Option<StepReport>> {
        if self.step >= self.steps {
            return Ok(None);
        }

        let started = Clock::start();
        let mut decision = None;
        for turn in self.timetable.turns_after(self.step) {
            decision = self.deciding(|trainer| trainer.decide(turn))?;
        }

        let row = self.train_step(&started)?;
        self.step += 1;

        if self.is_reward_due() {
            self.deciding(Self::reward_pending)?;
        }

        self.times.training_s += started.elapsed_s();
        self.folder.metric(&MetricRow::Step(row.clone()))?;

        let evaluation = self.evaluate_when_due()?;
        self.save_when_due()?;

        Ok(Some(StepReport {
            step: self.step,
            steps: self.steps,
            loss: row.loss,
            independent_layers: row.independent_layers,
            tokens_per_s: row.tokens_per_s,
            decision,
            validation: evaluation.map(|evaluation| evaluation.measured()),
        }))
    }

    /// Lines 5 and 6: a mini-batch and a training step on it.
    fn train_step(&mut self, started: &Clock) -> Result<StepRow> {
        let sketches = self.needs_sketches();
        let batch = self.train.next()?;
        let n_tokens = self.spec.units_per_step();
        let step = self.step;

        self.optimizer.prepare(&self.model)?;
        let (loss, mut gradients) =
            step::gradients(&self.model, batch, &self.spec, step, sketches)?;
        let norm = gradients.norm()?;
        let is_finite = loss.is_finite() && norm.is_finite();

        if !is_finite {
            let tensor =
                self.model.first_non_finite(&gradients)?.unwrap_or_else(|| "the loss".to_owned());
            self.health.not_finite(step, loss, tensor)?;
        }

        let rate = learning_rate(&self.spec.optimizer, step, self.steps);
        let gradient_bytes = gradients.bytes();

        if is_finite {
            if let Some(sketches) = gradients.sketches.take() {
                self.statistics.add(&sketches);
            }
            self.optimizer.step(&self.model, gradients, norm, rate)?;
        }

        self.health.watch(step, loss);
        let sample = self.sample();
        let resident = memory::resident();

        self.means.add(&sample, resident.map(|resident| resident.now_mb));
        self.state_bytes_peak = self.state_bytes_peak.max(self.state_bytes(gradient_bytes));

        Ok(StepRow {
            step: step + 1,
            loss,
            learning_rate: rate,
            gradient_norm: norm,
            tokens: ((step + 1) * n_tokens) as u64,
            independent_layers: sample.independent_layers,
            distinct_layers: sample.distinct_layers,
            trainable_parameters: sample.trainable_parameters,
            block_parameters: sample.block_parameters,
            elapsed_ms: self.clock.elapsed_ms(),
            tokens_per_s: per_second(
                ((step + 1) * n_tokens) as f64,
                self.times.training_s + started.elapsed_s(),
            ),
            current_rss_mb: resident.map(|resident| resident.now_mb),
            skipped_steps: self.health.skipped(),
        })
    }

    /// The most memory so far, of all processes of this run.
    fn peaks(&self) -> Peaks {
        let now = Peaks {
            resident_mb: memory::resident().map(|resident| resident.peak_mb),
            predicted_mb: self.process_mb.map(|mb| mb + self.predicted_bytes as f64 / 1e6),
        };
        now.or_above(self.peaks_before)
    }

    /// What is trainable now, and how many layers the state calls independent: under
    /// `tying.tie = "replicate"` more of them train by themselves, which the other figures tell.
    fn sample(&self) -> Sample {
        let binding = self.model.binding();
        let shared = self.model.trained_shared().layout().n_parameters();
        let trainable_parameters = self.model.n_trainable_parameters();

        Sample {
            trainable_parameters,
            block_parameters: trainable_parameters - shared,
            independent_layers: self.recording.state_at(self.step).n_independent(),
            distinct_layers: binding.n_distinct(),
        }
    }

    /// Bytes of weights and moments that are held now, and of gradients that were a moment ago.
    fn state_bytes(&self, gradients: usize) -> usize {
        let blocks = self.model.bank().blocks().len() * self.model.n_block_parameters();
        let weights = (self.model.n_shared_parameters() + blocks) * size_of::<f32>();
        weights + gradients + self.optimizer.bytes()
    }

    /// Where the run writes.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The decisions so far.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The model as it is now.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }
}
