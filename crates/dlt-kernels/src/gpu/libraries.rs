//! NVIDIA's libraries, loaded at the first call. Where they are missing, a program with CUDA still
//! starts, and trains on the CPU.
//!
//! The functions are those that candle and the kernels here call. If one is missing from the list,
//! the system loads its library with the program again. The same happens in a program that uses
//! candle without this crate. `cargo xtask cuda-check` starts every program without any of the
//! libraries.
#![allow(unsafe_code, reason = "the functions have the names of NVIDIA's")]

use candle_core::cuda::cudarc::driver::sys::CUDA_VERSION;

use super::MissingLibrary;
use super::lazy::{Library, answer, lazy_functions};

/// The major version of the CUDA that the program was built with: 13 for CUDA 13.0.
const CUDA: u32 = CUDA_VERSION / 1000;

/// The name of a library in CUDA 12 or in CUDA 13, whichever the program was built with.
const fn of_version(twelve: &'static str, thirteen: &'static str) -> &'static str {
    match CUDA {
        12 => twelve,
        13 => thirteen,
        _ => panic!("expected CUDA 12 or 13, whose libraries have known names"),
    }
}

/// Without the other libraries the driver is useless, so it counts as missing too. Its codes are
/// `CUDA_ERROR_STUB_LIBRARY` and `CUDA_ERROR_NOT_FOUND`.
static DRIVER: Library =
    Library::new("libcuda.so.1", &[&RUNTIME, &CUBLAS, &CURAND], [answer::<34>, answer::<500>]);
/// `cudaErrorInsufficientDriver` and `cudaErrorSymbolNotFound`.
static RUNTIME: Library = Library::new(
    of_version("libcudart.so.12", "libcudart.so.13"),
    &[],
    [answer::<35>, answer::<500>],
);
/// `CUBLAS_STATUS_NOT_INITIALIZED` and `CUBLAS_STATUS_NOT_SUPPORTED`.
static CUBLAS: Library = Library::new(
    of_version("libcublas.so.12", "libcublas.so.13"),
    &[],
    [answer::<1>, answer::<15>],
);
/// `CURAND_STATUS_NOT_INITIALIZED` and `CURAND_STATUS_VERSION_MISMATCH`.
static CURAND: Library = Library::new("libcurand.so.10", &[], [answer::<101>, answer::<100>]);

/// Loads all of them.
pub(super) fn load() -> Result<(), MissingLibrary> {
    DRIVER
        .open()
        .map_err(|why| MissingLibrary(format!("the NVIDIA driver cannot be loaded ({why})")))?;
    DRIVER.open_all().map_err(|why| {
        MissingLibrary(format!(
            "a library of CUDA {CUDA} cannot be loaded ({why}): \
             install it, or name its folder in LD_LIBRARY_PATH"
        ))
    })?;

    Ok(())
}

lazy_functions! { DRIVER:
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

// candle's compiled-in kernels register themselves with the runtime before `main`. The first of
// these two names launches them in CUDA 13, the second in CUDA 12.
lazy_functions! { RUNTIME:
    __cudaLaunchKernel_ptsz
    cudaLaunchKernel_ptsz
    __cudaGetKernel
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

lazy_functions! { CUBLAS:
    cublasCreate_v2
    cublasDestroy_v2
    cublasDgemmStridedBatched
    cublasGemmStridedBatchedEx
    cublasSetStream_v2
}

lazy_functions! { CURAND:
    curandCreateGenerator
    curandDestroyGenerator
    curandSetPseudoRandomGeneratorSeed
    curandSetStream
}
