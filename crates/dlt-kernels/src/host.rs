//! Slices of candle's tensors in main memory.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail};
use std::cell::RefCell;

use crate::number::Number;
use crate::optimizer;

/// The elements of a contiguous tensor in main memory.
fn slice<'a, E: Number>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [E]> {
    expect_fused()?;
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
    };
    Ok(&E::cpu_storage_as_slice(storage)?[start..end])
}

/// The elements of a contiguous f32 tensor, to write.
fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    expect_fused()?;
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        (CpuStorage::F32(_), None) => {
            bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
        }
        _ => bail!("expected a tensor of dtype F32"),
    }
}

/// Calls `read` with the elements of each f32 tensor; a tensor that is not contiguous is copied
/// first.
pub(crate) fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    read_as::<f32, N, R>(tensors, read)
}

/// [`read`], of tensors of one number format.
pub(crate) fn read_as<E: Number, const N: usize, R>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[E]; N]) -> Result<R>,
) -> Result<R> {
    let mut kept = Vec::with_capacity(N);
    for tensor in tensors {
        kept.push(tensor.detach().contiguous()?);
    }

    // The locks of the storages, held until `read` returns.
    let guards: Vec<_> = kept.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[E]; N] = [&[]; N];

    for (at, (into, (storage, layout))) in slices.iter_mut().zip(&guards).enumerate() {
        match &**storage {
            Storage::Cpu(storage) => *into = slice(storage, layout)?,
            _ => unreachable_memory(&kept[at])?,
        }
    }

    read(slices)
}

/// A tensor that owns `data`, without a copy.
pub(crate) fn tensor<E: Number>(data: Vec<E>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Calls `write` with the elements of a contiguous tensor, to change in place. For several tensors,
/// call [`expect_apart`] and then nest the calls.
pub(crate) fn write<R>(tensor: &Tensor, write: impl FnOnce(&mut [f32]) -> Result<R>) -> Result<R> {
    if !tensor.device().is_cpu() {
        unreachable_memory(tensor)?;
    }

    // candle hands out elements to write only inside an in-place operation.
    let op = Write { body: RefCell::new(Some(write)), result: RefCell::new(None) };
    tensor.inplace_op1(&op)?;

    match op.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!("expected an in-place operation to run, got nothing"),
    }
}

/// With the feature `composed`, refuses every call. Everything is composed then, as on another
/// device, so code for main memory alone must not run.
fn expect_fused() -> Result<()> {
    if cfg!(feature = "composed") {
        bail!(
            "expected candle's own operations only, as the feature `composed` requires, \
             got a loop of this crate"
        )
    }

    Ok(())
}

/// Refuses a tensor whose elements no loop of this crate can reach.
fn unreachable_memory(tensor: &Tensor) -> Result<()> {
    bail!("expected a tensor in main memory, got one on {:?}", tensor.device().location())
}

struct Write<F, R> {
    body: RefCell<Option<F>>,
    result: RefCell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> Result<R>> InplaceOp1 for Write<F, R> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        if let Some(body) = self.body.take() {
            self.result.replace(Some(body(slice_mut(storage, layout)?)?));
        }
        Ok(())
    }
}

/// `into += term`; where `into` is `None`, it becomes the term.
pub(crate) fn add_or_set(into: &mut Option<Tensor>, term: Tensor) -> Result<()> {
    match into {
        Some(into) => optimizer::add_in_place(into, &term)?,
        None => *into = Some(term),
    }
    Ok(())
}

/// Refuses `written` when it shares its storage with one of `others`. The lock around a storage is
/// not reentrant: a call that holds it would wait for itself.
pub(crate) fn expect_apart(op: &str, written: &Tensor, others: &[&Tensor]) -> Result<()> {
    // Views of one storage, on any device, share the lock around it.
    let address = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0);
    let written = address(written);
    if others.iter().any(|other| address(other) == written) {
        bail!("{op}: expected a tensor to write to with its own memory, got one that shares it")
    }

    Ok(())
}
