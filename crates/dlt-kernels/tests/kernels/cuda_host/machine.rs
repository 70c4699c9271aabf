//! A machine that runs launches on the CPU, each one twice. A result that depends on the order of
//! blocks and threads is a race.

use candle_core::{CpuStorage, DType, Device, Error, Result, Shape, Storage, Tensor};
use dlt_kernels::cuda::{Launch, Machine, Memory, Number};
use dlt_kernels_host::{Argument, Elements, ElementsMut, Order, launch};

/// The machine.
#[derive(Debug)]
pub(crate) struct Host;

/// The elements of a tensor.
#[derive(Clone, Debug)]
enum Data {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    U32(Vec<u32>),
    F64(Vec<f64>),
}

impl Data {
    fn of(tensor: &Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        let (start, end) = layout.contiguous_offsets().expect("contiguous memory");

        match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) => Data::F32(data[start..end].to_vec()),
            Storage::Cpu(CpuStorage::BF16(data)) => {
                Data::Bf16(data[start..end].iter().map(|x| x.to_bits()).collect())
            }
            Storage::Cpu(CpuStorage::U32(data)) => Data::U32(data[start..end].to_vec()),
            Storage::Cpu(CpuStorage::F64(data)) => Data::F64(data[start..end].to_vec()),
            other => panic!("expected a dtype that kernels know, got {other:?}"),
        }
    }

    fn read(&self) -> Argument<'_> {
        Argument::Read(match self {
            Data::F32(data) => Elements::F32(data),
            Data::Bf16(data) => Elements::Bf16(data),
            Data::U32(data) => Elements::U32(data),
            Data::F64(data) => Elements::F64(data),
        })
    }

    fn write(&mut self) -> Argument<'_> {
        Argument::Write(match self {
            Data::F32(data) => ElementsMut::F32(data),
            Data::Bf16(data) => ElementsMut::Bf16(data),
            Data::U32(data) => ElementsMut::U32(data),
            Data::F64(data) => ElementsMut::F64(data),
        })
    }

    fn bits(&self) -> Vec<u64> {
        match self {
            Data::F32(data) => data.iter().map(|x| u64::from(x.to_bits())).collect(),
            Data::Bf16(data) => data.iter().map(|&x| u64::from(x)).collect(),
            Data::U32(data) => data.iter().map(|&x| u64::from(x)).collect(),
            Data::F64(data) => data.iter().map(|x| x.to_bits()).collect(),
        }
    }

    /// A flat tensor of these elements.
    fn into_tensor(self) -> Result<Tensor> {
        match self {
            Data::F32(data) => Tensor::new(data, &Device::Cpu),
            Data::U32(data) => Tensor::new(data, &Device::Cpu),
            Data::F64(data) => Tensor::new(data, &Device::Cpu),
            Data::Bf16(data) => {
                let wide: Vec<f32> =
                    data.iter().map(|&x| f32::from_bits(u32::from(x) << 16)).collect();
                Tensor::new(wide, &Device::Cpu)?.to_dtype(DType::BF16)
            }
        }
    }
}

impl Machine for Host {
    /// All elements are NaN, so that an element that no kernel writes shows.
    fn fresh(&self, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        assert!(device.is_cpu());
        Tensor::full(f32::NAN, shape, device)?.to_dtype(dtype)
    }

    fn run(&self, launch: &Launch, memory: &[Memory<'_>]) -> Result<()> {
        let forwards = results(launch, memory, Order::Forwards)?;
        let backwards = results(launch, memory, Order::Backwards)?;
        for ((one, forwards), backwards) in memory.iter().zip(forwards).zip(backwards) {
            assert_eq!(forwards.bits(), backwards.bits(), "{}: a race", launch.kernel);
            if let Memory::Write(tensor) = one {
                // A flat view shares the memory.
                let into = tensor.detach().flatten_all()?;
                into.slice_set(&forwards.into_tensor()?, 0, 0)?;
            }
        }

        Ok(())
    }
}

/// The memory after a launch.
fn results(one: &Launch, memory: &[Memory<'_>], order: Order) -> Result<Vec<Data>> {
    let mut data: Vec<Data> = memory.iter().map(|one| Data::of(one.tensor())).collect();
    let mut arguments: Vec<Argument<'_>> = data
        .iter_mut()
        .zip(memory)
        .map(|(data, one)| match one {
            Memory::Read(_) => data.read(),
            Memory::Write(_) => data.write(),
        })
        .collect();

    arguments.extend(one.numbers.iter().map(|number| match *number {
        Number::U32(number) => Argument::U32(number),
        Number::U64(number) => Argument::U64(number),
        Number::F32(number) => Argument::F32(number),
    }));

    let result = launch(&one.kernel, one.blocks, one.threads, order, &mut arguments);
    result.map_err(|error| Error::Msg(error.to_string()))?;
    Ok(data)
}
