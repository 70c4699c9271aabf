//! Ctrl-C: the first asks a run to stop after its step, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use dlt_spec::ExitCode;

use crate::output;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Watches for Ctrl-C from now on.
pub(crate) fn watch() {
    let watching = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ExitCode::Interrupted.number()));
        }
        output::note("stopping after this step; Ctrl-C again stops at once");
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "Ctrl-C will end the run at once");
    }
}

/// Whether Ctrl-C was pressed.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
