//! What can go wrong while records are read or pictures are made.

use std::path::{Path, PathBuf};

use dlt_spec::tensors::{TensorError, not_finite};

/// Result with [`ReportError`].
pub type Result<T, E = ReportError> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than its format says.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, and where.
        reason: String,
    },
    /// A folder is not that of a run.
    #[error("{}: not a run folder: expected one that `dlt train` wrote, with a {file}", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        file: &'static str,
    },
    /// A run has nothing that this figure shows.
    #[error("{}: {missing}", path.display())]
    NothingToShow {
        /// The run.
        path: PathBuf,
        /// What is missing, and what would give it.
        missing: String,
    },
    /// A figure could not be drawn.
    #[error("cannot draw `{title}`: {reason}")]
    Picture {
        /// Title of the figure.
        title: String,
        /// What stood in the way.
        reason: String,
    },
}

impl ReportError {
    /// For `map_err` on input and output.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// For what a file should not hold.
    pub(crate) fn format(path: &Path, reason: impl ToString) -> Self {
        Self::Format { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<TensorError> for ReportError {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Io { path, source } => Self::Io { action: "read", path, source },
            TensorError::Format { path, reason } => Self::Format { path, reason },
            TensorError::NotFinite { path, tensor, count, of } => {
                Self::Format { path, reason: not_finite(&tensor, count, of) }
            }
        }
    }
}
