//! Batches of windows, as the model takes them.

use dlt_data::{BatchPosition, Batches, Windows};
use dlt_models::Batch;
use rand_chacha::ChaCha8Rng;

use crate::Result;

/// Training windows in a seeded order, a batch at a time.
#[derive(Debug)]
pub(crate) struct Feed {
    windows: Windows,
    batches: Batches,
    batch: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl Feed {
    pub(crate) fn new(windows: &Windows, batch: usize, rng: ChaCha8Rng) -> Result<Self> {
        let size = batch * windows.context();
        Ok(Self {
            windows: windows.clone(),
            batches: Batches::new(windows.count(), batch, rng)?,
            batch,
            inputs: vec![0; size],
            targets: vec![0; size],
        })
    }

    /// The next batch of B windows.
    pub(crate) fn next(&mut self) -> Result<Batch<'_>> {
        let context = self.windows.context();
        let parts = self.inputs.chunks_mut(context).zip(self.targets.chunks_mut(context));
        for (&window, (inputs, targets)) in self.batches.next_batch().iter().zip(parts) {
            self.windows.fill(window, inputs, targets)?;
        }
        Ok(Batch { inputs: &self.inputs, targets: &self.targets, windows: self.batch })
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> BatchPosition {
        self.batches.position()
    }

    /// Goes on where it stood.
    pub(crate) fn resume(&mut self, position: BatchPosition) -> Result<()> {
        self.batches = Batches::resume(self.windows.count(), self.batch, position)?;
        Ok(())
    }

    /// Starts a fresh shuffle.
    pub(crate) fn restart(&mut self) {
        self.batches.restart();
    }
}
