//! Softmax cross-entropy together with the output projection before it.

mod head;

use crate::matrix::product_workspace;
use crate::shape::{checked_ids, expect_same, matrix};
use crate::{Kernels, composed, host};
use candle_core::{Result, Tensor, bail};
use head::Head;

/// What [`Kernels::cross_entropy`] returns.
#[derive(Clone, Debug)]
pub struct HeadGradients {
    /// Sum of `-log p(target)` over the rows, not scaled.
    pub loss_sum: f64,
    /// Gradient of `scale · loss_sum` with respect to the hidden rows, (N, C).
    pub hidden: Tensor,
    /// Gradient of `scale · loss_sum` with respect to the table, (V, C); the buffer that was given, when one was.
    pub table: Tensor,
}

impl Kernels {
    /// Loss and gradients of `scale · Σ -log softmax(hidden · tableᵀ)[target]`, without autograd and in chunks of
    /// rows: the N x V logits never exist at once.
    ///
    /// With `table_into`, the table's gradient is added to that tensor in place.
    ///
    /// # Shapes
    /// `hidden` (N, C), `table` (V, C), `targets` u32 (N), `table_into` (V, C).
    ///
    /// # Errors
    /// When a tensor is empty, a shape does not fit, or a target is not below V.
    pub fn cross_entropy(
        self,
        hidden: &Tensor,
        table: &Tensor,
        targets: &Tensor,
        scale: f64,
        table_into: Option<&Tensor>,
    ) -> Result<HeadGradients> {
        let checked = check("cross_entropy", hidden, table, targets)?;
        if let Some(into) = table_into {
            expect_same("cross_entropy", "table_into", table, into)?;
        }
        if !self.fuses(&[hidden, table, table_into.unwrap_or(table)]) {
            return composed::cross_entropy(hidden, table, targets, scale, table_into);
        }
        let table_gradient = match table_into {
            Some(into) => into.detach(),
            None => table.zeros_like()?,
        };
        host::expect_apart("cross_entropy", &table_gradient, &[hidden, table])?;
        let (loss_sum, of_hidden) = host::write(&table_gradient, |into| {
            host::read([hidden, table], |[hidden, table]| {
                Ok(Head::new(hidden, table, &checked).gradients(scale as f32, into))
            })
        })?;
        Ok(HeadGradients {
            loss_sum,
            hidden: host::tensor(of_hidden, hidden.shape())?,
            table: table_gradient,
        })
    }

    /// `Σ -log softmax(hidden · tableᵀ)[target]`, for evaluation: no gradients, in chunks of rows.
    ///
    /// # Shapes
    /// As [`Kernels::cross_entropy`].
    ///
    /// # Errors
    /// As [`Kernels::cross_entropy`].
    pub fn cross_entropy_sum(self, hidden: &Tensor, table: &Tensor, targets: &Tensor) -> Result<f64> {
        let checked = check("cross_entropy_sum", hidden, table, targets)?;
        if !self.fuses(&[hidden, table]) {
            return composed::cross_entropy_sum(hidden, table, targets);
        }
        host::read([hidden, table], |[hidden, table]| Ok(Head::new(hidden, table, &checked).loss_sum()))
    }
}

/// Numbers (f32) that the fused [`Kernels::cross_entropy`] holds while it runs: the logits of a chunk of rows, those
/// rows once more, the gradient of all `rows`, and the chunk as the product for the table's gradient packs it.
#[must_use]
pub fn cross_entropy_workspace(rows: usize, width: usize, vocabulary: usize) -> usize {
    let chunk = head::chunk_rows(vocabulary.max(1)).min(rows);
    chunk * (vocabulary + width) + rows * width + product_workspace(vocabulary, chunk, width)
}

fn check(op: &str, hidden: &Tensor, table: &Tensor, targets: &Tensor) -> Result<Vec<u32>> {
    let (rows, width) = matrix(op, "hidden", hidden)?;
    let (vocabulary, table_width) = matrix(op, "table", table)?;
    if table_width != width {
        bail!("{op}: expected table of shape [{vocabulary}, {width}], came [{vocabulary}, {table_width}]")
    }
    if targets.dims() != [rows] {
        bail!("{op}: expected targets of shape [{rows}], came {:?}", targets.dims())
    }
    checked_ids(op, targets, vocabulary)
}
