//! Going on with a run: what is there, what of its spec may change, and where it goes on.

use std::path::Path;

use candle_core::Device;
use dlt_data::Material;
use dlt_spec::checksum::hex;
use dlt_spec::record::{METRICS_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE};
use dlt_spec::{Change, CheckedSpec, diff, durable};
use dlt_state::Recording;
use sha2::{Digest, Sha256};

use crate::checkpoint::{CHECKPOINT_FOLDER, Checkpoint, CheckpointFolder};
use crate::folder::{Held, RunFolder};
use crate::lock::Lock;
use crate::{Result, TrainError, memory};

/// Keys of a spec that may change when a run is resumed: they leave what was computed so far valid.
/// A text or a recording may have moved, but must be the same.
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

/// A run folder that is held and about to be gone on with. Nothing in it has been changed yet but
/// its lock.
#[derive(Debug)]
pub struct Resumption {
    pub(crate) run: Held,
    pub(crate) lock: Lock,
    /// What the steps so far were computed with.
    before: CheckedSpec,
    /// What the run goes on with.
    pub(crate) spec: CheckedSpec,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// What a person should know: checkpoints that could not be used.
    pub(crate) notices: Vec<String>,
}

impl Resumption {
    /// Takes a run folder and finds the newest checkpoint from which it can go on; without any, it
    /// begins anew.
    ///
    /// # Errors
    /// [`TrainError::Held`] where another process writes into it, [`TrainError::Format`] where it
    /// is no run folder, [`TrainError::Resume`] where the run was stopped before it began,
    /// [`TrainError::NoCheckpoint`] where there are checkpoints and none can be used.
    pub fn open(run: &Path) -> Result<Self> {
        if !run.is_dir() {
            return Err(TrainError::Format {
                path: run.to_owned(),
                reason: "no such run folder".to_owned(),
            });
        }

        if !run.join(SPEC_FILE).is_file() {
            let reason = format!(
                "it has no {SPEC_FILE}: it is none of dlt's run folders, or was stopped as it was made; start the run anew with another --out"
            );
            return Err(TrainError::Resume { path: run.to_owned(), reason });
        }

        let held = Held::open(run).map_err(|source| TrainError::Io {
            action: "read",
            path: run.to_owned(),
            source,
        })?;

        for name in [CHECKPOINT_FOLDER, METRICS_FILE, STATES_FILE] {
            let path = run.join(name);
            durable::refuse_link(&held.real(&path)).map_err(|source| TrainError::Io {
                action: "write",
                path,
                source,
            })?;
        }

        let lock = Lock::take(&held)?;
        let spec = RunFolder::read_spec(run)?;
        let found = CheckpointFolder::held(&held).newest()?;
        let refused: Vec<_> = found.refused.iter().map(|(_, error)| error.to_string()).collect();

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

    /// The spec as it stands in the run folder.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// Training steps done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, Checkpoint::step)
    }

    /// Whether there is a checkpoint; without one the run begins anew.
    #[must_use]
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// What a person should know: checkpoints that could not be used.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Settles the spec to go on with; the answer is what it changes.
    ///
    /// # Errors
    /// [`TrainError::ChangedSpec`] with every key that cannot change any more.
    pub fn change(&mut self, spec: CheckedSpec) -> Result<Vec<Change>> {
        let changes = diff(&self.before, &spec);
        let is_refused = |change: &&Change| !ALLOWED_CHANGES.contains(&change.key);
        let refused: Vec<_> = changes.iter().filter(is_refused).map(ToString::to_string).collect();

        if !refused.is_empty() {
            return Err(TrainError::ChangedSpec { path: self.run.path().to_owned(), refused });
        }

        self.spec = spec;
        Ok(changes)
    }

    /// Compares what the run learnt from with what it would go on with, its length with what is
    /// done, and its size with the memory that is left.
    ///
    /// # Errors
    /// [`TrainError::Resume`] where the text, the tokenizer or the recording is another one, or
    /// nothing is left to do; [`TrainError::Memory`] where the model as it has become does not fit.
    pub fn check(
        &self,
        material: &Material,
        recording: Option<&Recording>,
        steps: usize,
        device: &Device,
    ) -> Result<()> {
        let refuse =
            |reason: String| Err(TrainError::Resume { path: self.run.path().to_owned(), reason });
        let done = self.step();
        if steps < done {
            return refuse(format!("{done} steps are done, training.steps = {steps} is fewer"));
        }

        if steps == done && self.run.real(&self.run.path().join(SUMMARY_FILE)).is_file() {
            return refuse(format!(
                "it has finished after {done} steps; raise --steps to go on with it"
            ));
        }

        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        let progress = checkpoint.progress();
        let now = material.provenance();
        let replayed = recording.map(recording_sha256);

        for (what, before, now) in [
            ("data", Some(&progress.data_sha256), Some(&now.sha256)),
            ("tokenizer", Some(&progress.tokenizer), Some(&now.tokenizer)),
            (
                "recording that the agent follows",
                progress.replayed_sha256.as_ref(),
                replayed.as_ref(),
            ),
        ] {
            if before != now {
                let name =
                    |value: Option<&String>| value.cloned().unwrap_or_else(|| "none".to_owned());
                return refuse(format!(
                    "the {what} is another one: {} then, {} now",
                    name(before),
                    name(now)
                ));
            }
        }

        memory::check_fit(&self.spec, material, &checkpoint.binding()?, device)
    }
}

/// SHA-256 of a recording's text.
pub(crate) fn recording_sha256(recording: &Recording) -> String {
    hex(&Sha256::digest(recording.to_text()))
}
