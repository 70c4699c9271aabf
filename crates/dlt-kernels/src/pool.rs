//! The memory that the driver keeps for a process on a GPU, from which every tensor there is cut.

use candle_core::{Device, Result};

/// Most of a GPU's memory that this process had, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPeaks {
    /// Taken from the GPU: nobody else could have it.
    pub held: u64,
    /// In tensors.
    pub used: u64,
}

/// Makes the driver keep what tensors leave behind for the next ones, instead of returning it to the GPU whenever it
/// has finished its work, as it would once a step. Without effect on the CPU, and on a GPU without such a pool.
///
/// # Errors
/// When the driver refuses.
pub fn keep(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return driver::keep(device);
    }
    let _ = device;
    Ok(())
}

/// What this process had at most so far; `None` on the CPU, and on a GPU without such a pool.
#[must_use]
pub fn peaks(device: &Device) -> Option<PoolPeaks> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return driver::peaks(device).ok().flatten();
    }
    let _ = device;
    None
}

#[cfg(feature = "cuda")]
mod driver {
    #![allow(unsafe_code, reason = "the driver's attributes are numbers behind an untyped pointer")]

    use super::PoolPeaks;
    use candle_core::cuda::WrapErr;
    use candle_core::cuda::cudarc::driver::result::mem_pool;
    use candle_core::cuda::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
    use candle_core::{CudaDevice, Result};

    use CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };

    pub(super) fn keep(device: &CudaDevice) -> Result<()> {
        let Some(pool) = pool(device)? else { return Ok(()) };
        let mut most = u64::MAX;
        // SAFETY: the pool is the device's own, and this attribute is an unsigned number of 64 bits.
        unsafe { mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut most).cast()) }
            .w()
    }

    pub(super) fn peaks(device: &CudaDevice) -> Result<Option<PoolPeaks>> {
        let Some(pool) = pool(device)? else { return Ok(None) };
        Ok(Some(PoolPeaks {
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
        Ok(Some(unsafe { mem_pool::get_mem_pool(context.cu_device()) }.w()?))
    }

    fn number(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: the pool is the device's own, and both attributes that are asked for are unsigned numbers of 64 bits.
        unsafe { mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }.w()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_memory_has_no_pool() {
        keep(&Device::Cpu).expect("nothing to do");
        assert_eq!(peaks(&Device::Cpu), None);
    }
}
