//! The loop: Algorithm 1, read from top to bottom in [`Trainer::advance`].

mod deciding;
mod evaluated;
mod health;
mod saved;

use std::sync::Arc;

use candle_core::Device;
use dlt_agent::{Agent, AgentError, Measured};
use dlt_data::{Examples, Material, Split};
use dlt_models::Model;
use dlt_models::architecture::Architecture;
use dlt_spec::CheckedSpec;
use dlt_spec::record::{DecisionRow, MetricRow, StepRow};
use dlt_spec::size::Extents;
use dlt_state::Recording;

use crate::clock::{Clock, per_second};
use crate::evaluation::Evaluating;
use crate::exchange::Exchange;
use crate::feed::Feed;
use crate::folder::RunFolder;
use crate::means::{Peaks, Sample};
use crate::optimizer::Optimizer;
use crate::optimizer::resting::RestingPlace;
use crate::plan::Prepared;
use crate::run_state::RunState;
use crate::schedule::learning_rate;
use crate::timetable::{self, Timetable};
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
    architecture: Arc<dyn Architecture>,
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
    train: Feed,
    rewards: Feed,
    validation: Examples,
    material: Material,
    steps: usize,
    evaluate_every: usize,
    /// What changes while the run trains, besides the tensors and the recording.
    run: RunState,
    /// Resident memory before the model was made. The predicted peak of the process is this plus
    /// the largest prediction so far.
    process_mb: Option<f64>,
    clock: Clock,
    saving: Saving,
    health: Health,
    watch: Watch,
    exchange: Exchange,
    /// Training steps that earlier processes had done.
    begun_at: usize,
}

/// A callback for the progress of evaluations, which can take longer than training.
pub type Watch = Box<dyn FnMut(Evaluating)>;

impl Trainer {
    /// A run before its next step, which will write into `folder`.
    #[must_use]
    pub fn new(prepared: Prepared, folder: RunFolder) -> Self {
        Self::among(prepared, folder, Exchange::alone())
    }

    /// As [`new`](Self::new), for one of the processes of `exchange`, whose share the plan is for.
    /// Process 0 has created the folder, the others [follow](RunFolder::followed) it.
    #[must_use]
    pub fn among(prepared: Prepared, folder: RunFolder, exchange: Exchange) -> Self {
        let Prepared { plan, model, optimizer, process_mb } = prepared;
        let windows = plan.material.examples(Split::Train).count();

        Self {
            optimizer: optimizer.resting_in(RestingPlace::in_run(folder.held())),
            reward_after: timetable::every(&plan.spec, windows),
            evaluate_every: plan.spec.evaluate_every(windows),
            clock: Clock::resumed(plan.run.elapsed_s),
            saving: Saving::new(&plan.spec, plan.saved),
            health: Health::new(plan.spec.training.non_finite),
            watch: Box::new(|_| ()),
            exchange,
            begun_at: plan.run.step,
            extents: plan.spec.extents(plan.material.extents()),
            agent: plan.agent,
            recording: plan.recording,
            timetable: plan.timetable,
            train: plan.train,
            rewards: plan.rewards,
            validation: plan.validation,
            steps: plan.steps,
            run: plan.run,
            process_mb,
            model,
            material: plan.material,
            architecture: plan.architecture,
            spec: plan.spec,
            folder,
            device: plan.device,
        }
    }

