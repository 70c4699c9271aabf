//! The log of the libraries, filtered, on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use crate::failure::{Failure, Result};
use crate::output::{self, LogWriter};
use crate::shown;

/// Variable with the filter of the log, as in `DLT_LOG=dlt_train=debug`; it overrides `-v`.
pub(crate) const FILTER_VARIABLE: &str = "DLT_LOG";

/// Starts the log: warnings, and more with each `-v`.
///
/// # Errors
/// If the variable has no valid filter.
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
        Failure::usage(format!("{FILTER_VARIABLE}: not a log filter: `{got}`: {error}"))
    })?;

    // Fields may contain text from files, which must not reach the terminal unescaped.
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

    // An error means that there is a log already, which will do.
    drop(log.try_init());
    Ok(())
}
