//! Errors of a run, and the exit code of each.

use std::path::{Path, PathBuf};

use dlt_agent::AgentError;
use dlt_data::DataError;
use dlt_models::ModelError;
use dlt_spec::tensors::TensorError;
use dlt_spec::{ExitCode, SpecError};
use dlt_state::StateError;

/// Errors of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The agent failed.
    #[error("agent: {0}")]
    Agent(#[from] AgentError),
    /// Processes that train together could not exchange something.
    #[error(transparent)]
    Exchange(#[from] crate::exchange::TransportError),
    /// Another process of the run has failed before its first step.
    #[error("{process}: {message}")]
    Process {
        /// Its number and host.
        process: String,
        /// Its error.
        message: String,
        /// The exit code of that error.
        code: ExitCode,
    },
    /// A batch cannot be shared equally among the processes.
    #[error(
        "expected a number of processes that divides training.shards = {shards}, got {processes}; \
         start 1, 2, 4 … up to {shards} of them, or set training.shards to a larger power of two at \
         the start of a run"
    )]
    Processes {
        /// Number of processes.
        processes: usize,
        /// Shards of a batch, S.
        shards: usize,
    },
    /// A recording of decisions cannot be used.
    #[error("recording of decisions: {0}")]
    State(#[from] StateError),
    /// A recording starts in another state than the run that replays it.
    #[error(
        "recording of decisions: it starts in state {recorded:?}, this run in {run:?}; \
         set tying.initial to that of the recorded run"
    )]
    OtherStart {
        /// Owners at the start of the recording.
        recorded: Vec<usize>,
        /// Owners at the start of the run.
        run: Vec<usize>,
    },
    /// A file of the run folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create`, `read` or `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Moments of a layer that is not independent could not be written to disk, or read back.
    #[error(
        "cannot {action} the optimizer's moments of layer {layer}: {source}; they rest in a file without a name \
         in {0} until the layer is independent again; make room there or repair the disk, \
         then `dlt train --resume {0}`",
        folder.display()
    )]
    Resting {
        /// `read` or `write`.
        action: &'static str,
        /// The layer.
        layer: usize,
        /// The folder of the run.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The run folder already exists.
    #[error(
        "{0} already exists: resume it with `dlt train --resume {0}`, start it again from its spec with \
         `dlt train {0}/spec.toml --out OTHER`, choose another --out or --seed, or remove it",
        path.display()
    )]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes into the run folder.
    #[error("{} is held by {holder}, which writes into it: wait until it ends, or stop it", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Which process, and on which machine.
        holder: String,
    },
    /// The path of the run folder now names another folder, or none.
    #[error(
        "{} is no longer the folder of this run: it was renamed, removed or replaced during the run; \
         nothing was written into what has this path now; {}",
        path.display(),
        moved(now.as_deref())
    )]
    Moved {
        /// The path that the folder had.
        path: PathBuf,
        /// Where the folder is now; `None` if it was removed, or if the system does not say.
        now: Option<PathBuf>,
    },
    /// A run cannot be resumed as requested.
    #[error("cannot resume {}: {reason}", path.display())]
    Resume {
        /// The folder.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// A run folder has checkpoints, and none can be used.
    #[error(
        "cannot resume {0}: none of its checkpoints can be used:{1}\nremove {0}/checkpoint to start again at step 0",
        path.display(),
        lines(refused)
    )]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
        /// Why not, checkpoint by checkpoint.
        refused: Vec<String>,
    },
    /// A spec for a resume changes keys that cannot change any more.
    #[error("cannot resume {} with another spec: {}", path.display(), listed(refused))]
    ChangedSpec {
        /// The folder.
        path: PathBuf,
        /// The keys that cannot change, with both values.
        refused: Vec<String>,
    },
    /// A file of a run folder is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
    },
    /// The model file of a run is damaged, and the run can write it again.
    #[error(
        "{}: {reason}; {} holds the whole model: `dlt doctor {} --repair` writes the file again from there and \
         keeps the damaged one",
        path.display(),
        whole.display(),
        run.display()
    )]
    Damaged {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The checkpoint or kept model that has the right bytes.
        whole: PathBuf,
        /// The run folder.
        run: PathBuf,
    },
    /// The vocabulary of the spec is smaller than the tokenizer's.
    #[error("model.vocabulary: expected at least the tokenizer's {tokenizer} entries, got {spec}")]
    Vocabulary {
        /// Entries of the tokenizer.
        tokenizer: usize,
        /// Entries in the spec.
        spec: usize,
    },
    /// The spec has fewer classes than the data.
    #[error("model.classes: expected at least the data's {data}, got {spec}")]
    Classes {
        /// Classes of the data.
        data: usize,
        /// Classes in the spec.
        spec: usize,
    },
    /// The architecture of the model has another number of layers than the spec.
    #[error("model.layers: expected the architecture's {architecture}, got {spec}")]
    Layers {
        /// Layers of the architecture.
        architecture: usize,
        /// Layers in the spec.
        spec: usize,
    },
    /// The thread that prepares batches could not be started, or has ended.
    #[error("cannot prepare batches: {0}")]
    Thread(std::io::Error),
    /// The requested device cannot be used.
    #[error("device {device}: {reason}")]
    Device {
        /// Its name.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The next steps do not fit into memory.
    #[error(
        "memory: the next steps take about {needed_mb:.0} MB, {:.0} MB more than the {limit_mb:.0} MB \
         available; {advice}",
        needed_mb - limit_mb
    )]
    Memory {
        /// Predicted peak of the process, in megabytes.
        needed_mb: f64,
        /// Megabytes that it may use.
        limit_mb: f64,
        /// Settings that would help, and what each takes.
        advice: String,
    },
    /// An evaluated model has a loss or perplexity that is not finite.
    #[error(
        "the loss on {what} is {loss}, expected a finite loss and perplexity: the model has diverged, \
         or it does not suit these data"
    )]
    Loss {
        /// The data.
        what: String,
        /// Mean cross-entropy, in nats.
        loss: f64,
    },
    /// A loss or gradient is not a finite number.
    #[error(
        "training diverged at step {step}: loss {loss}, first non-finite tensor: {tensor}; \
         try a smaller optimizer.learning_rate or a longer optimizer.warmup_steps"
    )]
    Diverged {
        /// Training steps done before.
        step: usize,
        /// Mean cross-entropy of the step, in nats.
        loss: f64,
        /// Name of the first gradient that is not finite, or `the loss`.
        tensor: String,
    },
}

