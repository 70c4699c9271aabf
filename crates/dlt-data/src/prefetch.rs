//! Batches made ready on a thread of their own.

use crate::{
    batches::{BatchPosition, Batches},
    error::DataError,
    material::{Draw, ExampleBatch, Examples},
};
use std::{
    io,
    num::NonZeroUsize,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

/// Makes things ready on a thread of its own, in order, so many ahead of whoever takes them.
///
/// ```
/// use dlt_data::Prefetcher;
/// use std::num::NonZeroUsize;
///
/// let mut left = 3;
/// let ahead = NonZeroUsize::new(2).expect("2 is not 0");
/// let mut numbers = Prefetcher::new(ahead, move || { left -= 1; (left >= 0).then_some(left) })?;
/// assert_eq!(numbers.by_ref().collect::<Vec<_>>(), [2, 1, 0]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Prefetcher<T> {
    /// Gone while it is dropped, so that the thread hears that nobody listens.
    ready: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetcher<T> {
    /// Begins; `make` is called until it gives `None`, at most `ahead` + 1 times more than was
    /// taken.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        ahead: NonZeroUsize,
        mut make: impl FnMut() -> Option<T> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, ready) = sync_channel(ahead.get());
        let thread = thread::Builder::new().name("prefetch".to_owned()).spawn(move || {
            while let Some(made) = make() {
                if sender.send(made).is_err() {
                    return;
                }
            }
        })?;

        Ok(Self { ready: Some(ready), thread: Some(thread) })
    }
}

impl<T> Iterator for Prefetcher<T> {
    type Item = T;

    /// The next thing, waited for where it is not ready; a panic of `make` is passed on.
    fn next(&mut self) -> Option<T> {
        let next = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        if next.is_none()
            && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
        {
            std::panic::resume_unwind(panic);
        }

        next
    }
}

impl<T> Drop for Prefetcher<T> {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // It ends after what it is making now; what it panicked with nobody asked for.
            drop(thread.join());
        }
    }
}

/// A batch of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The examples.
    pub batch: ExampleBatch,
    /// Where the batches stand after this one: what a run that was trained on it goes on from,
    /// however many more were made ready.
    pub position: BatchPosition,
}

/// Batches of examples for training, without end, made ready on a thread of their own.
///
/// # Errors
/// If the system gives no thread.
pub fn prefetch(
    examples: Examples,
    mut batches: Batches,
    ahead: NonZeroUsize,
) -> io::Result<Prefetcher<Result<Ready, DataError>>> {
    Prefetcher::new(ahead, move || Some(ready(&examples, &mut batches)))
}

fn ready(examples: &Examples, batches: &mut Batches) -> Result<Ready, DataError> {
    let indices = batches.next_batch().to_vec();
    let position = batches.position();
    let batch = examples.batch(&indices, Draw::Pass(position.pass))?;
    Ok(Ready { batch, position })
}
