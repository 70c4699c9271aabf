//! The one place where a device is chosen.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

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
            _ => Err(format!("expected auto, cpu, cuda or cuda:N, came `{text}`")),
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

/// Opens the chosen device; the second value is its name for provenance: `cpu`, `cuda:0`.
///
/// # Errors
/// [`TrainError::Device`] where a GPU was asked for and none can be used; `auto` then takes the CPU.
pub fn open(choice: DeviceChoice) -> Result<(Device, String)> {
    let cpu = || (Device::Cpu, "cpu".to_owned());
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Auto => Ok(cuda(0).unwrap_or_else(|_| cpu())),
        DeviceChoice::Cuda(number) => cuda(number),
    }
}

fn cuda(number: usize) -> Result<(Device, String)> {
    let name = DeviceChoice::Cuda(number).to_string();
    let refuse = |reason: String| TrainError::Device { device: name.clone(), reason };
    if !candle_core::utils::cuda_is_available() {
        return Err(refuse("this program was built without CUDA; use --device cpu".to_owned()));
    }
    let device = Device::new_cuda(number).map_err(|error| refuse(error.to_string()))?;
    Ok((device, name))
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
    fn auto_falls_back_to_the_cpu_and_cuda_does_not() {
        if candle_core::utils::cuda_is_available() {
            return;
        }
        assert_eq!(open(DeviceChoice::Auto).expect("a CPU is there").1, "cpu");
        let error = open(DeviceChoice::Cuda(1)).expect_err("no GPU").to_string();
        assert!(error.contains("cuda:1") && error.contains("without CUDA"), "{error}");
    }
}
