//! Which implementation computes an operation: the only place of the crate that decides by device
//! and dtype.

use crate::Kernels;
use candle_core::{DType, DeviceLocation, Tensor};

/// Who computes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The loops of this crate, on tensors in main memory.
    Host,
    /// The kernels of `cuda/`.
    Cuda,
    /// candle's own operations.
    Composed,
    /// One of the others in f32, on activations of bf16 that are widened before and results that
    /// are rounded after.
    Widened,
}

impl Kernels {
    /// Who computes an operation that has a CUDA kernel: there, weights and sums are f32, and
    /// activations all f32 or all bf16. Elsewhere, such activations of bf16 are widened.
    pub(crate) fn path(self, activations: &[&Tensor], weights: &[&Tensor]) -> Path {
        let places = |tensors: &[&Tensor]| {
            tensors.iter().map(|tensor| Place::of(tensor)).collect::<Vec<_>>()
        };
        let kernels = if cfg!(feature = "composed") { Kernels::Composed } else { self };
        choose(kernels, &places(activations), &places(weights))
    }
}

/// Where a tensor is, and what its elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    device: DeviceLocation,
    dtype: DType,
}

impl Place {
    fn of(tensor: &Tensor) -> Self {
        Place { device: tensor.device().location(), dtype: tensor.dtype() }
    }
}

fn choose(kernels: Kernels, activations: &[Place], weights: &[Place]) -> Path {
    let mut all = activations.iter().chain(weights);
    let Some(first) = all.next() else { return Path::Composed };
    if all.any(|place| place.device != first.device) {
        return Path::Composed;
    }

    let every = |places: &[Place], dtype| places.iter().all(|place| place.dtype == dtype);
    let f32_weights = every(weights, DType::F32);
    let is_f32 = f32_weights && every(activations, DType::F32);
    let is_bf16 = f32_weights && !is_f32 && every(activations, DType::BF16);

    match (kernels, first.device) {
        (Kernels::Fused, DeviceLocation::Cuda { .. }) if is_f32 || is_bf16 => Path::Cuda,
        (Kernels::Fused, DeviceLocation::Cpu) if is_f32 => Path::Host,
        _ if is_bf16 => Path::Widened,
        _ => Path::Composed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: DeviceLocation = DeviceLocation::Cpu;
    const CUDA: DeviceLocation = DeviceLocation::Cuda { gpu_id: 0 };

    fn at(device: DeviceLocation, dtypes: &[DType]) -> Vec<Place> {
        dtypes.iter().map(|&dtype| Place { device, dtype }).collect()
    }

    #[test]
    fn law_each_device_and_dtype_has_one_path() {
        use DType::{BF16, F16, F32, F64};
        let metal = DeviceLocation::Metal { gpu_id: 0 };

        for (device, activations, weights, path) in [
            (CPU, &[F32, F32][..], &[F32][..], Path::Host),
            (CPU, &[F32], &[], Path::Host),
            (CPU, &[F64], &[F64], Path::Composed),
            (CPU, &[BF16], &[F32], Path::Widened),
            (CPU, &[BF16, BF16], &[], Path::Widened),
            (CPU, &[BF16, F32], &[F32], Path::Composed),
            (CPU, &[BF16], &[BF16], Path::Composed),
            (CPU, &[F32], &[F64], Path::Composed),
            (CUDA, &[F32, F32], &[F32], Path::Cuda),
            (CUDA, &[BF16, BF16], &[F32], Path::Cuda),
            (CUDA, &[], &[F32], Path::Cuda),
            (CUDA, &[BF16, F32], &[F32], Path::Composed),
            (CUDA, &[BF16], &[BF16], Path::Composed),
            (CUDA, &[F16], &[F32], Path::Composed),
            (CUDA, &[F64], &[F64], Path::Composed),
            (metal, &[F32], &[F32], Path::Composed),
            (metal, &[BF16], &[F32], Path::Widened),
        ] {
            let is_bf16 = !activations.is_empty() && activations.iter().all(|dtype| *dtype == BF16);
            let is_widened = is_bf16 && weights.iter().all(|dtype| *dtype == F32);
            let activations = at(device, activations);
            let weights = at(device, weights);

            assert_eq!(
                choose(Kernels::Fused, &activations, &weights),
                path,
                "{device:?} {activations:?} {weights:?}"
            );
            let composed = if is_widened { Path::Widened } else { Path::Composed };
            assert_eq!(choose(Kernels::Composed, &activations, &weights), composed);
        }
    }

    #[test]
    fn law_tensors_of_two_devices_are_left_to_candle() {
        let other = DeviceLocation::Cuda { gpu_id: 1 };
        for (a, b) in [(CPU, CUDA), (CUDA, CPU), (CUDA, other)] {
            let a = at(a, &[DType::F32]);
            let b = at(b, &[DType::F32]);
            assert_eq!(choose(Kernels::Fused, &a, &b), Path::Composed);
            assert_eq!(choose(Kernels::Fused, &[a[0], b[0]], &[]), Path::Composed);
        }
    }
}