impl TrainError {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Spec(error) => error.exit_code(),
            Self::Process { code, .. } => *code,
            Self::Agent(AgentError::NotFinite { .. })
            | Self::Diverged { .. }
            | Self::Loss { .. }
            | Self::Model(ModelError::Logits { .. }) => ExitCode::Diverged,
            Self::Agent(_)
            | Self::OtherStart { .. }
            | Self::Vocabulary { .. }
            | Self::Classes { .. }
            | Self::Layers { .. }
            | Self::ChangedSpec { .. } => ExitCode::BadSpec,
            // Bytes that are not text: the file is damaged, not the disk.
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                ExitCode::BadData
            }
            // The data are good; room for them, or a part of the program, is missing.
            Self::Data(
                DataError::Write { .. }
                | DataError::TooManyTokens { .. }
                | DataError::TooMuchText { .. }
                | DataError::ChangedCache { .. }
                | DataError::NotBuilt(_),
            ) => ExitCode::Resources,
            Self::Data(_)
            | Self::State(_)
            | Self::Format { .. }
            | Self::Damaged { .. }
            | Self::NoCheckpoint { .. } => ExitCode::BadData,
            Self::Model(
                ModelError::Format { .. }
                | ModelError::NotFinite { .. }
                | ModelError::Weight { .. }
                | ModelError::Batch { .. }
                | ModelError::Objective { .. }
                | ModelError::Export { .. }
                | ModelError::Depth { .. }
                | ModelError::State(_),
            ) => ExitCode::BadData,
            Self::Model(ModelError::Sampling { .. })
            | Self::RunExists { .. }
            | Self::Processes { .. }
            | Self::Resume { .. } => ExitCode::Usage,
            Self::Model(_)
            | Self::Io { .. }
            | Self::Thread(_)
            | Self::Resting { .. }
            | Self::Exchange(_)
            | Self::Device { .. }
            | Self::Held { .. }
            | Self::Moved { .. }
            | Self::Memory { .. } => ExitCode::Resources,
        }
    }
}

/// The keys that cannot change, and why.
fn listed(refused: &[String]) -> String {
    let lines = lines(refused);
    format!(
        "the steps so far would belong to another run; leave these keys as they were, or start a new run:{lines}"
    )
}

/// How to continue a run whose folder was moved.
fn moved(now: Option<&Path>) -> String {
    match now {
        Some(now) => {
            let now = now.display();
            format!("its own folder is {now} now: continue it with `dlt train --resume {now}`")
        }
        None => "find its own folder and continue it with `dlt train --resume FOLDER`; \
                 if the folder was removed, the run is lost"
            .to_owned(),
    }
}

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

impl From<TensorError> for TrainError {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Io { path, source } => Self::Io { action: "read", path, source },
            TensorError::Format { path, reason } => Self::Format { path, reason },
            other => Self::Model(other.into()),
        }
    }
}
