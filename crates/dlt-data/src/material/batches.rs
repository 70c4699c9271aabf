//! The order in which windows are visited.

use crate::error::DataError;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// An endless sequence of batches of windows. Each pass is a fresh seeded shuffle of all windows.
/// Windows that do not fill a last batch are left out of that pass; the next shuffle may place them
/// earlier.
#[derive(Clone, Debug)]
pub struct Batches {
    batch: usize,
    order: Vec<usize>,
    position: BatchPosition,
}

/// The position of a [`Batches`]: all that is needed to resume exactly there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchPosition {
    /// Passes begun before this one, including those that were cut short.
    pub pass: u64,
    /// Windows of this pass that are already used.
    pub index: usize,
    /// The generator as it was before it shuffled this pass.
    rng: ChaCha8Rng,
}

impl Batches {
    /// Batches of `batch` out of `count` windows, shuffled by `rng`.
    ///
    /// # Errors
    /// If a pass is too short for one batch, or a batch has no window.
    pub fn new(count: usize, batch: usize, rng: ChaCha8Rng) -> Result<Self, DataError> {
        Self::resume(count, batch, BatchPosition { pass: 0, index: 0, rng })
    }

    /// Resumes at a saved position of batches out of `count` windows.
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
        // `position` keeps the generator as it was before the shuffle of the current pass. Drawing
        // that shuffle again advances it to the state before the next one.
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

    /// The position of these batches, to save and resume.
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
