//! Ctrl-C and SIGTERM. The first signal asks a run to save and stop after its step. The second one
//! ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use dlt_spec::ExitCode;

use crate::output;

/// Whether a signal has asked the run to stop.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Watches for these signals from now on, for a run that trains.
pub(crate) fn watch() {
    let watching = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ExitCode::Interrupted.number()));
        }

        output::note(
            "stopping after this step and saving the run; a second signal stops it at once",
        );
    });

    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch for signals: a signal will end the run at once, without saving");
    }
}

/// Watches for these signals, for a task that runs until a signal ends it. The first signal sends a
/// message to the receiver, so that the task can end in order.
pub(crate) fn ending() -> Receiver<()> {
    let (ended, ending) = channel();
    let watching = ctrlc::set_handler(move || {
        // An error means that nobody waits any more, because the task is already ending.
        let _ = ended.send(());
    });

    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch for signals: a signal will end the program at once");
    }

    ending
}

/// Makes a write beyond the limit on a file's size (`ulimit -f`) an error with a message. Without
/// this, the signal SIGXFSZ would end the process.
pub(crate) fn outlive_file_limits() {
    #[cfg(unix)]
    if let Err(error) =
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Default::default())
    {
        tracing::warn!(%error, "cannot watch for SIGXFSZ: a file that reaches its size limit will end the program without a message");
    }
}

/// Whether a signal has asked the run to stop.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
