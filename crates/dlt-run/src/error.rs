//! Errors of a run before and after its training, and the exit code of each.

use std::io;
use std::path::PathBuf;

use dlt_data::{DataError, TOKENIZER_FILE};
use dlt_models::ModelError;
use dlt_spec::record::PROVENANCE_FILE;
use dlt_spec::{ExitCode, SpecError};
use dlt_train::TrainError;

use crate::pretrained::ADAPTER_FILE;

/// Why a run cannot begin, resume, or be imported or exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The spec, the data, the model or the run folder was refused, or failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Another process of the run has begun something else.
    #[error(
        "{process} begins another run: expected {what} {expected}, as process 0 has it, got {got}; \
         give every process the same command line, program and files"
    )]
    OtherRun {
        /// What differs.
        what: &'static str,
        /// Its number and host.
        process: String,
        /// What process 0 has.
        expected: String,
        /// What that process has.
        got: String,
    },
    /// A spec file could not be read.
    #[error("cannot read the spec {}: {source}", path.display())]
    ReadSpec {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file next to a model could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A folder has only changes to a model.
    #[error(
        "{model}: expected a model, got a PEFT adapter ({ADAPTER_FILE}); merge it into its model with PEFT's \
         merge_and_unload, and save the result"
    )]
    Adapter {
        /// The folder.
        model: String,
    },
    /// The spec has other values than the model from which the run starts.
    #[error("the spec contradicts {model}, from which the run starts:{}", lines(differing))]
    Contradiction {
        /// The model.
        model: String,
        /// The keys that differ, with both values.
        differing: Vec<String>,
    },
    /// A model has no tokenizer, and the user names none.
    #[error(
        "{model}: it has no {TOKENIZER_FILE}; name its tokenizer, as in --set data.tokenizer=PATH"
    )]
    NoTokenizer {
        /// The model.
        model: String,
    },
    /// The tokenizer has more tokens than the model has rows for.
    #[error(
        "{model}: its token table has {rows} rows, but the tokenizer has {tokens} tokens, {without_added} without the \
         added ones; it belongs to another model"
    )]
    TokenTable {
        /// The model.
        model: String,
        /// Rows of its token table.
        rows: usize,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Tokens of the tokenizer, without those that were added to it.
        without_added: usize,
    },
    /// The spec gives other factors of residual branches than the weights were trained with.
    #[error(
        "`tying.residual_scale`: expected the residual factors of {model}, {own:?}, but the spec gives {given:?}; set it \
         and `tying.initial` as in the run that made the weights, or move the factors into the weights: use `dlt export \
         --format hf` and then `dlt import`"
    )]
    ResidualFactors {
        /// The model.
        model: String,
        /// The factors of its layers.
        own: Vec<f64>,
        /// The factors by the spec.
        given: Vec<f64>,
    },
    /// How pictures are normalised cannot be read, or is not known here.
    #[error("{}: {reason}", path.display())]
    Processor {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
    },
    /// The tokenizer of a run is not the one that it was trained with.
    #[error(
        "{name} is not the tokenizer that {} was trained with: expected {expected} ({PROVENANCE_FILE}), got {got}; \
         {advice}",
        run.display()
    )]
    OtherTokenizer {
        /// What the run opens.
        name: String,
        /// The run folder.
        run: PathBuf,
        /// Checksum or built-in name of the right one.
        expected: String,
        /// The same of the one that was found.
        got: String,
        /// What to do.
        advice: &'static str,
    },
    /// The file of a tokenizer changed after the text was tokenized.
    #[error("{name} changed while the text was read: it was {was}, and is now {now}")]
    ChangedTokenizer {
        /// The tokenizer, as `data.tokenizer` names it.
        name: String,
        /// Its checksum when the text was tokenized.
        was: String,
        /// Its checksum now.
        now: String,
    },
    /// There is no model of a run at a path.
    #[error("{}: {reason}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What is there, and what to do.
        reason: String,
    },
    /// There is no recording where the spec names one.
    #[error("agent.recording: no recording of decisions at {}", path.display())]
    NoRecording {
        /// The file.
        path: PathBuf,
    },
    /// `--task` names no data set that has classes.
    #[error("--task: expected one of {}, got {name}", known.join(", "))]
    UnknownTask {
        /// The name.
        name: String,
        /// The names that are known.
        known: Vec<&'static str>,
    },
    /// A task has pictures and the model reads tokens, or the reverse.
    #[error("--task {task}: {kind}, but {model} reads {reads}")]
    OtherInput {
        /// The task.
        task: &'static str,
        /// What kind of task it is.
        kind: String,
        /// The model.
        model: String,
        /// `tokens` or `pictures`.
        reads: &'static str,
    },
    /// The name of a run folder cannot be written into a spec.
    #[error("--out {}: expected a name in UTF-8, because a spec cannot hold any other", out.display())]
    NotUtf8 {
        /// The folder.
        out: PathBuf,
    },
    /// A folder to write exists.
    #[error("{} already exists: name a new folder, or remove it", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A folder could not be made.
    #[error("cannot make {}: {source}", path.display())]
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A new file could not be written, or already exists.
    #[error("cannot write {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be replaced.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be copied.
    #[error("cannot copy {} to {}: {source}", from.display(), to.display())]
    Copy {
        /// The file.
        from: PathBuf,
        /// Its copy.
        to: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl RunError {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Train(error) => error.exit_code(),
            Self::ReadSpec { .. }
            | Self::Contradiction { .. }
            | Self::NoTokenizer { .. }
            | Self::TokenTable { .. }
            | Self::ResidualFactors { .. } => ExitCode::BadSpec,
            Self::Read { .. }
            | Self::Adapter { .. }
            | Self::Processor { .. }
            | Self::OtherTokenizer { .. }
            | Self::ChangedTokenizer { .. }
            | Self::NoModel { .. }
            | Self::NoRecording { .. } => ExitCode::BadData,
            Self::MakeFolder { source, .. } => match source.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput => ExitCode::Usage,
                _ => ExitCode::Resources,
            },
            Self::UnknownTask { .. }
            | Self::OtherInput { .. }
            | Self::NotUtf8 { .. }
            | Self::Exists { .. }
            | Self::Create { .. } => ExitCode::Usage,
            Self::OtherRun { .. } => ExitCode::Usage,
            Self::Write { .. } | Self::Copy { .. } => ExitCode::Resources,
        }
    }
}

/// `?` on the errors of the libraries.
macro_rules! from_library {
    ($($error:ty),+) => {
        $(impl From<$error> for RunError {
            fn from(error: $error) -> Self {
                Self::Train(error.into())
            }
        })+
    };
}

from_library!(SpecError, DataError, ModelError);

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}
