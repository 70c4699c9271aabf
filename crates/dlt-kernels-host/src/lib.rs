//! The CUDA kernels of `dlt-kernels`, built by a C++ compiler for the CPU, for tests without a GPU.
//!
//! The blocks of a grid run one after the other, and the threads of a block take turns in each
//! phase of the kernel. Every access to memory is checked, so a launch stops where it would leave
//! its memory, with any arguments.

mod foreign;

use thiserror::Error;

/// Elements to read.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Numbers of 32 bits.
    F32(&'a [f32]),
    /// The upper halves of numbers of 32 bits.
    Bf16(&'a [u16]),
    /// Whole numbers.
    U32(&'a [u32]),
    /// Numbers of 64 bits.
    F64(&'a [f64]),
}

/// Elements to write.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// Numbers of 32 bits.
    F32(&'a mut [f32]),
    /// The upper halves of numbers of 32 bits.
    Bf16(&'a mut [u16]),
    /// Whole numbers.
    U32(&'a mut [u32]),
    /// Numbers of 64 bits.
    F64(&'a mut [f64]),
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a> {
    /// Memory that it reads.
    Read(Elements<'a>),
    /// Memory that it writes, and may read.
    Write(ElementsMut<'a>),
    /// A number.
    F32(f32),
    /// A number.
    U32(u32),
    /// A number.
    U64(u64),
}

/// The order in which blocks and threads take turns. A GPU promises no order: a result that depends
/// on it is a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first block and the first thread first.
    Forwards,
    /// The last ones first.
    Backwards,
}

/// A launch that was refused or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The kernel or its arguments are at fault.
    #[error("kernel {kernel}: expected a launch that ends, got {fault}")]
    Fault {
        /// Which kernel.
        kernel: String,
        /// What the launch stopped at.
        fault: String,
    },
    /// A name that no C string can hold.
    #[error("expected the name of a kernel, got {name:?}")]
    Name {
        /// The name.
        name: String,
    },
}

/// Runs a kernel over a grid of `blocks` blocks of `threads` threads.
///
/// # Errors
/// When there is no such kernel, the arguments do not fit its parameters, CUDA would refuse the
/// grid, or an access leaves its memory.
pub fn launch(
    kernel: &str,
    blocks: [u32; 2],
    threads: u32,
    order: Order,
    arguments: &mut [Argument<'_>],
) -> Result<(), LaunchError> {
    foreign::launch(kernel, blocks, threads, order, arguments)
}
