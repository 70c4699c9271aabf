//! Which implementation computes an operation: the only place of the crate that decides by device
//! and dtype.

use crate::Kernels;
use crate::matrix::By;
use candle_core::{DType, DeviceLocation, Tensor};

/// What computes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The loops of this crate, on tensors in main memory.
    Host,
    /// The kernels of `cuda/`.
    Cuda,
    /// candle's own operations.
    Composed,
    /// One of the others in f32, for activations of bf16 that it does not accept: they are widened
    /// before the operation, and its results are rounded after it.
    Widened,
}

impl Kernels {
    /// What computes an operation that has loops and a CUDA kernel. Both need weights and sums of
    /// f32, and activations that are all f32 or all bf16. Elsewhere, activations of bf16 over f32
    /// weights are widened. An operation without a CUDA kernel treats [`Backend::Cuda`] as
    /// [`Backend::Composed`].
    pub(crate) fn backend(self, activations: &[&Tensor], weights: &[&Tensor]) -> Backend {
        let described = |tensors: &[&Tensor]| {
            tensors.iter().map(|tensor| DeviceAndDtype::of(tensor)).collect::<Vec<_>>()
        };
        let kernels = if cfg!(feature = "composed") { Kernels::Composed } else { self };
        choose(kernels, &described(activations), &described(weights))
    }

    /// What computes the products of affine maps and of the head, for f32 in main memory.
    pub(crate) fn by(self) -> By {
        if self == Kernels::FusedBf16x3 { By::Thirds } else { By::Threads }
    }
}

/// Where a tensor is, and what its elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DeviceAndDtype {
    device: DeviceLocation,
    dtype: DType,
}

impl DeviceAndDtype {
    fn of(tensor: &Tensor) -> Self {
        DeviceAndDtype { device: tensor.device().location(), dtype: tensor.dtype() }
    }
}

fn choose(kernels: Kernels, activations: &[DeviceAndDtype], weights: &[DeviceAndDtype]) -> Backend {
    let mut all = activations.iter().chain(weights);
    let Some(first) = all.next() else { return Backend::Composed };
    if all.any(|tensor| tensor.device != first.device) {
        // candle refuses tensors of two devices in its own words.
        return Backend::Composed;
    }

    let every =
        |tensors: &[DeviceAndDtype], dtype| tensors.iter().all(|tensor| tensor.dtype == dtype);
    let f32_weights = every(weights, DType::F32);
    let is_f32 = f32_weights && every(activations, DType::F32);
    // Without activations, both would hold.
    let is_bf16 = f32_weights && !is_f32 && every(activations, DType::BF16);

    match (kernels, first.device) {
        (Kernels::Composed, _) if is_bf16 => Backend::Widened,
        (Kernels::Composed, _) => Backend::Composed,
        (_, DeviceLocation::Cuda { .. }) if is_f32 || is_bf16 => Backend::Cuda,
        (_, DeviceLocation::Cpu) if is_f32 || is_bf16 => Backend::Host,
        _ if is_bf16 => Backend::Widened,
        _ => Backend::Composed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: DeviceLocation = DeviceLocation::Cpu;
    const CUDA: DeviceLocation = DeviceLocation::Cuda { gpu_id: 0 };

    fn at(device: DeviceLocation, dtypes: &[DType]) -> Vec<DeviceAndDtype> {
        dtypes.iter().map(|&dtype| DeviceAndDtype { device, dtype }).collect()
    }

    #[test]
    fn law_each_device_and_dtype_has_one_backend() {
        use DType::{BF16, F16, F32, F64};
        let metal = DeviceLocation::Metal { gpu_id: 0 };

        for (device, activations, weights, backend) in [
            (CPU, &[F32, F32][..], &[F32][..], Backend::Host),
            (CPU, &[F32], &[], Backend::Host),
            (CPU, &[F64], &[F64], Backend::Composed),
            (CPU, &[BF16], &[F32], Backend::Host),
            (CPU, &[BF16, BF16], &[], Backend::Host),
            (CPU, &[BF16, F32], &[F32], Backend::Composed),
            (CPU, &[BF16], &[BF16], Backend::Composed),
            (CPU, &[F32], &[F64], Backend::Composed),
            (CUDA, &[F32, F32], &[F32], Backend::Cuda),
            (CUDA, &[BF16, BF16], &[F32], Backend::Cuda),
            (CUDA, &[], &[F32], Backend::Cuda),
            (CUDA, &[BF16, F32], &[F32], Backend::Composed),
            (CUDA, &[BF16], &[BF16], Backend::Composed),
            (CUDA, &[F16], &[F32], Backend::Composed),
            (CUDA, &[F64], &[F64], Backend::Composed),
            (metal, &[F32], &[F32], Backend::Composed),
            (metal, &[BF16], &[F32], Backend::Widened),
        ] {
            let is_bf16 = !activations.is_empty() && activations.iter().all(|dtype| *dtype == BF16);
            let is_widened = is_bf16 && weights.iter().all(|dtype| *dtype == F32);
            let activations = at(device, activations);
            let weights = at(device, weights);

            assert_eq!(
                choose(Kernels::Fused, &activations, &weights),
                backend,
                "{device:?} {activations:?} {weights:?}"
            );
            let composed = if is_widened { Backend::Widened } else { Backend::Composed };
            assert_eq!(choose(Kernels::Composed, &activations, &weights), composed);
        }
    }

    #[test]
    fn law_tensors_of_two_devices_are_left_to_candle() {
        let other = DeviceLocation::Cuda { gpu_id: 1 };
        for (a, b) in [(CPU, CUDA), (CUDA, CPU), (CUDA, other)] {
            let a = at(a, &[DType::F32]);
            let b = at(b, &[DType::F32]);
            assert_eq!(choose(Kernels::Fused, &a, &b), Backend::Composed);
            assert_eq!(choose(Kernels::Fused, &[a[0], b[0]], &[]), Backend::Composed);
        }
    }
}
