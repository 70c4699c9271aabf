//! Guards work of the `tokenizers` crate: panics become errors, and a time limit ends waiting.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::{Once, mpsc},
    thread,
    time::Duration,
};

/// Stack of a thread that reads a tokenizer. The nesting that a file may have (see `vetting`) needs
/// only a small part of it.
const STACK_BYTES: usize = 16 << 20;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does some work. A panic in it becomes an error with its message, and is not printed.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silence_guarded_panics();
    let before = IS_GUARDED.replace(true);

    // Callers drop what the work has changed together with its error, so no half-changed value is
    // used.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(before);

    done.map_err(|panic| format!("the tokenizers library failed on it: {}", message(&*panic)))
}

/// Does some work on a separate thread, and stops waiting after `limit`. The thread cannot be
/// stopped then, but it ends with the process.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new()
        .name("tokenizer".to_owned())
        .stack_size(STACK_BYTES)
        // The send fails if the work took too long and nobody waits any more.
        .spawn(move || drop(sender.send(caught(work))));
    spawned.map_err(|error| format!("cannot start a thread for it: {error}"))?;

    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        Err(format!("it takes longer than {} s on a few lines of text", limit.as_secs()))
    })
}

/// Panics under [`caught`] are returned as errors. All others are printed as before.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                before(info);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_endless_work_is_abandoned() {
        assert_eq!(caught(|| 7), Ok(7));
        let error = caught(|| -> u8 { panic!("no {}", "way") });
        assert!(error.clone().unwrap_err().contains("no way"), "{error:?}");

        let error = within(Duration::from_millis(20), || {
            loop {
                thread::sleep(Duration::from_millis(5));
            }
        });

        assert!(error.as_ref().is_err_and(|error: &String| error.contains("longer")), "{error:?}");
    }
}
