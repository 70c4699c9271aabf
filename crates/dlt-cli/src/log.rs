//! What the libraries report while they work, filtered and on standard error.

use dlt_spec::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use crate::failure::{Failure, Result};
use crate::output::{self, LogWriter};
use crate::shown;

/// Filter of the log, as in `DLT_LOG=dlt_train=debug`; it stands over `-v`.
pub(crate) const FILTER_VARIABLE: &str = "DLT_LOG";

/// Starts the log: warnings, and with each `-v` more.
pub(crate) fn start(verbose: u8) -> Result {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };

    let directives = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::try_new(directives.as_deref().unwrap_or(level)).map_err(|error| {
        let got = directives.as_deref().unwrap_or(level);
        Failure::refused(
            ExitCode::Usage,
            format!("{FILTER_VARIABLE}: not a log filter: `{got}`: {error}"),
        )
    })?;

    // Fields hold names and values from files: none of them may reach the terminal raw.
    let fields = debug_fn(|writer, field, value| {
        let value = shown::value(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    });

    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(fields.delimited(" "))
        .with_writer(|| LogWriter)
        .with_ansi(output::is_watched())
        .without_time();

    // A log that somebody started already serves as well.
    drop(log.try_init());
    Ok(())
}
