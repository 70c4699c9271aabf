//! How many threads compute.

use std::num::NonZeroUsize;

/// What the thread pools below us read when they start: rayon's, which our kernels use, and candle's own two.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Limits every thread pool of the process to `wanted` threads; without a number they follow the environment
/// or take all cores.
///
/// candle sizes its pools by environment variables, which a process cannot safely set for itself. So where
/// they say otherwise the program starts itself again with them set, in the same process. Where a system
/// cannot do that, only the pool of our own kernels is limited, which does nearly all of the work.
pub(crate) fn limit(wanted: Option<NonZeroUsize>) {
    let Some(wanted) = wanted else { return };
    let text = wanted.to_string();
    if VARIABLES.iter().any(|name| std::env::var(name).as_deref() != Ok(&text)) {
        start_again(&text);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(wanted.get()).build_global();
    if let Err(error) = pool {
        tracing::warn!(%error, "the number of threads stays {}", current());
    }
}

/// Threads that our kernels compute with.
pub(crate) fn current() -> usize {
    rayon::current_num_threads()
}

#[cfg(unix)]
fn start_again(threads: &str) {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
    let environment = VARIABLES.map(|variable| (variable, threads));
    // Only returns where it fails.
    let error = std::process::Command::new(program).arg0(name).args(arguments).envs(environment).exec();
    tracing::warn!(%error, "candle's thread pools are not limited");
}

#[cfg(not(unix))]
fn start_again(_threads: &str) {}
