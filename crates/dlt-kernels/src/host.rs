//! Between candle's tensors and slices.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The elements of a contiguous f32 tensor in main memory.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        (CpuStorage::F32(_), None) => {
            bail!("expected a contiguous tensor, came strides {:?}", layout.stride())
        }
        _ => bail!("expected a tensor of dtype F32"),
    }
}

/// [`slice`], to write.
pub(crate) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        (CpuStorage::F32(_), None) => {
            bail!("expected a contiguous tensor, came strides {:?}", layout.stride())
        }
        _ => bail!("expected a tensor of dtype F32"),
    }
}

/// Calls `read` with the elements of each tensor, copying those that are not contiguous.
pub(crate) fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let mut kept = Vec::with_capacity(N);
    for tensor in tensors {
        kept.push(tensor.detach().contiguous()?);
    }
    let guards: Vec<_> = kept.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (into, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => *into = slice(storage, layout)?,
            _ => bail!("expected a tensor in main memory"),
        }
    }
    read(slices)
}

/// A tensor that takes over `data`.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}
