//! In which order windows are visited.

use crate::error::DataError;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Batches of windows, without end: each pass is a fresh seeded shuffle of all windows. Windows
/// that do not fill a last batch are left out of that pass; the next shuffle gives them their
/// chance.
#[derive(Clone, Debug)]
pub struct Batches {
    batch: usize,
    order: Vec<usize>,
    position: BatchPosition,
}

/// Where a [`Batches`] stands: all that is needed to go on exactly there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchPosition {
    /// Passes begun before this one, those that were cut short included.
    pub pass: u64,
    /// Windows of this pass that were used already.
    pub index: usize,
    /// The generator as it was before it shuffled this pass.
    rng: ChaCha8Rng,
}

impl Batches {
    /// Batches of `batch` out of `count` windows, shuffled by `rng`.
    ///
    /// # Errors
    /// If a pass has not a single batch, or a batch no window.
    pub fn new(count: usize, batch: usize, rng: ChaCha8Rng) -> Result<Self, DataError> {
        Self::resume(count, batch, BatchPosition { pass: 0, index: 0, rng })
    }

    /// Goes on at a saved position of batches out of as many windows.
    ///
    /// # Errors
    /// As [`Batches::new`], or if the position is beyond the last window.
    pub fn resume(count: usize, batch: usize, position: BatchPosition) -> Result<Self, DataError> {
        if batch == 0 || batch > count {
            return Err(DataError::BadBatch { batch, count });
        }
        if position.index > count {
            return Err(DataError::BadPosition { index: position.index, count });
        }

        Ok(Self { batch, order: shuffled(count, &mut position.rng.clone()), position })
    }

    /// Indices of the windows of the next batch, always B of them.
    pub fn next_batch(&mut self) -> &[usize] {
        if self.position.index + self.batch > self.order.len() {
            self.restart();
        }

        let start = self.position.index;
        self.position.index += self.batch;
        &self.order[start..self.position.index]
    }

    /// Leaves the current pass and starts a fresh shuffle.
    pub fn restart(&mut self) {
        // The generator is kept as it was before a shuffle; drawing that shuffle again moves it on
        // to the next.
        let rng = &mut self.position.rng;
        shuffled(self.order.len(), rng);
        self.order = shuffled(self.order.len(), &mut rng.clone());
        self.position.pass += 1;
        self.position.index = 0;
    }

    /// Batches in a pass.
    #[must_use]
    pub fn steps_per_pass(&self) -> usize {
        self.order.len() / self.batch
    }

    /// Where these batches stand.
    #[must_use]
    pub fn position(&self) -> BatchPosition {
        self.position.clone()
    }
}

fn shuffled(count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(rng);
    order
}
