//! The one place where a device is chosen.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
#[cfg(feature = "cuda")]
use candle_core::{DType, Tensor};

use crate::{Result, TrainError};

/// A device as a user names it: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// As [`Gpu`](Self::Gpu) if that GPU works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with the number that the process has among those of its run on this machine: the
    /// first one for a process alone.
    Gpu,
    /// The GPU with this number, from 0.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Gpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(format!("expected auto, cpu, cuda or cuda:N, got `{text}`")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The format that matrix products of f32 on a GPU round their factors to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Nothing: f32 throughout.
    #[default]
    F32,
    /// TF32, with ten bits of mantissa, which tensor cores multiply faster. It applies to the whole
    /// process.
    Tf32,
}

/// Opens the chosen device. The second value is its name for messages and provenance: `cpu`,
/// `cuda:0 (NVIDIA A100)`.
///
/// A GPU is only used if a small computation on it gives the right result. If `auto` finds no GPU
/// that works, the CPU is used, and a program that was built with CUDA logs the reason.
///
/// # Errors
/// [`TrainError::Device`] if a GPU is required, by name or by `products`, and none can be used.
pub fn open(choice: DeviceChoice, products: Products) -> Result<(Device, String)> {
    open_as(0, choice, products)
}

/// As [`open`], for the process with number `local` among those of its run on this machine, from 0.
///
/// # Errors
/// As [`open`].
pub fn open_as(local: usize, choice: DeviceChoice, products: Products) -> Result<(Device, String)> {
    let opened = match choice {
        DeviceChoice::Cpu => cpu(),
        DeviceChoice::Gpu => cuda(local)?,
        DeviceChoice::Cuda(number) => cuda(number)?,
        DeviceChoice::Auto => cuda(local).unwrap_or_else(|error| {
            if cfg!(feature = "cuda") {
                tracing::warn!(%error, "using the CPU");
            }
            cpu()
        }),
    };

    match (products, opened) {
        (Products::F32, opened) => Ok(opened),
        (Products::Tf32, (device, name)) if device.is_cuda() => {
            candle_core::cuda::set_gemm_reduced_precision_f32(true);
            Ok((device, format!("{name} with TF32")))
        }
        (Products::Tf32, (_, device)) => {
            let reason = "expected a GPU, because only GPUs multiply with the requested TF32";
            Err(TrainError::Device { device, reason: reason.to_owned() })
        }
    }
}

fn cpu() -> (Device, String) {
    (Device::Cpu, "cpu".to_owned())
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<(Device, String)> {
    let reason =
        "this program was built without CUDA (cargo feature `cuda`); use --device cpu".to_owned();
    Err(TrainError::Device { device: DeviceChoice::Cuda(number).to_string(), reason })
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<(Device, String)> {
    use candle_core::cuda::cudarc::driver::CudaContext;

    let name = DeviceChoice::Cuda(number).to_string();
    let refuse = |reason: String| TrainError::Device { device: name.clone(), reason };

    dlt_kernels::gpu::load_libraries()
        .map_err(|error| refuse(format!("{error}; or use --device cpu")))?;
    let count = CudaContext::device_count().map_err(|error| refuse(no_driver(error)))?;
    if usize::try_from(count).is_ok_and(|count| number >= count) {
        return Err(refuse(format!("the driver finds {count} GPUs, numbered from 0")));
    }

    let failed = |what: &str, error: candle_core::Error| refuse(format!("{what}: {error}"));
    let device =
        dlt_kernels::gpu::open(number).map_err(|error| failed("it cannot be opened", error))?;
    let works =
        || Tensor::ones(4, DType::F32, &device)?.affine(2.0, 1.0)?.sum_all()?.to_scalar::<f32>();

    // A driver can offer a GPU that this program has no kernels for. Only a computation shows that.
    match works() {
        Ok(12.0) => {}
        Ok(other) => return Err(refuse(format!("it computes wrongly: expected 12, got {other}"))),
        Err(error) => {
            let what =
                "it cannot compute (an older driver or GPU than this program was built for?)";
            return Err(failed(what, error));
        }
    }

    let model =
        device.as_cuda_device().ok().and_then(|device| device.cuda_stream().context().name().ok());
    Ok((device, model.map_or_else(|| name.clone(), |model| format!("{name} ({model})"))))
}

/// Why the driver offers no device at all.
#[cfg(feature = "cuda")]
fn no_driver(error: candle_core::cuda::cudarc::driver::DriverError) -> String {
    use candle_core::cuda::cudarc::driver::sys::CUresult;

    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => "the driver finds no GPU; use --device cpu".to_owned(),
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "libcuda.so is a stub for linking, not the NVIDIA driver; use --device cpu".to_owned()
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the parts of the NVIDIA driver are of different versions; restart the machine after an update"
                .to_owned()
        }
        _ => format!("the NVIDIA driver does not start: {error}"),
    }
}

/// Free memory of a GPU in megabytes (10^6 bytes), over all processes; `None` for the CPU, or if
/// the driver does not report it.
pub(crate) fn free_mb(device: &Device) -> Option<f64> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
        return Some(free as f64 / 1e6);
    }

    let _ = device;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_round_trip() {
        for text in ["auto", "cpu", "cuda", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().expect("a device").to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Gpu));
    }

    #[test]
    fn rejects_names_that_are_no_device() {
        for text in ["gpu", "cuda:", "cuda:x", "", "CPU"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn cuda_is_opened_or_refused_with_a_reason_and_never_replaced() {
        match open(DeviceChoice::Cuda(0), Products::F32) {
            Ok((device, name)) => assert!(device.is_cuda() && name.starts_with("cuda:0"), "{name}"),
            Err(error) => {
                let error = error.to_string();
                let reasons = [
                    "without CUDA",
                    "the NVIDIA driver",
                    "of CUDA",
                    "finds no GPU",
                    "is a stub",
                    "it cannot",
                ];
                assert!(error.starts_with("device cuda:0: "), "{error}");
                assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");

                let (device, name) =
                    open(DeviceChoice::Auto, Products::F32).expect("a CPU is there");
                assert!(device.is_cpu() && name == "cpu" && free_mb(&device).is_none());
            }
        }
    }

    #[test]
    fn rejects_tf32_without_a_gpu() {
        let error =
            open(DeviceChoice::Cpu, Products::Tf32).expect_err("the CPU has none").to_string();
        assert!(error.contains("device cpu: expected a GPU"), "{error}");
    }
}
