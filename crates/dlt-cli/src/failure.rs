//! Errors of a task: the message that a user reads, and the exit code that a script sees.

use std::error::Error;
use std::fmt;
use std::io;

use dlt_data::DataError;
use dlt_models::ModelError;
use dlt_report::ReportError;
use dlt_run::RunError;
use dlt_spec::{ExitCode, SpecError};
use dlt_train::TrainError;

use crate::{output, processes};

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
    /// It has been reported, and ends the program with this exit code.
    Reported(ExitCode),
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

    /// The exit code of the program.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            // The reader has closed the pipe because it has read enough, as in `dlt spec | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Ok,
            Self::Output(_) => ExitCode::Resources,
            Self::Run(error) => error.exit_code(),
            Self::Stopped { error, .. } => error.exit_code(),
            Self::Refused { code, .. } | Self::Reported(code) => *code,
            Self::Interrupted { .. } => ExitCode::Interrupted,
        }
    }

    /// Whether it ends every process of a run at the same place: divergence and interruption do.
    /// Anything else happens to one of them.
    pub(crate) fn is_shared(&self) -> bool {
        [ExitCode::Diverged, ExitCode::Interrupted].contains(&self.code())
    }

    /// Writes the failure as one message to standard error, and returns the exit code. A silent
    /// process writes nothing, and waits until the one that speaks has written.
    pub(crate) fn report(&self) -> ExitCode {
        self.write_by(output::note);
        if !output::speaks() && !matches!(self, Self::Reported(_)) {
            processes::defer();
        }
        self.code()
    }

    /// As [`report`](Self::report), for a failure of this process alone: a silent process writes it
    /// too, and names itself.
    pub(crate) fn report_own(&self) -> ExitCode {
        self.write_by(output::alarm);
        self.code()
    }

    fn write_by(&self, write: impl Fn(&str)) {
        match self {
            Self::Reported(_) => {}
            Self::Output(_) if self.code() == ExitCode::Ok => {}
            Self::Interrupted { .. } => write(&format!("interrupted: {self}")),
            _ => write(&format!("error: {self}")),
        }
    }
}

/// The message, without the word that says whether it is an error.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Run(error) => f.write_str(&chain(error)),
            Self::Stopped { error, advice } => write!(f, "{}\n{advice}", chain(&**error)),
            Self::Refused { message, .. } | Self::Interrupted { message } => f.write_str(message),
            Self::Reported(_) => Ok(()),
        }
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
