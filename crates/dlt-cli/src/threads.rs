//! The number of threads that compute, and the settings that libraries read from the environment
//! when a process starts.

use std::num::NonZeroUsize;

use dlt_spec::ExitCode;
use dlt_train::memory::address_space_mb;

use crate::arguments::Machine;
use crate::failure::{Failure, Result};

/// Threads of candle's own element-wise operations. Its pool spins between two operations, and so
/// takes processor time from the matrix products of the other pool. Our kernels leave it almost
/// nothing to do.
const CANDLE: (&str, &str) = ("CANDLE_NUM_THREADS", "1");

/// Makes glibc keep freed buffers. Every training step allocates the same buffers, and getting new
/// pages for them takes about a sixth of the time. Other C libraries do not know the variable.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
);

/// The setting if there are few addresses: one heap, without spare room. A heap for each thread,
/// with the room above, would use up the addresses before anything is in them, and the next
/// allocation would end the process.
const FRUGAL_ALLOCATOR: (&str, &str) = (ALLOCATOR.0, "glibc.malloc.arena_max=1");

/// Megabytes of addresses from which on [`ALLOCATOR`] is safe.
const MANY_ADDRESSES_MB: f64 = 4000.0;

/// Megabytes of addresses that the program needs to at least report what is too large: for itself,
/// and for the stack and the buffers of each thread.
const LEAST_ADDRESSES_MB: (f64, f64) = (64.0, 4.0);

/// Variable that rayon and candle's matrix products read.
pub(crate) const POOL: &str = "RAYON_NUM_THREADS";

/// Variables that set a number of threads.
const COUNTS: [&str; 3] = [POOL, "RAYON_RS_NUM_CPUS", CANDLE.0];

/// Prepares the threads, and runs `work` on one of them. From any other thread, each operation
/// would be handed over and waited for. A thread of the pool does the parts itself that no other
/// thread has begun. On two cores this makes a small model 1.6 times as fast to train, and two such
/// runs at the same time 1.2 times. A step of a larger model takes as long as before.
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
        "memory: the limit on addresses (ulimit -v) leaves {left:.0} MB, but at least {least:.0} MB are \
         needed (threads: {threads}); set a larger limit"
    );

    Err(Failure::refused(ExitCode::Resources, message))
}

/// Prepares the process for training: `wanted` threads, or as many as the environment says, or all
/// cores. More threads than cores would only wait for each other, so no more are started, and a
/// warning says so.
///
/// Some libraries read their settings from the environment when they start, and a running process
/// cannot safely change its own environment. So the program executes itself again, in the same
/// process and before it has done anything, with these variables set. Variables that the user has
/// set stay. On a system that cannot do that, training is slower, and only the pool of our own
/// kernels is limited.
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

    // The new program finds all of them set, so it does not start again a second time.
    if !missing.is_empty() {
        start_again(missing);
    }

    let Some(wanted) = bounded(asked) else { return };

    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(wanted.get()).build_global() {
        tracing::warn!(%error, "the number of threads stays {}", current());
    }
}

/// Starts the program again if a variable asks for more threads than there are cores: libraries
/// would read it.
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

/// The number of threads that were asked for, or of cores if that is fewer, which gives a warning.
pub(crate) fn bounded(asked: Option<NonZeroUsize>) -> Option<NonZeroUsize> {
    let cores = cores();
    if asked.is_some_and(|asked| asked > cores) {
        tracing::warn!("--threads is more than the {cores} cores of this machine: using {cores}");
    }
    asked.map(|asked| asked.min(cores))
}

/// Cores that this process may use.
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The value of a variable, if it is a number greater than that of the cores. A value that is not a
/// number is left to the library.
fn too_many(set: Option<&str>, cores: NonZeroUsize) -> Option<&str> {
    let set = set?.trim();
    let is_number = !set.is_empty() && set.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that do not fit into a usize are too many for any machine.
    (is_number && set.parse::<usize>().map_or(true, |set| set > cores.get())).then_some(set)
}

/// Number of threads that our kernels compute with.
pub(crate) fn current() -> usize {
    rayon::current_num_threads()
}

/// Replaces this process by the same program with the same arguments and more variables. Returns
/// only on failure.
#[cfg(unix)]
fn start_again(environment: Vec<(&str, String)>) {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());

    // `exec` returns only if it fails.
    let error =
        std::process::Command::new(program).arg0(name).args(arguments).envs(environment).exec();
    tracing::warn!(%error, "cannot start again with other settings of libraries, so they stay as they are");
}

#[cfg(not(unix))]
fn start_again(_environment: Vec<(&str, String)>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_are_recognised() {
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
