//! Sketches of each position's gradient, from which inner products of gradients are estimated.
//!
//! Positions that share weights add their gradients to the same sums, in place. A sketch is linear,
//! so that of one position's gradient is the sketch of the sums after it less that before it: no
//! gradient is made by itself, nothing is added in another order, and gradients have the same bits
//! as without sketches. What a sum loses to rounding is the sketch's loss too: of f32 sums, a few
//! ten millionths of the sum.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dlt_kernels::{Kernels, SKETCH_WIDTH};

use crate::{ModelError, Result};

/// A sketch of the gradient at each position, summed over the pieces of a batch; zeros at a
/// position whose gradient nobody takes.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionSketches {
    /// Of the projection.
    seed: u64,
    /// A row of [`SKETCH_WIDTH`] numbers for each position.
    rows: Vec<f64>,
    /// Sketches of the sums of each slot.
    sums: BTreeMap<usize, Vec<f64>>,
}

impl PositionSketches {
    fn new(seed: u64, n_layers: usize) -> Self {
        Self { seed, rows: vec![0.0; n_layers * SKETCH_WIDTH], sums: BTreeMap::new() }
    }

    /// Estimates of the inner products of the gradients with respect to the block weights at each
    /// two positions: mean over projections is the inner product, standard error at most √2/16 of
    /// the product of both norms.
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
    /// For a layer that the model does not have.
    #[must_use]
    pub fn of(&self, layer: usize) -> &[f64] {
        &self.rows[layer * SKETCH_WIDTH..][..SKETCH_WIDTH]
    }

    /// Adds the gradient of a position that brought its slot's sums to this sketch.
    fn add(&mut self, layer: usize, slot: usize, sums: Vec<f64>) {
        let row = &mut self.rows[layer * SKETCH_WIDTH..][..SKETCH_WIDTH];
        row.iter_mut().zip(&sums).for_each(|(row, after)| *row += after);

        if let Some(before) = self.sums.get(&slot) {
            row.iter_mut().zip(before).for_each(|(row, before)| *row -= before);
        }

        self.sums.insert(slot, sums);
    }
}

/// Sketches under way in one pass.
pub(super) struct Sketching {
    kernels: Kernels,
    sketches: PositionSketches,
    /// Layer, its slot, and the sketch of the slot's sums behind the layer; on the device, which
    /// nobody waits for before the end of the pass.
    made: Vec<(usize, usize, Tensor)>,
}

impl Sketching {
    /// Goes on from the sketches of a batch's earlier pieces, whose gradients are there if `again`;
    /// `None` where no sketches are asked for.
    pub(super) fn begin(
        seed: Option<u64>,
        earlier: Option<PositionSketches>,
        again: bool,
        kernels: Kernels,
        n_layers: usize,
    ) -> Result<Option<Self>> {
        let of_earlier = earlier.as_ref().map(|sketches| sketches.seed);
        if again && of_earlier != seed {
            return Err(ModelError::Batch {
                expected: format!(
                    "gradients with sketches of projection {seed:?}, as of this piece"
                ),
                got: format!("those of earlier pieces with projection {of_earlier:?}"),
            });
        }

        Ok(seed.map(|seed| Self {
            kernels,
            sketches: earlier.unwrap_or_else(|| PositionSketches::new(seed, n_layers)),
            made: Vec::new(),
        }))
    }

    /// Takes the sums of a slot, just behind the layer that has added to them.
    pub(super) fn take(&mut self, layer: usize, slot: usize, sums: &[Tensor]) -> Result<()> {
        let sums: Vec<&Tensor> = sums.iter().collect();
        self.made.push((layer, slot, self.kernels.sketch(&sums, self.sketches.seed)?));
        Ok(())
    }

    /// The sketches of the positions. The device is waited for once.
    pub(super) fn finish(mut self) -> Result<PositionSketches> {
        if self.made.is_empty() {
            return Ok(self.sketches);
        }

        let rows: Vec<&Tensor> = self.made.iter().map(|(_, _, sketch)| sketch).collect();
        let rows = Tensor::stack(&rows, 0)?.to_vec2::<f64>()?;
        for (&(layer, slot, _), sums) in self.made.iter().zip(rows) {
            self.sketches.add(layer, slot, sums);
        }

        Ok(self.sketches)
    }
}
