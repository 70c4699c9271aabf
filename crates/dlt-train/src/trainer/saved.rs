//! Saving a run in checkpoints, and resuming it from one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlt_agent::{Agent, AgentMemory};
use dlt_kernels::optimizer::squared_norm;
use dlt_models::ModelError;
use dlt_models::parameters::{Layout, Parameters};
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, fields};

use super::Trainer;
use crate::assembly::Weights;
use crate::checkpoint::{Checkpoint, CheckpointFolder, Contents, Numbers, sha256};
use crate::clock::Clock;
use crate::disk::{Disk, SystemDisk};
use crate::exchange::Exchange;
use crate::folder::{Cut, Held, RunFolder};
use crate::lock::Lock;
use crate::optimizer::ParameterMoments;
use crate::optimizer::resting::{Resting, RestingPlace};
use crate::plan::Plan;
use crate::resume::ResumePlan;
use crate::run_state::StepCounts;
use crate::{Result, TrainError};

/// Usual length of `progress` as text, without the agent.
const PROGRESS_BYTES: usize = 16 << 10;

/// When checkpoints are due, and what only they need to know.
pub(super) struct Saving {
    every_steps: Option<usize>,
    every_s: f64,
    since: Clock,
    /// Step of the newest checkpoint.
    last: Option<usize>,
    /// Step of the best model that is known to be next to the checkpoints.
    kept: Option<usize>,
}

impl Saving {
    pub(super) fn new(spec: &CheckedSpec, last: Option<usize>) -> Self {
        let every_steps = match spec.checkpoint.every_steps {
            Size::Fixed(steps) => Some(steps),
            Size::Auto(_) => None,
        };

        Self {
            every_steps,
            every_s: spec.checkpoint.every_minutes * 60.0,
            since: Clock::start(),
            last,
            kept: None,
        }
    }

    /// Whether a checkpoint is due after `step` of `steps` steps: by steps, by time, or at the end.
    fn is_due(&self, step: usize, steps: usize) -> bool {
        let by_steps = self.every_steps.is_some_and(|every| step.is_multiple_of(every));
        // A step that is already saved is never due again.
        self.last != Some(step)
            && (step == steps || by_steps || self.since.elapsed_s() >= self.every_s)
    }
}

impl Trainer {
    /// Resumes a planned run, or starts it again at step 0 if it has no checkpoint. The second value
    /// says what was cut off or set aside in its folder. `start` looks up the weights that
    /// `model.start` names, and is only used without a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Format`] if the checkpoint lacks a tensor of the model or of the optimizer, and
    /// as [`Plan::with_weights`](crate::Plan::with_weights). The folder is unchanged then. After
    /// that only [`TrainError::Io`] and [`TrainError::Moved`], if the folder cannot be written.
    pub fn resume(plan: ResumePlan, start: Option<Weights<'_>>) -> Result<(Self, Vec<String>)> {
        Self::resume_among(plan, start, &mut Exchange::alone())
    }

    /// As [`resume`](Self::resume), for one of the processes of `exchange`, which the trainer takes
    /// if nothing fails. Only process 0 changes the folder, once all have read their part of the
    /// checkpoint.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), in every process if one of them fails; and
    /// [`TrainError::Exchange`] if a process is gone.
    pub fn resume_among(
        plan: ResumePlan,
        start: Option<Weights<'_>>,
        exchange: &mut Exchange,
    ) -> Result<(Self, Vec<String>)> {
        let ResumePlan { run, lock, checkpoint, plan } = plan;
        let checkpoint = checkpoint.as_ref();
        let prepared = match checkpoint {
            Some(checkpoint) => plan.with_saved(checkpoint, &RestingPlace::in_run(&run)),
            None => plan.with_weights(start),
        };

        // The whole run is in memory then. From here on the folder changes. Each of these steps can
        // be repeated, so a process that is killed among them leaves a folder that can be resumed.
        let prepared = exchange.all("the checkpoint", prepared, TrainError::exit_code)?;
        let reopened = reopened(run, lock, checkpoint, &prepared.plan);
        let (folder, notices) = exchange.all("the run folder", reopened, TrainError::exit_code)?;

        Ok((Self::among(prepared, folder, std::mem::take(exchange)), notices))
    }

    /// Saves a checkpoint of the run as it is now, between two steps.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be written: earlier checkpoints are untouched.
    /// [`TrainError::Diverged`] if a weight is not a finite number: no run could continue from
    /// there.
    pub fn save_checkpoint(&mut self) -> Result<()> {
        self.save_checkpoint_on(&SystemDisk)
    }

