//! The two channels: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use dlt_spec::{ExitCode, durable};
use indicatif::{MultiProgress, ProgressStyle};

use crate::failure::{Failure, Result};
use crate::shown;

/// The bars on the terminal. Everything else that is written to standard error must suspend them
/// first, or the lines and the bars overwrite each other.
pub(crate) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// What a silent process is called. A process is silent if another one speaks for it.
static SILENT: OnceLock<String> = OnceLock::new();

/// Silences this process, but for [`alarm`], which then begins with `name`.
pub(crate) fn silence(name: &str) {
    // An error means that it is silent already.
    let _ = SILENT.set(name.to_owned());
}

/// Whether this process shows progress, messages and results.
pub(crate) fn speaks() -> bool {
    SILENT.get().is_none()
}

/// The style of a bar with this template.
pub(crate) fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Writes a result, with control characters escaped.
pub(crate) fn print(text: &str) -> Result {
    if !speaks() {
        return Ok(());
    }

    let text = shown::escaped(text);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes a new file.
///
/// # Errors
/// If the file already exists, which leaves it as it is, or cannot be written.
pub(crate) fn create(path: &Path, content: impl AsRef<[u8]>) -> Result {
    durable::create(path, content.as_ref())
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}

/// Writes a file under a temporary name and renames it, so that nobody sees half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result {
    let cannot = |code, reason: String| {
        Failure::refused(code, format!("cannot write {}: {reason}", path.display()))
    };
    if path.file_name().is_none() {
        return Err(cannot(ExitCode::Usage, "expected the name of a file".to_owned()));
    }

    durable::replace(path, content).map_err(|error| cannot(ExitCode::Resources, error.to_string()))
}

/// Writes a message for the user to standard error, with control characters escaped and without the
/// middle of long lines. A failure to write is ignored: there is nobody to read it.
pub(crate) fn note(message: &str) {
    if speaks() {
        write(message);
    }
}

/// Writes a message about what happens to this process alone, even if it is silent.
pub(crate) fn alarm(message: &str) {
    match SILENT.get() {
        None => write(message),
        Some(name) => write(&format!("{name}: {message}")),
    }
}

fn write(message: &str) {
    let message = shown::message(message);
    BARS.suspend(|| drop(writeln!(io::stderr(), "{message}")));
}

/// Whether standard error is a terminal.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Standard error for the log, which has escaped its values already.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !speaks() {
            return Ok(bytes.len());
        }

        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
