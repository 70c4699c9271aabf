//! Resuming a run: what its folder holds, what of its spec may change, and from which step it
//! continues.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use dlt_data::{Material, Split};
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::checksum::hex;
use dlt_spec::record::{METRICS_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE};
use dlt_spec::{Change, CheckedSpec, diff, durable};
use dlt_state::Recording;
use sha2::{Digest, Sha256};

use crate::checkpoint::{CHECKPOINT_FOLDER, Checkpoint, CheckpointFolder};
use crate::exchange::Share;
use crate::folder::{Held, RunFolder, check_metrics};
use crate::lock::Lock;
use crate::plan::Plan;
use crate::{Result, TrainError, memory};

/// Keys of a spec that may change when a run is resumed. With any of them changed, the steps so far
/// are still valid. A text or a recording may have moved, but its content must be the same.
pub const ALLOWED_CHANGES: &[&str] = &[
    "name",
    "data.source",
    "training.steps",
    "training.epochs",
    "training.micro_batch",
    "training.checkpointing",
    "training.non_finite",
    "evaluation.every_steps",
    "evaluation.batch",
    "evaluation.final_windows",
    "checkpoint.every_steps",
    "checkpoint.every_minutes",
    "checkpoint.keep_last",
    "agent.recording",
];

/// A run folder that this process has locked in order to resume the run. Nothing in it has changed
/// yet, except the lock.
#[derive(Debug)]
pub struct Resumption {
    run: Held,
    /// Held by the process that writes.
    lock: Option<Lock>,
    /// The spec that the steps so far were computed with.
    before: CheckedSpec,
    /// The spec that the run continues with.
    spec: CheckedSpec,
    checkpoint: Option<Checkpoint>,
    /// Messages for the user: checkpoints that could not be used.
    notices: Vec<String>,
}

impl Resumption {
    /// Locks a run folder and finds the newest checkpoint that can be resumed. A run without
    /// checkpoints starts again at step 0.
    ///
    /// # Errors
    /// [`TrainError::Held`] if another process writes into it, [`TrainError::Format`] if there is
    /// no such folder, [`TrainError::Resume`] if it is not a run folder or the run was stopped
    /// before it began, [`TrainError::NoCheckpoint`] if there are checkpoints and none can be used.
    pub fn open(run: &Path) -> Result<Self> {
        Self::open_among(run, true)
    }

    /// As [`open`](Self::open), for one of several processes that resume the run together. Only the
    /// one that `writes` locks the folder, and changes it later.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_among(run: &Path, writes: bool) -> Result<Self> {
        if !run.is_dir() {
            return Err(TrainError::Format {
                path: run.to_owned(),
                reason: "no such run folder".to_owned(),
            });
        }

        if !run.join(SPEC_FILE).is_file() {
            let reason = format!(
                "it has no {SPEC_FILE}: it is not a run folder of dlt, or its run was stopped before it began; start the run again with another --out"
            );
            return Err(TrainError::Resume { path: run.to_owned(), reason });
        }

        let held = Held::open(run).map_err(|source| TrainError::Io {
            action: "read",
            path: run.to_owned(),
            source,
        })?;

        // Before the lock and before anything is written: through a link, a resume would change
        // files outside of the run folder.
        for name in [CHECKPOINT_FOLDER, METRICS_FILE, STATES_FILE] {
            let path = run.join(name);
            durable::refuse_link(&held.real(&path)).map_err(|source| TrainError::Io {
                action: "write",
                path,
                source,
            })?;
        }

        let lock = writes.then(|| Lock::take(&held)).transpose()?;
        let spec = RunFolder::read_spec(run)?;
        let found = CheckpointFolder::held(&held).newest()?;
        let refused: Vec<_> = found.refused.iter().map(|(_, error)| error.to_string()).collect();

        // Checkpoints that exist but cannot be used must not lead to a silent restart at step 0.
        if found.checkpoint.is_none() && !refused.is_empty() {
            return Err(TrainError::NoCheckpoint { path: run.to_owned(), refused });
        }

        let before = match &found.checkpoint {
            Some(checkpoint) => checkpoint.spec()?,
            None => spec.clone(),
        };

