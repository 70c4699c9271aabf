//! The examples of a split, by index.

use super::masking::Masking;
use crate::{
    error::DataError,
    pictures::{Augment, PictureBatch, PictureSettings, Pictures},
    sentences::{SentenceBatch, SentenceIds},
    text::windows::Windows,
};
use std::sync::Arc;

/// The pass whose random draws evaluations use, whatever was trained before.
const FIXED_PASS: u64 = u64::MAX;

/// How random choices about an example are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// For training in this pass. Draws depend only on the seed, the pass and the example's index,
    /// so a resumed run draws the same.
    Pass(u64),
    /// For evaluation. The same tokens are always hidden, and pictures are not changed.
    Fixed,
}

/// The examples of a split: windows of text, sentences, or pictures. Clones share them.
#[derive(Clone, Debug)]
pub struct Examples {
    kind: ExampleKind,
    count: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
pub(super) enum ExampleKind {
    Windows(Windows),
    Masked(Windows, Masking),
    Sentences(Arc<SentenceIds>),
    Pictures(Arc<Pictures>, PictureSettings),
}

/// Some examples, ready for a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ExampleBatch {
    /// Windows of text.
    Windows {
        /// Token ids, B x T.
        inputs: Vec<u32>,
        /// The token that follows each of them, B x T.
        targets: Vec<u32>,
        /// B.
        windows: usize,
    },
    /// Windows of text with hidden tokens.
    Masked {
        /// Token ids, B x T, some replaced.
        inputs: Vec<u32>,
        /// The original tokens where they are to be predicted, else `None`, B x T.
        targets: Vec<Option<u32>>,
        /// B.
        windows: usize,
    },
    /// Sentences.
    Sentences {
        /// Ids, types and lengths.
        rows: SentenceBatch,
        /// Classes, B.
        labels: Vec<u32>,
    },
    /// Pictures.
    Pictures(PictureBatch),
}

impl From<Windows> for Examples {
    fn from(windows: Windows) -> Self {
        Self::new(ExampleKind::Windows(windows), 0)
    }
}

impl Examples {
    pub(super) fn new(kind: ExampleKind, seed: u64) -> Self {
        let count = match &kind {
            ExampleKind::Windows(windows) | ExampleKind::Masked(windows, _) => windows.count(),
            ExampleKind::Sentences(rows) => rows.len(),
            ExampleKind::Pictures(pictures, _) => pictures.len(),
        };

        Self { kind, count, seed }
    }

    /// Number of examples.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Only the first `count` of these examples.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn first(&self, count: usize) -> Result<Self, DataError> {
        if count > self.count {
            return Err(DataError::BadPosition { index: count, count: self.count });
        }

        let kind = match &self.kind {
            ExampleKind::Windows(windows) => ExampleKind::Windows(windows.first(count)?),
            ExampleKind::Masked(windows, masking) => {
                ExampleKind::Masked(windows.first(count)?, *masking)
            }
            other => other.clone(),
        };

        Ok(Self { kind, count, seed: self.seed })
    }

    /// The examples with these indices.
    ///
    /// # Errors
    /// If there is no such example.
    pub fn batch(&self, indices: &[usize], draw: Draw) -> Result<ExampleBatch, DataError> {
        let pass = match draw {
            Draw::Pass(pass) => pass,
            Draw::Fixed => FIXED_PASS,
        };

        match &self.kind {
            ExampleKind::Windows(windows) => {
                let [inputs, targets] = filled(windows, indices)?;
                Ok(ExampleBatch::Windows { inputs, targets, windows: indices.len() })
            }
            ExampleKind::Masked(windows, masking) => {
                let [mut inputs, _] = filled(windows, indices)?;
                let rows = inputs.chunks_exact_mut(windows.context()).zip(indices);
                let targets = rows
                    .flat_map(|(row, &index)| masking.hide(row, self.seed, pass, index))
                    .collect();

                Ok(ExampleBatch::Masked { inputs, targets, windows: indices.len() })
            }
            ExampleKind::Sentences(rows) => {
                let rows = if rows.pads_fully() {
                    rows.full_batch(indices)?
                } else {
                    rows.batch(indices)?
                };

                let labels = rows.labels.iter().flatten().copied().collect();
                Ok(ExampleBatch::Sentences { rows, labels })
            }
            ExampleKind::Pictures(pictures, settings) => {
                let augment = match draw {
                    Draw::Pass(pass) => Augment::Drawn { seed: self.seed, pass },
                    Draw::Fixed => Augment::Never,
                };

                Ok(ExampleBatch::Pictures(pictures.batch(indices, settings, augment)?))
            }
        }
    }

    /// The rest of a text after the last whole window, as one shorter window.
    ///
    /// # Errors
    /// If its tokens cannot be read.
    pub fn tail(&self) -> Result<Option<ExampleBatch>, DataError> {
        Ok(match &self.kind {
            ExampleKind::Windows(windows) => windows
                .tail()?
                .map(|(inputs, targets)| ExampleBatch::Windows { inputs, targets, windows: 1 }),
            ExampleKind::Masked(windows, masking) => windows.tail()?.map(|(mut inputs, _)| {
                let targets = masking.hide(&mut inputs, self.seed, FIXED_PASS, self.count);
                ExampleBatch::Masked { inputs, targets, windows: 1 }
            }),
            ExampleKind::Sentences(_) | ExampleKind::Pictures(..) => None,
        })
    }

    /// Tokens of the widest batch; `None` if all batches are as wide as the model's context.
    #[must_use]
    pub fn widest(&self) -> Option<usize> {
        match &self.kind {
            ExampleKind::Sentences(rows) => Some(rows.widest()),
            ExampleKind::Windows(_) | ExampleKind::Masked(..) | ExampleKind::Pictures(..) => None,
        }
    }

    /// How often each class occurs; `None` if the examples have no classes.
    #[must_use]
    pub fn class_counts(&self) -> Option<Vec<u64>> {
        let labels: Vec<u32> = match &self.kind {
            ExampleKind::Windows(_) | ExampleKind::Masked(..) => return None,
            ExampleKind::Sentences(rows) => rows.labels().collect(),
            ExampleKind::Pictures(pictures, _) => {
                pictures.labels.iter().map(|&label| u32::from(label)).collect()
            }
        };

        let labels = &labels[..self.count.min(labels.len())];
        let mut counts = vec![0; labels.iter().max().map_or(0, |&most| most as usize + 1)];
        labels.iter().for_each(|&label| counts[label as usize] += 1);

        Some(counts)
    }
}

/// Inputs and targets of windows, each B x T.
fn filled(windows: &Windows, indices: &[usize]) -> Result<[Vec<u32>; 2], DataError> {
    let context = windows.context();
    let mut inputs = vec![0; indices.len() * context];
    let mut targets = vec![0; indices.len() * context];

    let rows = inputs.chunks_exact_mut(context).zip(targets.chunks_exact_mut(context));
    for (&index, (inputs, targets)) in indices.iter().zip(rows) {
        windows.fill(index, inputs, targets)?;
    }

    Ok([inputs, targets])
}
