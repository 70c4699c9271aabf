//! What computes: the options of the machine, carried out.

use candle_core::Device;
use dlt_train::{DeviceChoice, Products, open_device};

use crate::arguments::Machine;
use crate::failure::Result;
use crate::output;

/// Opens the device, and says which GPU `auto` took. The second value is its name.
pub(crate) fn open(machine: &Machine) -> Result<(Device, String)> {
    let products = if machine.tf32 { Products::Tf32 } else { Products::F32 };
    let (device, name) = open_device(machine.device, products)?;
    if machine.device == DeviceChoice::Auto && !device.is_cpu() {
        output::note(&format!("auto: {name} is taken"));
    }

    Ok((device, name))
}
