//! Batches of examples, in the form that a model accepts.

use std::num::NonZeroUsize;

use dlt_data::{
    BatchPosition, Batches, DataError, ExampleBatch, Examples, Prefetcher, Ready, prefetch,
};
use dlt_models::Batch;
use dlt_models::batch::{Input, Padding, Tokens, Wanted};
use rand_chacha::ChaCha8Rng;

use crate::{Result, TrainError};

/// Batches that are prepared in advance while one is trained on.
const AHEAD: NonZeroUsize = NonZeroUsize::MIN;

/// Training examples in a seeded order, a batch at a time, prepared on another thread.
#[derive(Debug)]
pub(crate) struct Feed {
    examples: Examples,
    batch: usize,
    /// Position after the batch that was returned last.
    position: BatchPosition,
    ready: Option<Prefetcher<std::result::Result<Ready, DataError>>>,
    taken: Option<ExampleBatch>,
}

impl Feed {
    pub(crate) fn new(examples: &Examples, batch: usize, rng: ChaCha8Rng) -> Result<Self> {
        let position = Batches::new(examples.count(), batch, rng)?.position();
        Ok(Self { examples: examples.clone(), batch, position, ready: None, taken: None })
    }

    /// The next batch of B examples.
    pub(crate) fn next(&mut self) -> Result<Batch<'_>> {
        let mut ready = match self.ready.take() {
            Some(ready) => ready,
            None => prefetch(self.examples.clone(), self.batches()?, AHEAD)
                .map_err(TrainError::Thread)?,
        };

        // The batches have no end, so this means that the thread has died.
        let Some(next) = ready.next() else {
            return Err(TrainError::Thread(std::io::ErrorKind::BrokenPipe.into()));
        };
        let Ready { batch, position } = next?;

        // The position comes with its batch: the thread is already ahead, and a checkpoint must not
        // skip the batches that it has prepared.
        self.position = position;
        self.ready = Some(ready);

        Ok(view(self.taken.insert(batch)))
    }

    fn batches(&self) -> Result<Batches> {
        Ok(Batches::resume(self.examples.count(), self.batch, self.position.clone())?)
    }

    /// The position after the last batch, for a checkpoint.
    pub(crate) fn position(&self) -> BatchPosition {
        self.position.clone()
    }

    /// Continues from a saved position.
    pub(crate) fn resume(&mut self, position: BatchPosition) -> Result<()> {
        // Batches that were prepared belong to the old position.
        self.ready = None;
        self.position = position;
        self.batches().map(drop)
    }

    /// Leaves the present pass and starts a fresh shuffle.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.ready = None;
        let mut batches = self.batches()?;
        batches.restart();
        self.position = batches.position();
        Ok(())
    }
}

/// A batch of examples in the form that a model accepts.
pub(crate) fn view(batch: &ExampleBatch) -> Batch<'_> {
    match batch {
        ExampleBatch::Windows { inputs, targets, windows } => {
            Batch::next_token(inputs, targets, *windows)
        }
        ExampleBatch::Masked { inputs, targets, windows } => Batch {
            input: Input::Tokens(Tokens::of(inputs)),
            wanted: Wanted::Some(targets),
            windows: *windows,
        },
        ExampleBatch::Sentences { rows, labels } => {
            let padding = if rows.masks_padding { Padding::Hidden } else { Padding::Seen };
            let tokens = Tokens {
                ids: &rows.ids,
                types: Some(&rows.types),
                lengths: Some(&rows.lengths),
                padding,
            };

            Batch {
                input: Input::Tokens(tokens),
                wanted: Wanted::Classes(labels),
                windows: rows.rows,
            }
        }
        ExampleBatch::Pictures(pictures) => Batch {
            input: Input::Pictures(&pictures.pixels),
            wanted: Wanted::Classes(&pictures.labels),
            windows: pictures.labels.len(),
        },
    }
}
