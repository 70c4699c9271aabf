//! Finds the addresses of tensors, and calls a kernel with them.
#![allow(
    unsafe_code,
    reason = "a launch hands addresses to a kernel, whose parameters no compiler has checked"
)]

use crate::cuda::{KernelFile, Launch, Memory, Number};
use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::{DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg};
use candle_core::cuda::{CudaStorageSlice, WrapErr};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage,
    Tensor, bail,
};
use std::cell::RefCell;

impl KernelFile {
    /// The name of the compiled file on the device, and its PTX.
    fn module(self) -> (&'static str, &'static str) {
        macro_rules! ptx {
            ($name:literal) => {
                (concat!("dlt_", $name), include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")))
            };
        }

        match self {
            KernelFile::Attention => ptx!("attention"),
            KernelFile::Elementwise => ptx!("elementwise"),
            KernelFile::Embedding => ptx!("embedding"),
            KernelFile::Loss => ptx!("loss"),
            KernelFile::Norm => ptx!("norm"),
            KernelFile::Optimizer => ptx!("optimizer"),
            KernelFile::Sketch => ptx!("sketch"),
            KernelFile::Sums => ptx!("sums"),
        }
    }
}

/// The rest of the work, once an address is known.
type Then<'a> = &'a mut dyn FnMut(&CudaDevice, u64) -> Result<()>;

pub(super) fn fresh(shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: a fresh tensor is handed to a kernel that writes each of its elements before anything
    // reads them; the tests run the same launches on memory whose elements are marked.
    unsafe { Tensor::empty(shape, dtype, device) }
}

pub(super) fn run(launch: &Launch, memory: &[Memory<'_>]) -> Result<()> {
    gather(launch, memory, &mut Vec::with_capacity(memory.len()))
}

/// Finds one address after the other. The calls are nested, so that the lock of each storage is
/// held until the launch is in the stream.
fn gather(launch: &Launch, memory: &[Memory<'_>], addresses: &mut Vec<u64>) -> Result<()> {
    let Some((one, rest)) = memory.split_first() else {
        bail!("{}: expected memory to work on, got none", launch.kernel)
    };

    let mut then = |device: &CudaDevice, address: u64| {
        addresses.push(address);
        if rest.is_empty() {
            enqueue(device, launch, addresses)
        } else {
            gather(launch, rest, addresses)
        }
    };

    match one {
        Memory::Read(tensor) => {
            let (storage, layout) = tensor.storage_and_layout();
            match &*storage {
                Storage::Cuda(storage) => read(storage, layout, &mut then),
                _ => bail!(
                    "{}: expected tensors on one CUDA device, got one elsewhere",
                    launch.kernel
                ),
            }
        }
        Memory::Write(tensor) => tensor.inplace_op1(&Written { then: RefCell::new(&mut then) }),
    }
}

struct Written<'a> {
    then: RefCell<Then<'a>>,
}

impl InplaceOp1 for Written<'_> {
    fn name(&self) -> &'static str {
        "launch"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("expected tensors on one CUDA device, got one in main memory")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        write(storage, layout, &mut **self.then.borrow_mut())
    }
}

/// Continues with the address of the first element of `layout`. The slice's method also returns a
/// guard. When the guard is dropped, the device learns up to which launch the memory is in use, so
/// it is kept until the launch is in the stream.
macro_rules! continue_with {
    ($slices:expr, $address:ident, $device:expr, $offset:expr, $then:expr) => {{
        let stream = $device.cuda_stream();
        match $slices {
            CudaStorageSlice::F32(slice) => {
                let (address, _in_use) = slice.$address(&stream);
                $then($device, address + $offset)
            }
            CudaStorageSlice::BF16(slice) => {
                let (address, _in_use) = slice.$address(&stream);
                $then($device, address + $offset)
            }
            CudaStorageSlice::U32(slice) => {
                let (address, _in_use) = slice.$address(&stream);
                $then($device, address + $offset)
            }
            CudaStorageSlice::F64(slice) => {
                let (address, _in_use) = slice.$address(&stream);
                $then($device, address + $offset)
            }
            _ => bail!("expected a tensor of dtype F32, BF16, U32 or F64, got another one"),
        }
    }};
}

/// Continues with the address of memory to read.
fn read(storage: &CudaStorage, layout: &Layout, then: Then<'_>) -> Result<()> {
    let offset = offset(storage, layout)?;
    continue_with!(&storage.slice, device_ptr, &storage.device, offset, then)
}

/// Continues with the address of memory to write.
fn write(storage: &mut CudaStorage, layout: &Layout, then: Then<'_>) -> Result<()> {
    let offset = offset(storage, layout)?;
    continue_with!(&mut storage.slice, device_ptr_mut, &storage.device, offset, then)
}

/// Bytes before the first element.
fn offset(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok((start * storage.dtype().size_in_bytes()) as u64),
        None => bail!("expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// Puts the launch into the device's stream.
fn enqueue(device: &CudaDevice, launch: &Launch, addresses: &[u64]) -> Result<()> {
    let (module, ptx) = launch.file.module();
    let function = device.get_or_load_custom_func(&launch.kernel, module, ptx)?;
    let mut builder = function.builder();

    for address in addresses {
        builder.arg(address);
    }

    for number in &launch.numbers {
        match number {
            Number::U32(number) => builder.arg(number),
            Number::U64(number) => builder.arg(number),
            Number::F32(number) => builder.arg(number),
        };
    }

    let [x, y] = launch.blocks;
    let config = LaunchConfig {
        grid_dim: (x, y, 1),
        block_dim: (launch.threads, 1, 1),
        shared_mem_bytes: 0,
    };

    // SAFETY: the parameters of each kernel are the launch's memory, then its numbers. Tests run
    // the functions that make launches on a build of the same sources for the CPU, which checks the
    // type of each parameter and each access. Locks and events of the memory behind the addresses
    // are held until this call returns, and the device's only stream keeps the order.
    unsafe { builder.launch(config) }.w()?;

    Ok(())
}
