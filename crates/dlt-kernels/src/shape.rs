//! Checks of arguments. All backends share them, so all refuse the same inputs with the same words.

use candle_core::{DType, Result, Tensor, bail};

/// The rows and the width of `x` as a matrix: the product of all leading dimensions, and the last
/// dimension.
pub(crate) fn rows_and_width(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    let width = match x.dims().last() {
        Some(&width) => width,
        None => bail!("{op}: expected at least one dimension, got a scalar"),
    };

    if x.elem_count() == 0 {
        bail!("{op}: expected a non-empty tensor, got shape {:?}", x.dims())
    }

    Ok((x.elem_count() / width, width))
}

/// Refuses `vector` unless its shape is `(width)`.
pub(crate) fn expect_vector(op: &str, what: &str, vector: &Tensor, width: usize) -> Result<()> {
    if vector.dims() != [width] {
        bail!("{op}: expected {what} of shape [{width}], got {:?}", vector.dims())
    }
    Ok(())
}

/// The two dimensions of a non-empty matrix.
pub(crate) fn matrix(op: &str, what: &str, tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
        other => bail!("{op}: expected {what} to be a non-empty matrix, got shape {other:?}"),
    }
}

/// Refuses `b` unless it has the shape of `a`.
pub(crate) fn expect_same(op: &str, what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("{op}: expected {what} of shape {:?}, got {:?}", a.dims(), b.dims())
    }
    Ok(())
}

/// The ids on the host, each below `limit`.
pub(crate) fn checked_ids(op: &str, ids: &Tensor, limit: usize) -> Result<Vec<u32>> {
    if ids.dtype() != DType::U32 {
        bail!("{op}: expected ids of dtype U32, got {:?}", ids.dtype())
    }

    let ids = ids.flatten_all()?.to_vec1::<u32>()?;
    match ids.iter().position(|&id| id as usize >= limit) {
        Some(at) => bail!("{op}: expected ids below {limit}, got {} at position {at}", ids[at]),
        None => Ok(ids),
    }
}
