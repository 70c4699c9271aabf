//! NVIDIA's libraries, loaded at the first call: a program with CUDA starts, and trains on the CPU, where they are
//! missing.
//!
//! The functions are those that candle and the kernels here come to call. One that is not listed makes the system load
//! its library with the program again; `cargo xtask cuda-check` starts every program without any of the libraries.
#![allow(unsafe_code, reason = "the functions have the names of NVIDIA's")]

use super::MissingLibrary;
use super::lazy::{Library, lazy_functions};

static DRIVER: Library = Library::new("libcuda.so.1", stub_library);
static RUNTIME: Library = Library::new(concat!("libcudart.so.", env!("CUDA_MAJOR")), insufficient_driver);
static CUBLAS: Library = Library::new(concat!("libcublas.so.", env!("CUDA_MAJOR")), not_initialized);
static CURAND: Library = Library::new("libcurand.so.10", not_initialized_curand);

/// `CUDA_ERROR_STUB_LIBRARY`.
extern "C" fn stub_library() -> usize {
    34
}

/// `cudaErrorInsufficientDriver`.
extern "C" fn insufficient_driver() -> usize {
    35
}

/// `CUBLAS_STATUS_NOT_INITIALIZED`.
extern "C" fn not_initialized() -> usize {
    1
}

/// `CURAND_STATUS_NOT_INITIALIZED`.
extern "C" fn not_initialized_curand() -> usize {
    101
}

/// Loads all of them.
pub(super) fn load() -> Result<(), MissingLibrary> {
    DRIVER.open().map_err(|why| MissingLibrary(format!("the NVIDIA driver is not installed ({why})")))?;
    for library in [&RUNTIME, &CUBLAS, &CURAND] {
        library.open().map_err(|why| {
            MissingLibrary(format!(
                "a library of CUDA {} is missing ({why}): install it, or name its folder in LD_LIBRARY_PATH",
                env!("CUDA_MAJOR")
            ))
        })?;
    }
    Ok(())
}

lazy_functions! { #[unsafe(no_mangle)] DRIVER:
    cuCtxDestroy_v2
    cuCtxGetCurrent
    cuCtxSetCurrent
    cuCtxSynchronize
    cuDeviceGet
    cuDeviceGetAttribute
    cuDeviceGetCount
    cuDeviceGetMemPool
    cuDeviceGetName
    cuDevicePrimaryCtxRelease_v2
    cuDevicePrimaryCtxRetain
    cuEventCreate
    cuEventDestroy_v2
    cuEventRecord
    cuGetErrorString
    cuInit
    cuLaunchKernel
    cuMemAllocAsync
    cuMemAlloc_v2
    cuMemFreeAsync
    cuMemFree_v2
    cuMemGetInfo_v2
    cuMemPoolGetAttribute
    cuMemPoolSetAttribute
    cuMemcpyDtoDAsync_v2
    cuMemcpyDtoHAsync_v2
    cuMemcpyHtoDAsync_v2
    cuMemcpyPeerAsync
    cuMemsetD8Async
    cuModuleGetFunction
    cuModuleLoad
    cuModuleLoadData
    cuModuleUnload
    cuStreamCreate
    cuStreamDestroy_v2
    cuStreamIsCapturing
    cuStreamSynchronize
    cuStreamWaitEvent
}

// candle's own kernels register themselves with the runtime before `main`.
lazy_functions! { #[unsafe(no_mangle)] RUNTIME:
    __cudaGetKernel
    __cudaLaunchKernel_ptsz
    __cudaPopCallConfiguration
    __cudaPushCallConfiguration
    __cudaRegisterFatBinary
    __cudaRegisterFatBinaryEnd
    __cudaRegisterFunction
    __cudaRegisterVar
    __cudaUnregisterFatBinary
    cudaFuncSetAttribute
    cudaGetDevice
}

lazy_functions! { #[unsafe(no_mangle)] CUBLAS:
    cublasCreate_v2
    cublasDestroy_v2
    cublasDgemmStridedBatched
    cublasGemmStridedBatchedEx
    cublasSetStream_v2
}

lazy_functions! { #[unsafe(no_mangle)] CURAND:
    curandCreateGenerator
    curandDestroyGenerator
    curandSetPseudoRandomGeneratorSeed
    curandSetStream
}
