//! Errors of reading records and making pictures.

use std::path::{Path, PathBuf};

use dlt_spec::tensors::{TensorError, not_finite};

/// Result with [`ReportError`].
pub type Result<T, E = ReportError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The content of a file does not match its format.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, and where.
        reason: String,
    },
    /// A folder is not that of a run.
    #[error(
        "{}: not a run folder: expected one that `dlt train` wrote, with a {file}",
        path.display()
    )]
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
    /// Something that this program was built without.
    #[error(transparent)]
    NotBuilt(dlt_spec::NotBuilt),
    /// A figure could not be drawn.
    #[error("cannot draw `{title}`: {reason}")]
    Picture {
        /// Title of the figure.
        title: String,
        /// Why not.
        reason: String,
    },
}

impl ReportError {
    /// Makes an error of input and output, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An error about the content of a file.
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
