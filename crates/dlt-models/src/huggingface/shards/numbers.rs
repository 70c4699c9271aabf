//! The number formats of weights in files, and how they become f32.

use std::fmt;

use candle_core::{DType, Device, Tensor};

/// A number format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// The format of this program's weights.
    F32,
    /// Rounded to the nearest f32, ties to the even one.
    F64,
    /// Exact in f32.
    F16,
    /// Exact in f32.
    Bf16,
    /// A format that no weight has: whole numbers, quantised numbers.
    Other(String),
}

impl Numbers {
    /// Bytes of a number; `None` for a format that cannot be read.
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name) => name,
        })
    }
}

/// The f32 tensor of some bytes, in main memory.
///
/// # Errors
/// Says what is wrong: another format, or an F64 outside of the range of f32.
pub(super) fn tensor(numbers: &Numbers, bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
    let dtype = match numbers {
        Numbers::F32 => DType::F32,
        Numbers::F64 => return narrowed(bytes, shape),
        Numbers::F16 => DType::F16,
        Numbers::Bf16 => DType::BF16,
        Numbers::Other(other) => {
            return Err(format!("expected F32, F64, F16 or BF16, got {other}"));
        }
    };

    let read = Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu);
    read.and_then(|tensor| tensor.to_dtype(DType::F32)).map_err(|error| error.to_string())
}

/// F64 as the nearest f32. Refuses a number outside of the range of f32, which would become
/// infinite.
fn narrowed(bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
    let mut narrow = Vec::with_capacity(bytes.len() / 8);
    for (index, bytes) in bytes.chunks_exact(8).enumerate() {
        let wide = f64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
        let number = wide as f32;
        if wide.is_finite() && !number.is_finite() {
            return Err(format!(
                "expected numbers within the range of f32, got {wide:e} as number {index}"
            ));
        }

        narrow.push(number);
    }

    Tensor::from_vec(narrow, shape, &Device::Cpu).map_err(|error| error.to_string())
}
