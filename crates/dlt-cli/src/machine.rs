//! Opens the device that the options ask for.

use candle_core::Device;
use dlt_train::{DeviceChoice, Products, open_device_as, product_engine};

use crate::arguments::Machine;
use crate::failure::Result;
use crate::{output, processes};

/// Opens the device; with `auto`, notes which GPU is used. The second value is the device's name.
pub(crate) fn open(machine: &Machine) -> Result<(Device, String)> {
    let products = if machine.tf32 { Products::Tf32 } else { Products::F32 };
    let local = processes::launch().and_then(|launch| launch.local_rank).unwrap_or(0);
    let (device, name) = open_device_as(local, machine.device, products)?;
    if machine.device == DeviceChoice::Auto && !device.is_cpu() {
        output::note(&format!("using {name}"));
    }

    Ok((device, name))
}

/// What multiplies bf16 matrices in this process; `None` if a GPU computes.
pub(crate) fn engine(device: &Device) -> Option<&'static str> {
    device.is_cpu().then(product_engine)
}
