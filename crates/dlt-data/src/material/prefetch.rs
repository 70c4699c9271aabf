//! Batches prepared on a separate thread.

use crate::{
    error::DataError,
    material::batches::{BatchPosition, Batches},
    material::{Draw, ExampleBatch, Examples},
};
use std::{
    io,
    num::NonZeroUsize,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

/// Prepares items on a separate thread, in order, a fixed number ahead of the consumer.
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
    /// `None` while it is dropped: without a receiver, the thread's next send fails and it ends.
    ready: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetcher<T> {
    /// Starts the thread. It calls `make` until that gives `None`, at most `ahead` + 1 times more
    /// than items were consumed.
    ///
    /// # Errors
    /// If the system cannot start a thread.
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

    /// The next item, after waiting until it is ready. A panic of `make` is passed on.
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
            // The thread ends after its current item. Its panic, if any, concerns nobody any more.
            drop(thread.join());
        }
    }
}

/// A batch of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The examples.
    pub batch: ExampleBatch,
    /// The position of the batches after this one. A run that was trained on this batch resumes
    /// from it, however many more batches were prepared.
    pub position: BatchPosition,
}

/// An endless sequence of batches of training examples, prepared on a separate thread.
///
/// # Errors
/// If the system cannot start a thread.
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
