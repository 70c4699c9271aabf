//! Ctrl-C and SIGTERM. The first signal asks a run to save and stop after its step. The second one
//! ends the process.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock, OnceLock};

use dlt_spec::ExitCode;

use crate::{launcher, output, processes};

/// What a program says that a signal asks to stop.
const STOPPING: &str =
    "stopping after this step and saving the run; a second signal stops it at once";

/// Whether a signal has asked the run to stop.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether the run has ended, so that signals come too late. A launcher sends some to processes that
/// end after others.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Whether the signal has come that `mpirun` passes on to its processes: SIGUSR1. It kills them soon
/// after any other one.
static PASSED_ON: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The exit code of `mpirun` if SIGUSR1 has ended a process.
const ENDED_BY_SIGNAL: i32 = 128 + signal_hook::consts::SIGUSR1;

/// Watches for these signals from now on, for a run that trains.
pub(crate) fn watch() {
    // A launcher sends SIGTERM to a process that it is about to kill: no time to save may be left.
    let is_alone = processes::launch().is_none();
    let watching = ctrlc::set_handler(move || {
        if ENDED.load(Ordering::Relaxed) {
            return;
        }

        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ExitCode::Interrupted.number()));
        }

        if is_alone {
            output::note(STOPPING);
        }
    });

    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch for signals: a signal will end the run at once, without saving");
    }

    #[cfg(unix)]
    if let Err(error) =
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&PASSED_ON))
    {
        tracing::warn!(%error, "cannot watch for SIGUSR1: it will end the run at once, without saving");
    }
}

/// Ignores these signals from now on, since the program ends in any case.
pub(crate) fn ignore() {
    ENDED.store(true, Ordering::Relaxed);
}

/// Runs `mpirun` to its end, and returns the exit code. The first signal to this process asks the
/// processes to save and stop, the second one ends them.
///
/// # Errors
/// If the command cannot be started.
pub(crate) fn pass_on(mut command: Command) -> std::io::Result<i32> {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // The terminal's Ctrl-C then reaches this process alone.
        command.process_group(0);
    }

    let id = Arc::new(OnceLock::new());
    let send = |id: &OnceLock<String>, signal: &str| {
        if let Some(id) = id.get() {
            // If it fails, the processes have ended.
            let _ = Command::new("kill").args([signal, id]).stderr(Stdio::null()).status();
        }
    };

    let known = Arc::clone(&id);
    let watching = ctrlc::set_handler(move || {
        let is_second = ASKED.swap(true, Ordering::Relaxed);
        let signal = if is_second { "-TERM" } else { "-USR1" };
        if !is_second {
            output::note(STOPPING);
        }
        send(&known, signal);
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "cannot watch for signals: a signal will end the run at once, without saving");
    }

    // After the handler is set: a signal between the two would end this process alone.
    let mut child = command.spawn()?;
    let _ = id.set(child.id().to_string());
    if ASKED.load(Ordering::Relaxed) {
        send(&id, "-TERM");
    }

    let status = launcher::wait(&mut child)?;
    let number = |code: ExitCode| i32::from(code.number());
    Ok(match status.code() {
        // The signal came before the run could be saved, and has ended the processes.
        None | Some(ENDED_BY_SIGNAL) if ASKED.load(Ordering::Relaxed) => {
            number(ExitCode::Interrupted)
        }
        Some(code) => code,
        // mpirun itself was killed, maybe by this process.
        None => number(ExitCode::Resources),
    })
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
    ASKED.load(Ordering::Relaxed) || PASSED_ON.load(Ordering::Relaxed)
}
