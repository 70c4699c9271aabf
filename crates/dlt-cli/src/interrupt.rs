//! Ctrl-C and SIGTERM: the first asks a run to save and stop after its step, the second ends the
//! process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use dlt_spec::ExitCode;

use crate::output;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Watches for them from now on.
pub(crate) fn watch() {
    let watching = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ExitCode::Interrupted.number()));
        }

        output::note(
            "stopping after this step, with all of the run saved; a second time stops at once",
        );
    });

    if let Err(error) = watching {
        tracing::warn!(%error, "a signal will end the run at once");
    }
}

/// For a task that goes on until it is ended: the first signal sends, and the task ends as it
/// should.
pub(crate) fn ending() -> Receiver<()> {
    let (ended, ending) = channel();
    let watching = ctrlc::set_handler(move || {
        // Nobody waits any more where the task is ending already.
        let _ = ended.send(());
    });

    if let Err(error) = watching {
        tracing::warn!(%error, "a signal will end the program at once");
    }

    ending
}

/// Makes a write beyond the limit on a file's size (`ulimit -f`) an error that says so, instead of
/// the end of the process.
pub(crate) fn outlive_file_limits() {
    #[cfg(unix)]
    if let Err(error) =
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Default::default())
    {
        tracing::warn!(%error, "a file that reaches the limit on its size will end the program without a message");
    }
}

/// Whether the run was asked to stop.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
