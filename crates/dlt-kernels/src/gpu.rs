//! A GPU is used with one stream of work, and with memory that the driver keeps for the process.

use std::fmt;

use candle_core::{Device, Result};

#[cfg(all(any(feature = "cuda", test), target_os = "linux", target_arch = "x86_64"))]
mod lazy;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod libraries;

/// The most memory of a GPU that this process has had, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPeaks {
    /// Reserved on the GPU: no other process could use it.
    pub held: u64,
    /// In tensors.
    pub used: u64,
}

/// A library from NVIDIA that cannot be loaded. The message says which one, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary(String);

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingLibrary {}

/// Opens the GPU with this number and its own stream, which all threads of the process share.
///
/// That stream alone orders the work on the GPU, without an event for each tensor. The driver keeps
/// the memory of dropped tensors for later ones. Otherwise it would return the memory to the GPU
/// whenever the GPU has finished its work, which is once a step.
///
/// # Errors
/// When there is no such GPU, [`load_libraries`] fails, or the program was built without the
/// feature `cuda`.
pub fn open(number: usize) -> Result<Device> {
    load_libraries().map_err(candle_core::Error::msg)?;
    let device = Device::new_cuda_with_stream(number)?;
    #[cfg(feature = "cuda")]
    driver::prepare(device.as_cuda_device()?)?;
    Ok(device)
}

/// Loads NVIDIA's driver and libraries. On Linux on x86-64, a program that was built with CUDA
/// starts without them. Elsewhere the system has loaded them with the program, and this does
/// nothing.
///
/// Where one is missing, every call of candle into the driver returns an error: `Device::new_cuda`
/// fails as with any driver that does not work. A program may call other functions from NVIDIA,
/// itself or through candle, for example for random numbers on a GPU. It is then linked with their
/// library again, and does not start without it. Only the linker that comes with rustc (LLD) leaves
/// the libraries out.
///
/// # Errors
/// [`MissingLibrary`] for the first that cannot be loaded.
pub fn load_libraries() -> std::result::Result<(), MissingLibrary> {
    #[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
    libraries::load()?;
    Ok(())
}

/// The most memory that this process has had so far; `None` on the CPU, and where the driver keeps
/// no memory.
#[must_use]
pub fn memory_peaks(device: &Device) -> Option<MemoryPeaks> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return driver::memory_peaks(device).ok().flatten();
    }

    let _ = device;
    None
}

#[cfg(feature = "cuda")]
mod driver {
    #![allow(
        unsafe_code,
        reason = "attributes are numbers behind an untyped pointer, and this crate keeps the order of work"
    )]

    use super::MemoryPeaks;
    use candle_core::cuda::WrapErr;
    use candle_core::cuda::cudarc::driver::result::{device::get_mem_pool, mem_pool};
    use candle_core::cuda::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
    use candle_core::{CudaDevice, Result};

    use CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };

    pub(super) fn prepare(device: &CudaDevice) -> Result<()> {
        // SAFETY: the device has just been opened, and nothing uses it on another stream than its
        // own.
        unsafe { device.disable_event_tracking() };
        let Some(pool) = pool(device)? else { return Ok(()) };
        let mut most = u64::MAX;

        // SAFETY: the pool is the device's own, and this attribute is an unsigned number of 64
        // bits.
        unsafe {
            mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut most).cast())
        }
        .w()
    }

    pub(super) fn memory_peaks(device: &CudaDevice) -> Result<Option<MemoryPeaks>> {
        let Some(pool) = pool(device)? else { return Ok(None) };
        Ok(Some(MemoryPeaks {
            held: number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
            used: number(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        }))
    }

    /// The pool that cudarc allocates its buffers from, where it uses one.
    fn pool(device: &CudaDevice) -> Result<Option<CUmemoryPool>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        if !context.has_async_alloc() {
            return Ok(None);
        }

        // SAFETY: the device is one that the context was opened on.
        Ok(Some(unsafe { get_mem_pool(context.cu_device()) }.w()?))
    }

    fn number(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: the pool is the device's own, and both attributes that callers ask for are
        // unsigned numbers of 64 bits.
        unsafe { mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }.w()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_memory_has_no_pool() {
        assert_eq!(memory_peaks(&Device::Cpu), None);
    }
}