        let notices =
            refused.into_iter().map(|reason| format!("checkpoint not used: {reason}")).collect();
        Ok(Self { run: held, lock, before, spec, checkpoint: found.checkpoint, notices })
    }

    /// The spec in the run folder, or the one set by [`change`](Self::change).
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// Training steps done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, Checkpoint::step)
    }

    /// Whether there is a checkpoint; without one the run starts again at step 0.
    #[must_use]
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Messages for the user: checkpoints that could not be used.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Sets the spec to continue with, and returns what it changes.
    ///
    /// # Errors
    /// [`TrainError::ChangedSpec`] with every changed key that is not in [`ALLOWED_CHANGES`].
    pub fn change(&mut self, spec: CheckedSpec) -> Result<Vec<Change>> {
        // Against the checkpoint's spec, not the folder's: the steps so far were computed with that
        // one.
        let changes = diff(&self.before, &spec);
        let is_refused = |change: &&Change| !ALLOWED_CHANGES.contains(&change.key);
        let refused: Vec<_> = changes.iter().filter(is_refused).map(ToString::to_string).collect();

        if !refused.is_empty() {
            return Err(TrainError::ChangedSpec { path: self.run.path().to_owned(), refused });
        }

        self.spec = spec;
        Ok(changes)
    }

    /// The plan of the rest of the run: with the data that it learned from, the number of steps that
    /// its spec says, and everything of its checkpoint but the tensors. Nothing in the folder has
    /// changed yet.
    ///
    /// # Errors
    /// [`TrainError::Resume`] if the text, the tokenizer or the recording is a different one, or if
    /// no steps are left to do; [`TrainError::Memory`] if the model, with its present number of
    /// blocks, does not fit; [`TrainError::Format`] if the checkpoint contradicts the spec, or its
    /// part of the metrics is not whole lines; and as [`Plan::new`].
    pub fn plan(
        self,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<ResumePlan> {
        self.plan_among(Share::WHOLE, material, recording, device)
    }

    /// As [`plan`](Self::plan), for one of several processes that train together. Their number may
    /// differ from that of the run so far, and does not change its bits.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`Plan::among`].
    pub fn plan_among(
        self,
        share: Share,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<ResumePlan> {
        let architecture = of_spec(&self.spec, material.extents());
        self.made(architecture, share, material, recording, device)
    }

    /// As [`plan`](Self::plan), for a run of [`Plan::of_architecture`], which `architecture` must be
    /// that of.
    ///
    /// # Errors
    /// As [`plan`](Self::plan). Parameters of other names or shapes are refused when the run
    /// [resumes](crate::Trainer::resume), before anything changes.
    pub fn plan_of_architecture(
        self,
        architecture: Arc<dyn Architecture>,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<ResumePlan> {
        self.made(architecture, Share::WHOLE, material, recording, device)
    }

    fn made(
        self,
        architecture: Arc<dyn Architecture>,
        share: Share,
        material: Material,
        recording: Option<&Recording>,
        device: Device,
    ) -> Result<ResumePlan> {
        let steps = self.spec.steps(material.examples(Split::Train).count());
        self.check(&material, recording, steps)?;

        let Self { run, lock, spec, mut checkpoint, .. } = self;
        let fits = |checkpoint: &Checkpoint| -> Result<usize> {
            let binding = checkpoint.binding()?;
            let widest = material.widest();
            let fits =
                memory::check_fit(&*architecture, &spec, widest, &binding, share.size, &device)?;
            Ok(fits.peak)
        };
        let needed = checkpoint.as_ref().map(fits).transpose()?.unwrap_or_default();

        let mut plan = Plan::made(architecture, share, spec, material, recording, device)?;
        if let Some(checkpoint) = &mut checkpoint {
            plan.take_up(checkpoint, needed)?;
            check_metrics(&run, checkpoint.run().metrics_bytes)?;
        }

        Ok(ResumePlan { run, lock, checkpoint, plan })
    }

    /// Compares the data that the run learned from with those it would continue with, and the new
    /// length with the steps done.
    fn check(
        &self,
        material: &Material,
        recording: Option<&Recording>,
        steps: usize,
    ) -> Result<()> {
        let refuse =
            |reason: String| Err(TrainError::Resume { path: self.run.path().to_owned(), reason });
        let done = self.step();
        if steps < done {
            return refuse(format!("{done} steps are done, but training.steps is only {steps}"));
        }

        if steps == done && self.run.real(&self.run.path().join(SUMMARY_FILE)).is_file() {
            return refuse(format!(
                "it has finished after {done} steps; raise --steps to continue it"
            ));
        }

        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        let run = checkpoint.run();
        let now = material.provenance();
        let replayed = recording.map(recording_sha256);

        for (what, before, now) in [
            ("data", Some(&run.data_sha256), Some(&now.sha256)),
            ("tokenizer", Some(&run.tokenizer), Some(&now.tokenizer)),
            ("recording that the agent follows", run.replayed_sha256.as_ref(), replayed.as_ref()),
        ] {
            if before != now {
                let name =
                    |value: Option<&String>| value.cloned().unwrap_or_else(|| "none".to_owned());
                return refuse(format!(
                    "the {what} has changed: it was {}, now it is {}",
                    name(before),
                    name(now)
                ));
            }
        }

        Ok(())
    }
}

/// The rest of a run, planned. Its folder is locked and has not changed.
pub struct ResumePlan {
    pub(crate) run: Held,
    pub(crate) lock: Option<Lock>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) plan: Plan,
}

impl ResumePlan {
    /// The plan itself.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// SHA-256 of a recording's text.
pub(crate) fn recording_sha256(recording: &Recording) -> String {
    hex(&Sha256::digest(recording.to_text()))
}
