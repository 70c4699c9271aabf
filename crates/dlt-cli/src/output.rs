//! The two channels: results on standard output, everything else on standard error.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::LazyLock;

use dlt_spec::ExitCode;
use indicatif::MultiProgress;

use crate::failure::{Failure, Result};

/// The bars on the terminal. What else is written to standard error goes through here, so that it does not
/// tear them.
pub(crate) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes a result.
pub(crate) fn print(text: &str) -> Result {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes a new file; one that is there already stays as it is.
pub(crate) fn create(path: &Path, content: impl AsRef<[u8]>) -> Result {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_ref()));
    written.map_err(|error| {
        Failure::refused(ExitCode::Usage, format!("cannot write {}: {error}", path.display()))
    })
}

/// Writes a file beside its place and renames it, so that nobody sees half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result {
    let cannot =
        |code, reason: String| Failure::refused(code, format!("cannot write {}: {reason}", path.display()));
    let name =
        path.file_name().ok_or_else(|| cannot(ExitCode::Usage, "expected the name of a file".to_owned()))?;
    let beside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // It may not be there, and then nothing is left to remove.
        let _ = fs::remove_file(&beside);
        cannot(ExitCode::Resources, error.to_string())
    })
}

/// Writes a line for the person. Where standard error is closed, there is nobody to read it.
pub(crate) fn note(line: &str) {
    BARS.suspend(|| drop(writeln!(io::stderr(), "{line}")));
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Standard error as the log writes it.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
