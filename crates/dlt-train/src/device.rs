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
    /// A GPU where a working one is there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
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
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// What matrix products of f32 on a GPU round their factors to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Nothing: f32 throughout.
    #[default]
    F32,
    /// Ten bits of mantissa, which tensor cores multiply faster. It holds for the whole process.
    Tf32,
}

/// Opens the chosen device; the second value is its name for people and provenance: `cpu`,
/// `cuda:0 (NVIDIA A100)`.
///
/// A GPU is believed in only once it has computed something. Where `auto` finds none that works it
/// takes the CPU, and a program that was built with CUDA says why in the log.
///
/// # Errors
/// [`TrainError::Device`] where a GPU was asked for, by name or by `products`, and none can be
/// used.
pub fn open(choice: DeviceChoice, products: Products) -> Result<(Device, String)> {
    let opened = match choice {
        DeviceChoice::Cpu => cpu(),
        DeviceChoice::Cuda(number) => cuda(number)?,
        DeviceChoice::Auto => cuda(0).unwrap_or_else(|error| {
            if cfg!(feature = "cuda") {
                tracing::warn!(%error, "the CPU is taken");
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
            let reason =
                "expected a GPU, because TF32 was asked for, which only they multiply with";
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

/// Why the driver gives no device at all.
#[cfg(feature = "cuda")]
fn no_driver(error: candle_core::cuda::cudarc::driver::DriverError) -> String {
    use candle_core::cuda::cudarc::driver::sys::CUresult;

    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => "the driver finds no GPU; use --device cpu".to_owned(),
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "libcuda.so is a stub for linking, not the NVIDIA driver; use --device cpu".to_owned()
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the parts of the NVIDIA driver do not fit each other; restart the machine after an update"
                .to_owned()
        }
        _ => format!("the NVIDIA driver does not start: {error}"),
    }
}

/// Megabytes (10^6 bytes) of a GPU's memory that are free, for whatever process; `None` of the CPU,
/// and where the driver does not tell.
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
        for text in ["auto", "cpu", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().expect("a device").to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
    }

    #[test]
    fn rejects_names_that_are_no_device() {
        for text in ["gpu", "cuda:", "cuda:x", "", "CPU"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn cuda_is_taken_or_refused_in_words_and_never_replaced() {
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
