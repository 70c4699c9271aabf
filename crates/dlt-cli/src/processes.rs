//! The processes of one run, as the command line starts and ends them.
//!
//! `mpirun` or `srun` starts them, or this program by itself with `--processes`. Only process 0
//! speaks: the others are silent, but for what happens to them alone.

use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use dlt_processes::{Launch, Relaunch, mpirun};
use dlt_spec::ExitCode;
use dlt_train::Exchange;

use crate::arguments::Several;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::output;
use crate::threads;

/// The option that asks for several processes.
const OPTION: &str = "--processes";

/// What to do if a program without MPI is to run in several processes.
const BUILD: &str = "this program was built without MPI; build one with it by \
     `cargo install --locked --path crates/dlt-cli --features mpi`, which needs \
     libopenmpi-dev, openmpi-bin and libclang-dev";

/// How long a silent process that fails lets the one that speaks write first. A launcher ends all
/// processes soon after the first one has failed.
const DEFERRING: Duration = Duration::from_millis(300);

/// How to resume the run, once it has a folder.
static RESUME: OnceLock<String> = OnceLock::new();

/// How this process was started as one of several; `None` if it is alone.
pub(crate) fn launch() -> Option<Launch> {
    Launch::found(|name| std::env::var(name).ok())
}

/// Silences every process but the first one.
pub(crate) fn silence_others() {
    if let Some(launch) = launch().filter(|launch| launch.rank > 0) {
        output::silence(&format!("process {}", launch.rank));
    }
}

/// Starts this program again as several processes of this machine, if an option asks for them and
/// nobody has started them yet. This process then waits for them, and ends with their exit code. The
/// first Ctrl-C asks them to save and stop, the second one ends them.
///
/// # Errors
/// If the program has no MPI, `mpirun` is missing or refuses root, or a launcher has started another
/// number of processes.
pub(crate) fn start(several: &Several, wanted_threads: Option<NonZeroUsize>) -> Result {
    let usage = |message: String| Failure::refused(ExitCode::Usage, message);
    let launched = launch();
    if !cfg!(feature = "mpi")
        && let Some(launch) = &launched
    {
        let Launch { launcher, size, .. } = launch;
        return Err(usage(format!("{launcher} has started {size} processes, but {BUILD}")));
    }

    let Some(processes) = several.processes.map(NonZeroUsize::get) else { return Ok(()) };
    match launched {
        Some(launch) if launch.size != processes => Err(usage(format!(
            "{OPTION} {processes}: {} has started {} processes; leave the option out",
            launch.launcher, launch.size
        ))),
        Some(_) => Ok(()),
        None if processes == 1 => Ok(()),
        None if !cfg!(feature = "mpi") => Err(usage(format!("{OPTION} {processes}: {BUILD}"))),
        None => start_again(processes, wanted_threads),
    }
}

fn start_again(processes: usize, wanted_threads: Option<NonZeroUsize>) -> Result {
    let resources = |error: &dyn std::fmt::Display| {
        Failure::refused(ExitCode::Resources, format!("{OPTION} {processes}: {error}"))
    };

    let mpirun = mpirun(|name| std::env::var_os(name)).map_err(|error| resources(&error))?;
    let program = std::env::current_exe().map_err(|error| resources(&error))?;
    let arguments = std::env::args_os().skip(1).collect();
    let line = Relaunch { program, arguments, processes }.arguments_of_mpirun(OPTION);

    let mut command = Command::new(mpirun);
    command.args(line).stdin(Stdio::null());
    if wanted_threads.is_none() && std::env::var_os(threads::POOL).is_none() {
        // Each process would use all cores otherwise.
        command.env(threads::POOL, (threads::cores().get() / processes).max(1).to_string());
    }

    let code = interrupt::pass_on(command).map_err(|error| resources(&error))?;
    if !is_explained(code) {
        output::note(&format!(
            "error: mpirun failed with exit code {code}; without {OPTION}, by mpirun -n {processes} \
             dlt …, it says more"
        ));
    }
    std::process::exit(code)
}

/// Whether the processes have said why `mpirun` ends with this exit code. They say so if they end,
/// and if a signal ends one of them. `mpirun` is started with `--quiet`, so it says little.
fn is_explained(code: i32) -> bool {
    let is_ours = u8::try_from(code).is_ok_and(|code| ExitCode::from_number(code).is_some());
    let is_signal = (129..=192).contains(&code);
    is_ours || is_signal
}

/// The exchange with the other processes of this run, or that of a process alone.
///
/// # Errors
/// If MPI does not start, or the processes do not meet.
#[cfg(feature = "mpi")]
pub(crate) fn exchange(several: &Several) -> Result<Exchange> {
    use dlt_processes::{Lost, Mpi, Options};

    let Some(launch) = launch() else { return Ok(Exchange::alone()) };
    let on_lost = |lost: &Lost| {
        interrupt::ignore();
        if lost.speaks {
            let resume = RESUME.get().map_or_else(String::new, |resume| format!("\n{resume}"));
            output::alarm(&format!("error: {}{resume}", lost.error));
        }
        // The other processes are ending too; to wait for them would be in vain.
        std::process::exit(i32::from(ExitCode::Resources.number()));
    };

    let options = Options {
        limit: Duration::from_secs(several.exchange_timeout),
        launch: Some(launch),
        on_lost: Box::new(on_lost),
    };
    let mpi = Mpi::start(options)
        .map_err(|error| Failure::refused(ExitCode::Resources, error.to_string()))?;
    let exchange = Exchange::over(Box::new(mpi));

    let world = exchange.world();
    output::note(&format!("{} processes over {}", world.size(), world.engine));
    Ok(exchange)
}

/// The exchange of a process alone: a program without MPI is never one of several, because
/// [`start`] refuses that.
///
/// # Errors
/// Never.
#[cfg(not(feature = "mpi"))]
pub(crate) fn exchange(several: &Several) -> Result<Exchange> {
    let _ = several.exchange_timeout;
    Ok(Exchange::alone())
}

/// What this process has made for a task, once every process has made its own.
///
/// # Errors
/// As [`Exchange::all`].
pub(crate) fn together<T>(
    exchange: &mut Exchange,
    what: &'static str,
    own: Result<T>,
) -> Result<T> {
    exchange.all(what, own, Failure::code)
}

/// The outcome of a task, after the exchange has ended. A failure is reported before that, while the
/// other processes wait: the launcher ends all processes as soon as one has failed.
///
/// # Errors
/// The failure, which is reported; or that of the exchange.
pub(crate) fn settle<T>(exchange: Exchange, outcome: Result<T>) -> Result<T> {
    let failure = match outcome {
        Ok(made) => {
            exchange.close()?;
            return Ok(made);
        }
        Err(failure) => failure,
    };

    interrupt::ignore();
    if exchange.has_failed() || failure.is_shared() {
        failure.report();
        // If it fails, another process has ended early. All has been said.
        drop(exchange.close());
    } else {
        // The others end when the exchange is dropped.
        failure.report_own();
    }

    Err(Failure::Reported(failure.code()))
}

/// Lets the process that speaks write first.
pub(crate) fn defer() {
    std::thread::sleep(DEFERRING);
}

/// Says how to resume the run if one of its processes is lost.
pub(crate) fn resumed_by(command: &str) {
    // Set once: a process has one run.
    let _ = RESUME.set(format!("resume from the last checkpoint with: {command}"));
}