    /// [`save_checkpoint`](Self::save_checkpoint) through a given file system, so that tests can
    /// use one that fails.
    ///
    /// # Errors
    /// As [`save_checkpoint`](Self::save_checkpoint).
    pub fn save_checkpoint_on(&mut self, disk: &dyn Disk) -> Result<()> {
        // Metrics first: the checkpoint names their length, so these bytes must be on disk before
        // it is.
        let metrics_bytes = self.folder.sync()?;
        let contents = self.contents(metrics_bytes)?;
        if !self.folder.writes() {
            // Process 0 asks for the pieces of this one as it writes.
            contents.hand_over(&mut self.exchange)?;
            self.note_saved();
            return Ok(());
        }

        let checkpoints = CheckpointFolder::held(self.folder.held());
        let disk = self.folder.held().on(disk);
        let best = self.run.best.as_ref().map(|best| best.step);

        let saved = checkpoints.save(
            &disk,
            self.run.step,
            best.filter(|_| best != self.saving.kept),
            &contents,
            &mut self.exchange,
        );

        if saved.is_err() {
            // If the folder was moved, that is the cause of the failure, and its message says what
            // to do.
            self.folder.held().check()?;
        }

        saved?;
        // Older checkpoints go only now that this one is safe on disk.
        let pruned = checkpoints.prune(&disk, self.spec.checkpoint.keep_last);
        self.saving.kept = best;
        self.note_saved();
        pruned
    }

    fn note_saved(&mut self) {
        self.saving.last = Some(self.run.step);
        self.saving.since = Clock::start();
    }

    pub(super) fn save_when_due(&mut self) -> Result<()> {
        // By the clock of process 0: all processes take part in a checkpoint.
        let own = self.saving.is_due(self.run.step, self.steps);
        let is_due = self.exchange.of_first("whether to save", own)?;
        if is_due { self.save_checkpoint() } else { Ok(()) }
    }

