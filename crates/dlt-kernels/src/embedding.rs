//! Rows of a table by id.

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::number::{Number, in_format_of};
use crate::rounding::{rounded, widened};
use crate::shape::{checked_ids, matrix};
use crate::{Kernels, composed, cuda, host, optimizer, rows};
use candle_core::{Result, Tensor, bail};

impl Kernels {
    /// Row `id` of the table for each id.
    ///
    /// Both variants of [`Kernels`] use candle's `index_select`, which copies at the speed of
    /// memory.
    ///
    /// # Shapes
    /// `table` (V, C), `ids` u32 of any non-empty shape; returns (ids..., C).
    ///
    /// # Errors
    /// When a tensor is empty, ids are not u32, or an id is not below V.
    pub fn embedding(self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        check(table, ids)?;
        definition(table, ids)
    }

    /// Adds the gradient of [`Kernels::embedding`] with respect to its table to `table_into`, in
    /// place. It touches only the rows that were read.
    ///
    /// # Shapes
    /// `table_into` (V, C), contiguous; `ids` u32 of any non-empty shape; `gradient` (ids..., C).
    ///
    /// # Errors
    /// As [`Kernels::embedding`], and when `gradient` has another shape or shares memory with
    /// `table_into`.
    pub fn embedding_gradient(
        self,
        table_into: &Tensor,
        ids: &Tensor,
        gradient: &Tensor,
    ) -> Result<()> {
        let checked = check(table_into, ids)?;
        let width = table_into.dim(1)?;
        if gradient.dims() != [ids.dims(), &[width]].concat() {
            bail!(
                "embedding_gradient: expected a row of {width} for each id, got {:?}",
                gradient.dims()
            )
        }

        match self.backend(&[gradient], &[table_into]) {
            Backend::Host => {}
            Backend::Cuda => {
                return cuda::embedding_gradient(&cuda::Launcher, table_into, &checked, gradient);
            }
            Backend::Composed => {
                let gradient = gradient.detach().contiguous()?.reshape((checked.len(), width))?;
                let ids = ids.flatten_all()?.contiguous()?;
                let added = table_into.zeros_like()?.index_add(&ids, &gradient, 0)?;

                return optimizer::add_in_place(table_into, &added);
            }
            Backend::Widened => {
                let [gradient] = widened([gradient])?;
                return self.embedding_gradient(table_into, ids, &gradient);
            }
        }

        host::expect_apart("embedding_gradient", table_into, &[gradient])?;

        host::write(table_into, |table| {
            in_format_of!(gradient, |E| host::read_as::<E, 1, _>([gradient], |[gradient]| {
                scatter(table, &checked, gradient);
                Ok(())
            }))
        })
    }

    /// The first T rows of a table added to each window.
    ///
    /// # Shapes
    /// `x` (B, T, C), `table` (P, C) with P >= T; returns (B, T, C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn add_rows(self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        let tokens = check_windows("add_rows", x, table)?;
        match self.backend(&[x], &[table]) {
            Backend::Host => {}
            Backend::Cuda | Backend::Composed => {
                let rows = table.narrow(0, 0, tokens)?.to_dtype(x.dtype())?;
                return x.broadcast_add(&rows);
            }
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.add_rows(&x, table)?);
            }
        }

        let width = table.dim(1)?;
        host::read([table], |[table]| {
            rows::map_rows([x], x.dims(), |first, [x], y| {
                y.copy_from_slice(x);
                vectorised!(|| {
                    for (row, y) in (first..).zip(y.chunks_exact_mut(width)) {
                        rows::add(y, &table[row % tokens * width..][..width]);
                    }
                })
            })
        })
    }

    /// Adds the gradient of [`Kernels::add_rows`] with respect to its table to `into`, in place.
    ///
    /// # Shapes
    /// `gradient` (B, T, C), `into` (P, C).
    ///
    /// # Errors
    /// As [`Kernels::add_rows`], and when `gradient` and `into` share memory.
    pub fn add_rows_gradient(self, gradient: &Tensor, into: &Tensor) -> Result<()> {
        let tokens = check_windows("add_rows_gradient", gradient, into)?;
        let window = gradient.elem_count() / gradient.dim(0)?;
        let part = into.detach().narrow(0, 0, tokens)?;

        host::expect_apart("add_rows_gradient", into, &[gradient])?;

        // A window is a row of T · C numbers: the sum over windows, (T, C).
        let sum = match self.backend(&[gradient], &[into]) {
            Backend::Host => host::tensor(rows::sum(gradient, window)?, part.shape())?,
            Backend::Cuda => {
                cuda::row_sum(&cuda::Launcher, gradient, window)?.reshape(part.shape())?
            }
            Backend::Composed => composed::row_sum(gradient, window)?.reshape(part.shape())?,
            Backend::Widened => {
                let [gradient] = widened([gradient])?;
                return self.add_rows_gradient(&gradient, into);
            }
        };

        optimizer::add_in_place(&part, &sum)
    }
}

/// [`Kernels::embedding`] in candle's own operations.
fn definition(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(table.dim(1)?);
    table.contiguous()?.index_select(&ids.flatten_all()?.contiguous()?, 0)?.reshape(dims)
}

/// T of windows (B, T, C) to which rows of a table (P, C) are added.
fn check_windows(op: &str, x: &Tensor, table: &Tensor) -> Result<usize> {
    let (positions, width) = matrix(op, "table", table)?;
    match *x.dims() {
        [batch, tokens, c] if batch * tokens > 0 && tokens <= positions && c == width => Ok(tokens),
        ref other => {
            bail!(
                "{op}: expected shape [batch, at most {positions} tokens, {width}], got {other:?}"
            )
        }
    }
}

fn check(table: &Tensor, ids: &Tensor) -> Result<Vec<u32>> {
    let (vocabulary, _) = matrix("embedding", "table", table)?;
    if ids.elem_count() == 0 {
        bail!("embedding: expected at least one id, got shape {:?}", ids.dims())
    }
    checked_ids("embedding", ids, vocabulary)
}

/// One thread adds the rows in their order. Ids repeat, so several threads could write the same
/// row, and so few rows are little work.
fn scatter<E: Number>(table: &mut [f32], ids: &[u32], gradient: &[E]) {
    let width = gradient.len() / ids.len();
    vectorised!(|| {
        for (row, &id) in gradient.chunks_exact(width).zip(ids) {
            rows::add(&mut table[id as usize * width..][..width], row);
        }
    });
}
