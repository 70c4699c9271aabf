//! The loop: Algorithm 1, read from top to bottom in [`Trainer::advance`].

mod deciding;
mod evaluated;
mod health;
pub(crate) mod restored;
mod saved;

use candle_core::Device;
use dlt_agent::{Agent, AgentError, Measured};
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

/// What one training step did, for progress output.
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
    /// Training tokens per second, without evaluations; `None` if the clock shows no elapsed time.
    pub tokens_per_s: Option<f64>,
    /// The decision before the step, if there was one.
    pub decision: Option<DecisionRow>,
    /// Loss and accuracy on the validation split after the step, if they were measured.
    pub validation: Option<Measured>,
}

/// A run under way.
pub struct Trainer {
    spec: CheckedSpec,
    folder: RunFolder,
    device: Device,
    /// Sizes that depend on the data, as the model has them.
    extents: Extents,
    model: Model,
    optimizer: Optimizer,
    agent: Option<Agent>,
    recording: Recording,
    timetable: Timetable,
    /// Training steps between a decision and its reward, if the reward is measured late.
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
    /// The loss before the pending decision, if its reward needs that.
    probe: Option<Probe>,
    means: Means,
    best: Option<Best>,
    best_on_test: Option<f64>,
    state_bytes_peak: usize,
    /// Resident memory before the model was made. The predicted peak of the process is this plus
    /// `predicted_bytes`, the largest prediction so far.
    process_mb: Option<f64>,
    predicted_bytes: usize,
    /// Peaks of the earlier processes of this run, if it was resumed.
    peaks_before: Peaks,
    clock: Clock,
    times: Times,
    saving: Saving,
    health: Health,
    watch: Watch,
}

/// A callback for the progress of evaluations, which can take longer than training.
pub type Watch = Box<dyn FnMut(Evaluating)>;

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

impl Trainer {
    /// Refuses what [`new`](Self::new) would refuse about a spec and its data. Call it before the
    /// run folder is made.
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

        // Memory is checked before the agent is made, because the agent can be larger than the
        // model.
        memory::check_fit(
            spec,
            material,
            &certain_binding(spec, material.examples(Split::Train).count()),
            device,
        )?;

        agent_for(spec, recording).map(drop)
    }

    /// A run before its first step. `recording` holds the decisions that `agent.recording` names,
    /// for policies that replay; `start` looks up the weights that `model.start` names.
    ///
    /// # Errors
    /// [`TrainError::Vocabulary`] and [`TrainError::Classes`] if the data have more of them than
    /// the model, [`TrainError::Data`] if a split is too short, [`TrainError::Agent`] if a
    /// recording does not fit the spec, [`TrainError::Memory`] if the run does not fit into memory.
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

    /// Lets `agent` decide, for example by a policy of another crate, in place of the agent that
    /// the spec describes. The spec still says when a decision is due and of which kind
    /// (`tying.decide_every`, `tying.decision`), and what a reward is made of. Its `agent.policy`
    /// must not be `none`, which asks nobody.
    ///
    /// A checkpoint does not name such an agent, so [`resume`](Self::resume) refuses its snapshot.
    ///
    /// # Errors
    /// [`TrainError::Agent`] if the agent does not begin in the state of the run.
    pub fn deciding_by(mut self, agent: Agent) -> Result<Self> {
        let expected = self.recording.state_at(self.step);
        let got = agent.current_state();
        if expected != got {
            return Err(TrainError::Agent(AgentError::Mismatch {
                place: "the state that the agent begins in",
                expected: expected.to_string(),
                got: got.to_string(),
            }));
        }

        self.agent = Some(agent);
        Ok(self)
    }

    /// A run before its first step, with a model that already exists.
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
            // Two streams: a measured reward then takes no batch from training, so a run sees the
            // same training batches whatever its rewards are.
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

    /// Makes one training step, with the decision, evaluation and checkpoint that are due; `None`
    /// once all steps are done.
    ///
    /// Algorithm 1 decides after a step (line 7). Here the decision is made before the next step,
    /// which gives the same sequence. So the last decision of a run is always trained.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if the loss or a gradient is not finite, [`TrainError::Io`] if the
    /// run folder cannot be written.
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

        // Before the evaluation and the checkpoint: a checkpoint then holds the reward of every
        // decision that is due for one.
        if self.is_reward_due() {
            self.deciding(Self::reward_pending)?;
        }

        // Evaluation and checkpoints come after this line, because `tokens_per_s` is about training
        // only.
        self.times.training_s += started.elapsed_s();
        self.folder.metric(&MetricRow::Step(row.clone()))?;

        let evaluation = self.evaluate_when_due()?;

        // Last, because the checkpoint records the length of the metrics: a row appended after it
        // would be cut off by a resume.
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

    /// Lines 5 and 6 of Algorithm 1: draws a mini-batch and makes a training step on it.
    fn train_step(&mut self, started: &Clock) -> Result<StepRow> {
        let sketches = self.needs_sketches();
        let batch = self.train.next()?;
        let n_tokens = self.spec.units_per_step();
        let step = self.step;

        // New moments live long; allocated here, they leave no gaps among the buffers of the
        // backward pass.
        self.optimizer.prepare(&self.model)?;
        let (loss, mut gradients) =
            step::gradients(&self.model, batch, &self.spec, step, sketches)?;
        let norm = gradients.norm()?;
        let is_finite = loss.is_finite() && norm.is_finite();

        // A step that is not finite must not reach the optimizer: one NaN in a moment stays there
        // for the rest of the run.
        if !is_finite {
            let tensor =
                self.model.first_non_finite(&gradients)?.unwrap_or_else(|| "the loss".to_owned());
            self.health.not_finite(step, loss, tensor)?;
        }

        let rate = learning_rate(&self.spec.optimizer, step, self.steps);

        // Read now: the optimizer step consumes the gradients.
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

    /// The most memory so far, over all processes of this run.
    fn peaks(&self) -> Peaks {
        let now = Peaks {
            resident_mb: memory::resident().map(|resident| resident.peak_mb),
            predicted_mb: self.process_mb.map(|mb| mb + self.predicted_bytes as f64 / 1e6),
        };
        now.or_above(self.peaks_before)
    }

    /// What is trainable now, and how many layers the state calls independent. Under `tying.tie =
    /// "replicate"` more layers than these train their own weights; the other three figures count
    /// what really trains.
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

    /// Bytes of the weights and moments held now, plus `gradients`, the bytes of the step's
    /// gradients, which are freed by now.
    fn state_bytes(&self, gradients: usize) -> usize {
        let blocks = self.model.bank().blocks().len() * self.model.n_block_parameters();
        let weights = (self.model.n_shared_parameters() + blocks) * size_of::<f32>();
        weights + gradients + self.optimizer.bytes()
    }

    /// The spec of the run.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// The folder that the run writes into.
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