    /// Step of the newest checkpoint; `None` if there is none yet.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<usize> {
        self.saving.last
    }

    /// Step of the newest checkpoint that can be resumed after `error`. If the run diverged in the
    /// first step after a checkpoint, no finite loss was ever computed from that checkpoint. It is
    /// then set aside under another name.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the folder of checkpoints cannot be read or changed.
    pub fn last_good_checkpoint(&mut self, error: &TrainError) -> Result<Option<usize>> {
        if let TrainError::Diverged { step, .. } = error
            && self.saving.last == Some(*step)
            && self.exchange.writes()
        {
            let checkpoints = CheckpointFolder::held(self.folder.held());
            checkpoints.set_aside(*step, "diverged")?;
            self.saving.last = checkpoints.list()?.first().map(|(step, _)| *step);
        }

        Ok(self.saving.last)
    }

    /// Training steps done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.run.step
    }

    /// Training steps of the whole run.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Everything that goes into a checkpoint.
    fn contents(&mut self, metrics_bytes: u64) -> Result<Contents> {
        let mut tensors = self.weights()?;
        let (moments, counts) = self.moments();
        tensors.extend(moments);

        self.note_state(metrics_bytes, counts)?;

        // Reserved in full: a buffer that grows holds its text twice while it is copied, which the
        // prediction of memory does not count.
        let agent = AgentMemory::of(&self.spec.agent, self.spec.model.layers);
        let mut text = Vec::with_capacity(agent.text + PROGRESS_BYTES);

        serde_json::to_writer(&mut text, &self.run)
            .expect("the state holds only numbers, texts and lists");

        // A copy of the Q-network and its moments, which the text replaces.
        self.run.agent = None;

        tensors
            .push(("recording".to_owned(), Numbers::Bytes(self.recording.to_text().into_bytes())));
        tensors.push(("progress".to_owned(), Numbers::Bytes(text)));

        Ok(Contents { metadata: self.metadata(), tensors })
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let list = |numbers: &[usize]| {
            numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let binding = self.model.binding().save();
        let state = self.recording.state_at(self.run.step);

        BTreeMap::from(
            [
                ("spec", fields::render(&self.spec)),
                ("step", self.run.step.to_string()),
                ("vocabulary", self.extents.vocabulary.to_string()),
                ("classes", self.extents.classes.to_string()),
                ("state", list(state.owners())),
                ("storage", list(&binding.storage)),
                ("frozen", list(&binding.frozen)),
                ("independent", list(&binding.independent)),
                ("next-storage", binding.next.to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        )
    }

    /// Every parameter in memory, once each, however many layers use it. Tied parameters of frozen
    /// blocks are not among them: they are drawn from the seed.
    fn weights(&self) -> Result<Vec<(String, Numbers)>> {
        let model = &self.model;
        let mut tensors = Vec::new();
        let mut push = |prefix: &str, parameters: &Parameters| -> Result<()> {
            for (entry, variable) in
                parameters.layout().entries().iter().zip(parameters.variables())
            {
                let name = format!("{prefix}{}", entry.name);
                let tensor = variable.as_detached_tensor();
                // A weight can overflow in a step whose loss and gradient were still finite. Such a
                // checkpoint would replace the last good one.
                if !squared_norm(&tensor).map_err(ModelError::from)?.is_finite() {
                    let tensor = format!("weights {name}");
                    return Err(TrainError::Diverged {
                        step: self.run.step,
                        loss: f64::NAN,
                        tensor,
                    });
                }

                tensors.push((name, Numbers::Tensor(tensor)));
            }

            Ok(())
        };

        push(model.architecture().shared_prefix(), model.shared())?;
        for (id, block) in model.bank().blocks() {
            push(&model.architecture().block_prefix(id.0), block)?;
        }
        for layer in 0..model.binding().n_layers() {
            push(&model.architecture().block_prefix(layer), model.bank().kept(layer))?;
        }

        Ok(tensors)
    }

    /// The moments and step counts of every slot, in memory or at rest on disk.
    fn moments(&self) -> (Vec<(String, Numbers)>, StepCounts) {
        let architecture = self.model.architecture();
        let mut tensors = Vec::new();
        let is_whole = self.exchange.share().is_whole();
        let mut push = |prefix: String, layout: &Arc<Layout>, moments: Vec<[Numbers; 2]>| {
            for (number, (entry, moments)) in layout.entries().iter().zip(moments).enumerate() {
                for (which, own) in ["first", "second"].into_iter().zip(moments) {
                    let numbers = if is_whole {
                        own
                    } else {
                        Numbers::Shared(Box::new(own), Arc::clone(layout), number)
                    };
                    tensors.push((format!("moments/{which}/{prefix}{}", entry.name), numbers));
                }
            }
        };

        let shared = self.optimizer.shared();
        let slots = self.optimizer.slots();
        push(
            architecture.shared_prefix().to_owned(),
            self.model.trained_shared().layout(),
            held(shared),
        );

        let steps =
            |moments: &[ParameterMoments]| moments.iter().map(|moments| moments.step).collect();
        let mut counts = StepCounts { shared: steps(shared), ..StepCounts::default() };
        let resting = self.optimizer.resting();

        // In the order of the slots, not of the places, so the file does not depend on which
        // moments are at rest.
        for slot in slots.keys().chain(resting.keys()).copied().collect::<BTreeSet<_>>() {
            let (numbers, steps) = match resting.get(&slot) {
                Some(resting) => (at_rest(resting), resting.steps().to_vec()),
                None => (held(&slots[&slot]), steps(&slots[&slot])),
            };

            push(architecture.block_prefix(slot), self.model.bank().layout(), numbers);
            counts.slots.insert(slot, steps);
        }
        for (&layer, moments) in self.optimizer.kept() {
            let layout = self.model.bank().division().kept();
            push(architecture.block_prefix(layer), layout, held(moments));
            counts.kept.insert(layer, steps(moments));
        }

        (tensors, counts)
    }

    /// Brings those parts of the state up to date that only a checkpoint reads.
    fn note_state(&mut self, metrics_bytes: u64, moments: StepCounts) -> Result<()> {
        self.note_peaks();
        self.run.metrics_bytes = metrics_bytes;
        self.run.moments = moments;
        self.run.train = Some(self.train.position());
        self.run.rewards = Some(self.rewards.position());
        self.run.elapsed_s = self.clock.elapsed_s();

        // The file is only read if it has changed since the last checkpoint.
        let writes = self.folder.writes();
        if let Some(best) = self.run.best.as_mut().filter(|best| writes && best.sha256.is_none()) {
            let path = self.folder.model_path();
            let io = |source| TrainError::Io { action: "read", path: path.clone(), source };
            best.sha256 = Some(sha256(&self.folder.held().real(&path)).map_err(io)?);
        }

        self.run.agent = self.agent.as_ref().map(Agent::snapshot);
        Ok(())
    }
}

/// The folder of a run that continues, as it was at the checkpoint, and what was cut off or set
/// aside in it. Without a lock, another process does this, and this one follows it.
fn reopened(
    run: Held,
    lock: Option<Lock>,
    checkpoint: Option<&Checkpoint>,
    plan: &Plan,
) -> Result<(RunFolder, Vec<String>)> {
    run.check()?;
    let Some(lock) = lock else { return Ok((RunFolder::followed(run.path())?, Vec::new())) };

    let mut notices = CheckpointFolder::held(&run).rewind(checkpoint)?;
    let cut = Cut {
        step: plan.run.step,
        metrics_bytes: checkpoint.map(|checkpoint| checkpoint.run().metrics_bytes),
        recording: &plan.recording,
    };

    let (folder, cut) = RunFolder::reopen(run, lock, &cut)?;
    notices.extend(cut);
    folder.rewrite_spec(&plan.spec)?;
    Ok((folder, notices))
}

/// Both moments of each parameter that are in memory. Cloning a tensor copies no numbers.
fn held(moments: &[ParameterMoments]) -> Vec<[Numbers; 2]> {
    let both =
        |moments: &ParameterMoments| [&moments.first, &moments.second].map(|tensor| tensor.clone());
    moments.iter().map(|moments| both(moments).map(Numbers::Tensor)).collect()
}

/// Both moments of each parameter that are at rest. They are read one tensor at a time as the
/// checkpoint is written.
fn at_rest(resting: &Arc<Resting>) -> Vec<[Numbers; 2]> {
    let number = |number| Numbers::Resting(Arc::clone(resting), number);
    (0..resting.steps().len()).map(|i| [number(2 * i), number(2 * i + 1)]).collect()
}
