//! How a GPU is used: one stream of work, and memory that the driver keeps for the process.

use std::fmt;

use candle_core::{Device, Result};

#[cfg(all(any(feature = "cuda", test), target_os = "linux", target_arch = "x86_64"))]
mod lazy;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod libraries;

/// Most of a GPU's memory that this process had, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPeaks {
    /// Taken from the GPU: nobody else could have it.
    pub held: u64,
    /// In tensors.
    pub used: u64,
}

/// A library of NVIDIA's that cannot be loaded: which one, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary(String);

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingLibrary {}

/// Opens the GPU of this number with a stream of its own, which all threads of the process share.
///
/// Work on it is ordered by that stream alone, without an event for each tensor, and the driver
/// keeps what tensors leave behind for the next ones instead of returning it to the GPU whenever it
/// has finished its work, as it would once a step.
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

/// Loads NVIDIA's driver and libraries, which a program that was built with CUDA starts without on
/// Linux on x86-64. Elsewhere the system has loaded them with the program, and nothing is left to
/// do.
///
/// Where one is missing, each call into the driver that candle makes is answered with an error,
/// whoever asked for it: `Device::new_cuda` fails as with any driver that does not work. A program
/// that calls functions of NVIDIA's besides, or has candle do so, with its random numbers on a GPU,
/// say, is linked with their library again, and does not start without it. It takes the linker that
/// rustc brings (LLD) to leave the libraries out.
///
/// # Errors
/// [`MissingLibrary`] for the first that cannot be loaded.
pub fn load_libraries() -> std::result::Result<(), MissingLibrary> {
    #[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
    libraries::load()?;
    Ok(())
}

/// What this process had at most so far; `None` on the CPU, and where the driver keeps no memory.
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
        reason = "attributes are numbers behind an untyped pointer, and the order of work is ours to keep"
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
        // SAFETY: the device has just been opened, and nothing of it is used on another stream than
        // its own.
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

    /// The pool that cudarc's buffers come from, where they come from one.
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
        // SAFETY: the pool is the device's own, and both attributes that are asked for are unsigned
        // numbers of 64 bits.
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
