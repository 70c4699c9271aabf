//! Launches on a CUDA device. Without the feature `cuda` no tensor is on such a device, so nothing
//! is launched.

#[cfg(feature = "cuda")]
mod device;

use super::{Launch, Machine, Memory};
#[cfg(not(feature = "cuda"))]
use candle_core::bail;
use candle_core::{DType, Device, Result, Shape, Tensor};

/// The device that a launch's tensors are on.
#[derive(Clone, Copy, Debug)]
pub struct Launcher;

#[cfg(feature = "cuda")]
impl Machine for Launcher {
    fn fresh(&self, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        device::fresh(shape, dtype, device)
    }

    fn run(&self, launch: &Launch, memory: &[Memory<'_>]) -> Result<()> {
        device::run(launch, memory)
    }
}

#[cfg(not(feature = "cuda"))]
impl Machine for Launcher {
    fn fresh(&self, _: Shape, _: DType, device: &Device) -> Result<Tensor> {
        bail!("expected a build with the feature cuda for a tensor on {:?}", device.location())
    }

    fn run(&self, launch: &Launch, memory: &[Memory<'_>]) -> Result<()> {
        let devices: Vec<_> = memory.iter().map(|one| one.tensor().device().location()).collect();
        bail!(
            "{}: expected a build with the feature cuda for tensors on {devices:?}",
            launch.kernel
        )
    }
}