    /// Lets `agent` decide, for example by a policy of another crate, in place of the agent that
    /// the spec describes. The spec still says when a decision is due and of which kind
    /// (`tying.decide_every`, `tying.decision`), and what a reward is made of. Its `agent.policy`
    /// must not be `none`, which asks nobody.
    ///
    /// If the spec exempts layers from tying, the agent spares them from here on.
    ///
    /// A checkpoint does not name such an agent, so a plan that resumes refuses its snapshot.
    ///
    /// # Errors
    /// [`TrainError::Agent`] if the agent does not begin in the state of the run.
    pub fn deciding_by(mut self, agent: Agent) -> Result<Self> {
        let exempt = self.spec.exempt();
        let has_depth = agent.current_state().n_layers() == exempt.n_layers();
        let agent = if has_depth { agent.sparing(exempt) } else { agent };
        let expected = self.recording.state_at(self.run.step);
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

    /// Makes one training step, with the decision, evaluation and checkpoint that are due; `None`
    /// once all steps are done.
    ///
    /// Algorithm 1 decides after a step (line 7). Here the decision is made before the next step,
    /// which gives the same sequence. So the last decision of a run is always trained.
    ///
    /// # Errors
    /// [`TrainError::Diverged`](crate::TrainError::Diverged) if the loss or a gradient is not
    /// finite, [`TrainError::Io`](crate::TrainError::Io) if the run folder cannot be written.
    pub fn advance(&mut self) -> Result<Option<StepReport>> {
        if self.run.step >= self.steps {
            return Ok(None);
        }

        self.exchange.at(self.run.step);
        let started = Clock::start();
        let mut decision = None;
        for turn in self.timetable.turns_after(self.run.step) {
            decision = self.deciding(|trainer| trainer.decide(turn))?;
        }

        let row = self.train_step(&started)?;
        self.run.step += 1;

        // Before the evaluation and the checkpoint: a checkpoint then holds the reward of every
        // decision that is due for one.
        if self.is_reward_due() {
            self.deciding(Self::reward_pending)?;
        }

        // Evaluation and checkpoints come after this line, because `tokens_per_s` is about training
        // only.
        self.run.times.training_s += started.elapsed_s();
        self.folder.metric(&MetricRow::Step(row.clone()))?;

        let evaluation = self.evaluate_when_due()?;

        // Last, because the checkpoint records the length of the metrics: a row appended after it
        // would be cut off by a resume.
        self.save_when_due()?;

        Ok(Some(StepReport {
            step: self.run.step,
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
        let step = self.run.step;

        // New moments live long; allocated here, they leave no gaps among the buffers of the
        // backward pass.
        self.optimizer.prepare(&self.model)?;
        let exchange = &mut self.exchange;
        let (losses, mut gradients) =
            step::gradients(&self.model, batch, &self.spec, step, sketches, exchange)?;
        let loss = exchange.losses(losses)?.loss();
        let norm = exchange.norm(&gradients)?;
        let is_finite = loss.is_finite() && norm.is_finite();

        // A step that is not finite must not reach the optimizer: one NaN in a moment stays there
        // for the rest of the run.
        if !is_finite {
            let first = exchange.first_non_finite(&self.model, &gradients)?;
            let tensor = first.unwrap_or_else(|| "the loss".to_owned());
            self.health.not_finite(step, loss, tensor, &mut self.run.skipped_steps)?;
        }

        let rate = learning_rate(&self.spec.optimizer, step, self.steps);

        // Read now: the optimizer step consumes the gradients.
        let gradient_bytes = gradients.bytes();
        if is_finite {
            if let Some(sketches) = gradients.sketches.take() {
                self.run.statistics.add(&sketches);
            }
            self.optimizer.step(&self.model, gradients, norm, rate)?;
            self.exchange.spread_weights(&self.model)?;
        }

        self.health.watch(step, loss);
        let sample = self.sample();
        let resident = memory::resident();

        self.run.means.add(&sample, resident.map(|resident| resident.now_mb));
        self.run.state_bytes_peak = self.run.state_bytes_peak.max(self.state_bytes(gradient_bytes));

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
                self.run.times.training_s + started.elapsed_s(),
            ),
            current_rss_mb: resident.map(|resident| resident.now_mb),
            skipped_steps: self.run.skipped(),
        })
    }

    /// Raises the peaks of memory to those of this process.
    fn note_peaks(&mut self) {
        let now = Peaks {
            resident_mb: memory::resident().map(|resident| resident.peak_mb),
            predicted_mb: self.process_mb.map(|mb| mb + self.run.predicted_bytes as f64 / 1e6),
        };
        self.run.peaks = now.or_above(self.run.peaks);
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
            independent_layers: self.recording.state_at(self.run.step).n_independent(),
            distinct_layers: binding.n_distinct(),
        }
    }

    /// Bytes of the weights and moments held now, plus `gradients`, the bytes of the step's
    /// gradients, which are freed by now.
    fn state_bytes(&self, gradients: usize) -> usize {
        let blocks = self.model.n_parameters_in_blocks(self.model.bank().blocks().len());
        let weights = (self.model.n_shared_parameters() + blocks) * size_of::<f32>();
        weights + gradients + self.optimizer.bytes()
    }

    /// Leaves a run that is not finished. All processes can then close the exchange.
    #[must_use]
    pub fn leave(self) -> Exchange {
        self.exchange
    }

    /// Whether any process of the run asks to stop, between two steps. All processes ask at the
    /// same places, so that all of them stop after the same step.
    ///
    /// # Errors
    /// [`TrainError::Exchange`] if a process is gone.
    pub fn is_asked_to_stop(&mut self, own: bool) -> Result<bool> {
        self.exchange.any("whether to stop", own)
    }

    /// The exchange between the processes of the run.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The state of the optimizer.
    #[must_use]
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
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
