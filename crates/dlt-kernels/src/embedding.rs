//! Rows of a table by id.

use crate::shape::{checked_ids, matrix};
use crate::{Kernels, composed};
use candle_core::{Result, Tensor, bail};

impl Kernels {
    /// Row `id` of the table for each id.
    ///
    /// # Shapes
    /// `table` (V, C), `ids` u32 of any non-empty shape; returns (ids..., C).
    ///
    /// # Errors
    /// When a tensor is empty, ids are not u32, or an id is not below V.
    pub fn embedding(self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let (vocabulary, _) = matrix("embedding", "table", table)?;
        if ids.elem_count() == 0 {
            bail!("embedding: expected at least one id, came shape {:?}", ids.dims())
        }
        checked_ids("embedding", ids, vocabulary)?;
        composed::embedding(table, ids)
    }
}
