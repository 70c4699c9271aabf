//! The only unsafe code of the crate: the call into the C++ build.
#![allow(unsafe_code, reason = "the kernels are C++")]

use crate::{Argument, Elements, ElementsMut, LaunchError, Order};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

/// Bytes for a fault's description, including the final zero.
const FAULT_ROOM: usize = 256;

/// The type of an argument. `host.hpp` has the same list in the same order.
#[repr(u32)]
#[derive(Clone, Copy)]
enum ArgumentType {
    F32s,
    Bf16s,
    U32s,
    F64s,
    F32,
    U32,
    U64,
}

/// An argument as `host.hpp` lays it out.
#[repr(C)]
struct Raw {
    argument_type: ArgumentType,
    writable: u32,
    data: *mut c_void,
    count: u64,
    number: u64,
}

// SAFETY: the signature is that of host.cpp, which is compiled together with this crate.
unsafe extern "C" {
    fn dlt_kernels_host_launch(
        name: *const c_char,
        blocks_x: u32,
        blocks_y: u32,
        threads: u32,
        backwards: u32,
        arguments: *const Raw,
        count: u64,
        fault: *mut c_char,
        room: u64,
    );
}

pub(crate) fn launch(
    kernel: &str,
    blocks: [u32; 2],
    threads: u32,
    order: Order,
    arguments: &mut [Argument<'_>],
) -> Result<(), LaunchError> {
    let name = CString::new(kernel).map_err(|_| LaunchError::Name { name: kernel.to_owned() })?;
    let raw: Vec<Raw> = arguments.iter_mut().map(Raw::of).collect();
    let mut fault: [c_char; FAULT_ROOM] = [0; FAULT_ROOM];

    // SAFETY: name and fault are buffers of the given lengths. Each argument's memory is borrowed
    // until the call returns, for writing where `writable` is set. The C++ side checks the type of
    // each argument and every index against its count before it touches the memory, writes only
    // where `writable` is set, keeps no pointer, and lets no exception out.
    let fault = unsafe {
        dlt_kernels_host_launch(
            name.as_ptr(),
            blocks[0],
            blocks[1],
            threads,
            u32::from(order == Order::Backwards),
            raw.as_ptr(),
            raw.len() as u64,
            fault.as_mut_ptr(),
            FAULT_ROOM as u64,
        );

        // SAFETY: the call ends its text with a zero inside of the buffer.
        CStr::from_ptr(fault.as_ptr())
    };

    match fault.to_string_lossy() {
        fault if fault.is_empty() => Ok(()),
        fault => Err(LaunchError::Fault { kernel: kernel.to_owned(), fault: fault.into_owned() }),
    }
}

impl Raw {
    fn of(argument: &mut Argument<'_>) -> Self {
        match argument {
            Argument::Read(elements) => {
                let (argument_type, data, count) = match *elements {
                    Elements::F32(data) => (ArgumentType::F32s, data.as_ptr().cast(), data.len()),
                    Elements::Bf16(data) => (ArgumentType::Bf16s, data.as_ptr().cast(), data.len()),
                    Elements::U32(data) => (ArgumentType::U32s, data.as_ptr().cast(), data.len()),
                    Elements::F64(data) => (ArgumentType::F64s, data.as_ptr().cast(), data.len()),
                };

                // The cast drops `const`, but with `writable` 0 the C++ side writes nothing there.
                let data: *const c_void = data;
                Raw {
                    argument_type,
                    writable: 0,
                    data: data.cast_mut(),
                    count: count as u64,
                    number: 0,
                }
            }
            Argument::Write(elements) => {
                let (argument_type, data, count) = match elements {
                    ElementsMut::F32(data) => {
                        (ArgumentType::F32s, data.as_mut_ptr().cast(), data.len())
                    }
                    ElementsMut::Bf16(data) => {
                        (ArgumentType::Bf16s, data.as_mut_ptr().cast(), data.len())
                    }
                    ElementsMut::U32(data) => {
                        (ArgumentType::U32s, data.as_mut_ptr().cast(), data.len())
                    }
                    ElementsMut::F64(data) => {
                        (ArgumentType::F64s, data.as_mut_ptr().cast(), data.len())
                    }
                };

                Raw { argument_type, writable: 1, data, count: count as u64, number: 0 }
            }
            Argument::F32(number) => Raw::number(ArgumentType::F32, u64::from(number.to_bits())),
            Argument::U32(number) => Raw::number(ArgumentType::U32, u64::from(*number)),
            Argument::U64(number) => Raw::number(ArgumentType::U64, *number),
        }
    }

    fn number(argument_type: ArgumentType, number: u64) -> Self {
        Raw { argument_type, writable: 0, data: ptr::null_mut(), count: 0, number }
    }
}
