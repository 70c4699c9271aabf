//! Sketches of each position's gradient, from which inner products of gradients are estimated.
//!
//! Positions that share weights add their gradients to the same sums, in place. A sketch is linear,
//! so the sketch of one position's gradient is that of the sums after it less that of the sums
//! before it. No position's gradient gets its own buffer and nothing is added in another order:
//! gradients have the same bits as without sketches. The rounding of the sums is in the sketches
//! too: for f32, a few ten-millionths of the sum.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dlt_kernels::{Kernels, SKETCH_WIDTH};

use crate::{ModelError, Result};

/// A sketch of the gradient at each position, summed over the pieces of a batch; zeros for a
/// position without a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionSketches {
    /// Seed of the projection.
    seed: u64,
    /// A row of [`SKETCH_WIDTH`] numbers for each position.
    rows: Vec<f64>,
    /// The last sketch of each slot's sums. The next position of the slot is measured against it.
    sums: BTreeMap<usize, Vec<f64>>,
}

impl PositionSketches {
    fn new(seed: u64, n_layers: usize) -> Self {
        Self { seed, rows: vec![0.0; n_layers * SKETCH_WIDTH], sums: BTreeMap::new() }
    }

    /// The sketches of two parts of a batch together, which have one seed: a sketch is linear.
    #[must_use]
    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.rows.iter_mut().zip(&other.rows).for_each(|(own, other)| *own += other);
        self
    }

    /// The numbers of all sketches, a row of [`SKETCH_WIDTH`] for each position.
    #[must_use]
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// As many numbers, of the sketches of a whole batch, in place of these of a part.
    #[must_use]
    pub fn with_rows(self, rows: Vec<f64>) -> Self {
        Self { rows, ..self }
    }

    /// Estimated inner products of the gradients at each two positions, with respect to the block
    /// weights. The mean over projections is the inner product. The standard error is at most √2/16
    /// of the product of both norms.
    ///
    /// # Shapes
    /// Result L x L, row-major.
    #[must_use]
    pub fn products(&self) -> Vec<f64> {
        let rows = || self.rows.chunks(SKETCH_WIDTH);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        rows().flat_map(|a| rows().map(move |b| dot(a, b))).collect()
    }

    /// The sketch of a position's gradient.
    ///
    /// # Panics
    /// Panics for a layer that the model does not have.
    #[must_use]
    pub fn of(&self, layer: usize) -> &[f64] {
        &self.rows[layer * SKETCH_WIDTH..][..SKETCH_WIDTH]
    }

    /// Adds a position's gradient, given the sketch of its slot's sums after it.
    fn add(&mut self, layer: usize, slot: usize, sums: Vec<f64>) {
        let row = &mut self.rows[layer * SKETCH_WIDTH..][..SKETCH_WIDTH];
        row.iter_mut().zip(&sums).for_each(|(row, after)| *row += after);

        // The first position of a slot in the first piece starts from sums of zero.
        if let Some(before) = self.sums.get(&slot) {
            row.iter_mut().zip(before).for_each(|(row, before)| *row -= before);
        }

        self.sums.insert(slot, sums);
    }
}

/// The sketches of one pass while it runs.
pub(super) struct Sketching {
    kernels: Kernels,
    sketches: PositionSketches,
    /// Layer, its slot, and the sketch of the slot's sums after the layer. They stay on the device
    /// until the end of the pass, so that the pass never waits for it.
    made: Vec<(usize, usize, Tensor)>,
}

impl Sketching {
    /// Continues from the sketches of a batch's earlier pieces. `is_continued` says whether such
    /// pieces have left gradients. `None` if no sketches are requested.
    ///
    /// # Errors
    /// [`ModelError::Batch`] if earlier pieces had another seed.
    pub(super) fn begin(
        seed: Option<u64>,
        earlier: Option<PositionSketches>,
        is_continued: bool,
        kernels: Kernels,
        n_layers: usize,
    ) -> Result<Option<Self>> {
        let of_earlier = earlier.as_ref().map(|sketches| sketches.seed);
        if is_continued && of_earlier != seed {
            return Err(ModelError::Batch {
                expected: format!(
                    "gradients with sketches of projection {seed:?}, as in this piece"
                ),
                got: format!("gradients of earlier pieces with projection {of_earlier:?}"),
            });
        }

        Ok(seed.map(|seed| Self {
            kernels,
            sketches: earlier.unwrap_or_else(|| PositionSketches::new(seed, n_layers)),
            made: Vec::new(),
        }))
    }

    /// Sketches the sums of a slot right after a layer has added to them.
    pub(super) fn take(&mut self, layer: usize, slot: usize, sums: &[Tensor]) -> Result<()> {
        let sums: Vec<&Tensor> = sums.iter().collect();
        self.made.push((layer, slot, self.kernels.sketch(&sums, self.sketches.seed)?));
        Ok(())
    }

    /// The sketches of the positions. Waits for the device once.
    pub(super) fn finish(mut self) -> Result<PositionSketches> {
        if self.made.is_empty() {
            return Ok(self.sketches);
        }

        // (positions with a slot, SKETCH_WIDTH), in the order of the backward pass, which `add`
        // depends on.
        let rows: Vec<&Tensor> = self.made.iter().map(|(_, _, sketch)| sketch).collect();
        let rows = Tensor::stack(&rows, 0)?.to_vec2::<f64>()?;
        for (&(layer, slot, _), sums) in self.made.iter().zip(rows) {
            self.sketches.add(layer, slot, sums);
        }

        Ok(self.sketches)
    }
}
