//! How many threads compute, and what the libraries below read from the environment when a process starts.

use std::num::NonZeroUsize;

/// Threads of candle's own element-wise operations. Its pool spins between two operations and takes the
/// processors from the matrix products of the other pool; our kernels leave it next to nothing to do.
const CANDLE: (&str, &str) = ("CANDLE_NUM_THREADS", "1");

/// Makes glibc keep freed buffers: every training step allocates the same ones, and fetching fresh pages for
/// them takes about a sixth of the time. Other C libraries do not know the variable.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
);

/// What rayon and candle's matrix products read.
const POOL: &str = "RAYON_NUM_THREADS";

/// Prepares the process for training: `wanted` threads, or as many as the environment says, or all cores.
///
/// Some libraries read their settings from the environment as they start, which a running process cannot
/// safely change for itself. So the program starts itself again with them set, in the same process, before
/// it has done anything; what the user has set stays. Where a system cannot do that, training is slower
/// and only the pool of our own kernels is limited.
pub(crate) fn prepare(wanted: Option<NonZeroUsize>) {
    let is_unset = |name: &str| std::env::var_os(name).is_none();
    let mut missing: Vec<(&str, String)> = [CANDLE, ALLOCATOR]
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
    let Some(wanted) = wanted else { return };
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(wanted.get()).build_global() {
        tracing::warn!(%error, "the number of threads stays {}", current());
    }
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
    let error = std::process::Command::new(program).arg0(name).args(arguments).envs(environment).exec();
    tracing::warn!(%error, "the settings of the libraries below stay as they are");
}

#[cfg(not(unix))]
fn start_again(_environment: Vec<(&str, String)>) {}
