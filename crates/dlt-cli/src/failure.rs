//! Errors of a task: the message that a user reads, and the exit code that a script sees.

use std::error::Error;
use std::io;

use dlt_data::DataError;
use dlt_models::ModelError;
use dlt_report::ReportError;
use dlt_run::RunError;
use dlt_spec::{ExitCode, SpecError};
use dlt_train::TrainError;

/// Result of a task.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a task ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A library refused or failed.
    Run(TrainError),
    /// A run has stopped because of an error.
    Stopped {
        /// The error.
        error: Box<TrainError>,
        /// What is saved, and how to resume.
        advice: String,
    },
    /// Standard output cannot be written.
    Output(io::Error),
    /// The command line, or a file that it names, asks for something impossible.
    Refused {
        /// The exit code.
        code: ExitCode,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// The user pressed Ctrl-C.
    Interrupted {
        /// How far the run got, and how to resume it.
        message: String,
    },
}

/// `?` on the errors of the libraries.
macro_rules! from_library {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Run(error.into())
            }
        })+
    };
}

from_library!(TrainError, SpecError, DataError, ModelError);

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Train(error) => Self::Run(error),
            other => Self::refused(other.exit_code(), chain(&other)),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let code = match error {
            ReportError::Io { .. } | ReportError::NotBuilt(_) => ExitCode::Resources,
            _ => ExitCode::BadData,
        };
        Self::refused(code, chain(&error))
    }
}

impl Failure {
    /// A refusal of what a user asked for.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::refused(ExitCode::Usage, message)
    }

    /// A refusal with this exit code and message.
    pub(crate) fn refused(code: ExitCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// Writes the failure as one message to standard error, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (code, message) = match self {
            // The reader has closed the pipe because it has read enough, as in `dlt spec | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::Ok;
            }
            Self::Output(error) => {
                (ExitCode::Resources, format!("error: cannot write to standard output: {error}"))
            }
            Self::Run(error) => (error.exit_code(), format!("error: {}", chain(error))),
            Self::Stopped { error, advice } => {
                let code = error.exit_code();
                let message = format!("error: {}\n{advice}", chain(&**error));
                // Divergence is that of all processes. Anything else happened to this one.
                if code != ExitCode::Diverged {
                    crate::output::alarm(&message);
                    return code;
                }
                (code, message)
            }
            Self::Refused { code, message } => (*code, format!("error: {message}")),
            Self::Interrupted { message } => {
                (ExitCode::Interrupted, format!("interrupted: {message}"))
            }
        };

        crate::output::note(&message);
        code
    }
}

/// The messages of an error and its causes. A cause is left out if the text already contains it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn a_cause_is_shown_once() {
        let shown = Layer("cannot read x: gone", Some(Box::new(Layer("gone", None))));
        assert_eq!(chain(&shown), "cannot read x: gone");
        let not_shown = Layer("cannot read x", Some(Box::new(Layer("gone", None))));
        assert_eq!(chain(&not_shown), "cannot read x: gone");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.report(), ExitCode::Ok);
    }
}
