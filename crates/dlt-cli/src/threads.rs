//! How many threads compute, and what the libraries below read from the environment when a process
//! starts.

use std::num::NonZeroUsize;

use dlt_spec::ExitCode;
use dlt_train::memory::address_space_mb;

use crate::arguments::Machine;
use crate::failure::{Failure, Result};

/// Threads of candle's own element-wise operations. Its pool spins between two operations and takes
/// the processors from the matrix products of the other pool; our kernels leave it next to nothing
/// to do.
const CANDLE: (&str, &str) = ("CANDLE_NUM_THREADS", "1");

/// Makes glibc keep freed buffers: every training step allocates the same ones, and fetching fresh
/// pages for them takes about a sixth of the time. Other C libraries do not know the variable.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
);

/// The same where addresses are few: one heap, without room to spare. A heap for each thread, and
/// the room above, would take the addresses before anything is held in them, and the allocation
/// after that would end the process.
const FRUGAL_ALLOCATOR: (&str, &str) = (ALLOCATOR.0, "glibc.malloc.arena_max=1");

/// Megabytes of addresses from which on there are enough for all of that.
const MANY_ADDRESSES_MB: f64 = 4000.0;

/// Megabytes of addresses below which the program could not say any more what is too large: for
/// itself, and for the stack and the buffers of each thread.
const LEAST_ADDRESSES_MB: (f64, f64) = (64.0, 4.0);

/// What rayon and candle's matrix products read.
const POOL: &str = "RAYON_NUM_THREADS";

/// Variables by which a number of threads may be set from outside.
const COUNTS: [&str; 3] = [POOL, "RAYON_RS_NUM_CPUS", CANDLE.0];

/// Does work on one of the threads that compute, as many as the machine is to use. From any other
/// thread each operation would be handed over and waited for; here the thread itself does what no
/// other one has taken yet. On two cores a small model trains 1.6 times as fast for it, and two
/// such runs at once 1.2 times; the step of a larger one stays as it was.
pub(crate) fn compute<R: Send>(machine: &Machine, work: impl FnOnce() -> R + Send) -> R {
    prepare(machine.threads);
    rayon::scope(|_| work())
}

/// Refuses a limit on the addresses of the process that is too small to work in.
pub(crate) fn check_addresses(wanted: Option<NonZeroUsize>) -> Result {
    let Some(left) = address_space_mb() else { return Ok(()) };
    let threads = wanted.map_or(cores(), |wanted| wanted.min(cores()));
    let (program, thread) = LEAST_ADDRESSES_MB;
    let least = program + thread * threads.get() as f64;

    if left >= least {
        return Ok(());
    }

    let message = format!(
        "memory: the limit on addresses (ulimit -v) leaves {left:.0} MB, expected at least {least:.0} MB with {threads} \
         threads: set a larger limit"
    );

    Err(Failure::refused(ExitCode::Resources, message))
}

/// Prepares the process for training: `wanted` threads, or as many as the environment says, or all
/// cores. More than there are cores only wait for each other, so that no more are started, and a
/// note says so.
///
/// Some libraries read their settings from the environment as they start, which a running process
/// cannot safely change for itself. So the program starts itself again with them set, in the same
/// process, before it has done anything; what the user has set stays. Where a system cannot do
/// that, training is slower and only the pool of our own kernels is limited.
fn prepare(wanted: Option<NonZeroUsize>) {
    let asked = wanted;
    let wanted = wanted.map(|wanted| wanted.min(cores()));
    let is_unset = |name: &str| std::env::var_os(name).is_none();
    let is_tight = address_space_mb().is_some_and(|left| left < MANY_ADDRESSES_MB);
    let allocator = if is_tight { FRUGAL_ALLOCATOR } else { ALLOCATOR };

    let mut missing: Vec<(&str, String)> = [CANDLE, allocator]
        .into_iter()
        .filter(|(name, _)| is_unset(name))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();

    if let Some(wanted) = wanted.map(|wanted| wanted.to_string())
        && std::env::var(POOL).as_deref() != Ok(&wanted)
    {
        missing.push((POOL, wanted));
    }

    if !missing.is_empty() {
        start_again(missing);
    }

    let Some(wanted) = bounded(asked) else { return };

    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(wanted.get()).build_global() {
        tracing::warn!(%error, "the number of threads stays {}", current());
    }
}

/// Sees to it that the libraries below read no number of threads that is greater than that of the
/// cores.
pub(crate) fn bound_environment() {
    let cores = cores();
    let mut changed = Vec::new();

    for name in COUNTS {
        if let Some(set) = too_many(std::env::var(name).ok().as_deref(), cores) {
            tracing::warn!(
                "{name}={set} is more than the {cores} cores of this machine: using {cores}"
            );
            changed.push((name, cores.to_string()));
        }
    }

    if !changed.is_empty() {
        start_again(changed);
    }
}

/// As many threads as were asked for, or as there are cores, with a note.
pub(crate) fn bounded(asked: Option<NonZeroUsize>) -> Option<NonZeroUsize> {
    let cores = cores();
    if asked.is_some_and(|asked| asked > cores) {
        tracing::warn!("--threads is more than the {cores} cores of this machine: using {cores}");
    }
    asked.map(|asked| asked.min(cores))
}

/// Cores that this process may use.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A number of threads from outside, where it is more than there are cores. What is no number is
/// the library's to refuse.
fn too_many(set: Option<&str>, cores: NonZeroUsize) -> Option<&str> {
    let set = set?.trim();
    let is_number = !set.is_empty() && set.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that are no usize are too many for any machine.
    (is_number && set.parse::<usize>().map_or(true, |set| set > cores.get())).then_some(set)
}

/// Threads that our kernels compute with.
pub(crate) fn current() -> usize {
    rayon::current_num_threads()
}

#[cfg(unix)]
fn start_again(environment: Vec<(&str, String)>) {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());

    // Only returns where it fails.
    let error =
        std::process::Command::new(program).arg0(name).args(arguments).envs(environment).exec();
    tracing::warn!(%error, "the settings of the libraries below stay as they are");
}

#[cfg(not(unix))]
fn start_again(_environment: Vec<(&str, String)>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_are_told_from_those_that_there_are() {
        let of = |set| too_many(set, NonZeroUsize::new(4).unwrap());
        assert_eq!([None, Some("4"), Some("0"), Some(""), Some("many")].map(of), [None; 5]);
        assert_eq!(of(Some("5")), Some("5"));
        assert_eq!(of(Some(" 99999999999999999999999 ")), Some("99999999999999999999999"));
    }

    #[test]
    fn work_is_done_on_a_thread_that_computes() {
        assert!(rayon::scope(|_| rayon::current_thread_index().is_some()));
    }
}
