//! This program as `dlt --version` and the provenance of runs show it.

use dlt_run::Program;

use crate::threads;

/// Version, and the git revision if it is known.
pub(crate) const LONG_VERSION: &str = env!("DLT_LONG_VERSION");

/// This program, with its present threads and its command line.
pub(crate) fn this() -> Program {
    let revision = env!("DLT_REVISION");

    Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: (!revision.is_empty()).then(|| revision.to_owned()),
        toolchain: env!("DLT_TOOLCHAIN").to_owned(),
        threads: threads::current(),
        command_line: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
    }
}
