//! Rows of a table by id.

use crate::shape::{checked_ids, matrix};
use crate::{Kernels, composed, host, optimizer, rows};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Arc;

impl Kernels {
    /// Row `id` of the table for each id.
    ///
    /// # Shapes
    /// `table` (V, C), `ids` u32 of any non-empty shape; returns (ids..., C).
    ///
    /// # Errors
    /// When a tensor is empty, ids are not u32, or an id is not below V.
    pub fn embedding(self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let checked = check(table, ids)?;
        if !self.fuses(&[table]) {
            return composed::embedding(table, ids);
        }
        let mut dims = ids.dims().to_vec();
        dims.push(table.dim(1)?);
        let op = Op { ids: checked.into(), dims };
        match table.track_op() {
            true => table.contiguous()?.apply_op1(op),
            false => table.contiguous()?.apply_op1_no_bwd(&op),
        }
    }

    /// Adds the gradient of [`Kernels::embedding`] with respect to its table to `table_into`, in place: only the rows
    /// that were read are touched, where autograd makes a gradient of the whole table.
    ///
    /// # Shapes
    /// `table_into` (V, C), contiguous; `ids` u32 of any non-empty shape; `gradient` (ids..., C).
    ///
    /// # Errors
    /// As [`Kernels::embedding`], and when `gradient` has another shape or shares memory with `table_into`.
    pub fn embedding_gradient(self, table_into: &Tensor, ids: &Tensor, gradient: &Tensor) -> Result<()> {
        let checked = check(table_into, ids)?;
        let width = table_into.dim(1)?;
        if gradient.dims() != [ids.dims(), &[width]].concat() {
            bail!("embedding_gradient: expected a row of {width} for each id, came {:?}", gradient.dims())
        }
        if !self.fuses(&[table_into, gradient]) {
            let gradient = gradient.detach().contiguous()?.reshape((checked.len(), width))?;
            let ids = ids.flatten_all()?.contiguous()?;
            let added = table_into.zeros_like()?.index_add(&ids, &gradient, 0)?;
            return optimizer::add_in_place(table_into, &added);
        }
        host::expect_apart("embedding_gradient", table_into, &[gradient])?;
        host::write(table_into, |table| {
            host::read([gradient], |[gradient]| {
                scatter(table, &checked, gradient);
                Ok(())
            })
        })
    }
}

fn check(table: &Tensor, ids: &Tensor) -> Result<Vec<u32>> {
    let (vocabulary, _) = matrix("embedding", "table", table)?;
    if ids.elem_count() == 0 {
        bail!("embedding: expected at least one id, came shape {:?}", ids.dims())
    }
    checked_ids("embedding", ids, vocabulary)
}

struct Op {
    ids: Arc<[u32]>,
    dims: Vec<usize>,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let table = host::slice(storage, layout)?;
        let (_, width) = layout.shape().dims2()?;
        let mut y = vec![0.0; self.ids.len() * width];
        let count = rows::per_task(width);
        y.par_chunks_mut(count * width).zip(self.ids.par_chunks(count)).for_each(|(y, ids)| {
            for (row, &id) in y.chunks_exact_mut(width).zip(ids) {
                row.copy_from_slice(&table[id as usize * width..][..width]);
            }
        });
        Ok((CpuStorage::F32(y), Shape::from(self.dims.clone())))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        host::read([gradient], |[gradient]| {
            let mut into = vec![0.0; table.elem_count()];
            scatter(&mut into, &self.ids, gradient);
            host::tensor(into, table.shape()).map(Some)
        })
    }
}

/// One thread adds the rows in their order: ids repeat, and so few rows are no work.
fn scatter(table: &mut [f32], ids: &[u32], gradient: &[f32]) {
    let width = gradient.len() / ids.len();
    for (row, &id) in gradient.chunks_exact(width).zip(ids) {
        rows::add(&mut table[id as usize * width..][..width], row);
    }
}
