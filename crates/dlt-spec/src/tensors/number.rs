//! Types of the numbers of a tensor.

use serde::{Deserialize, Serialize};

/// Type of the numbers of a tensor, under the name of the safetensors format. Types of less than
/// one byte are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(non_camel_case_types, reason = "the names of the format")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Number {
    BOOL,
    U8,
    I8,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
    C64,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
}

impl Number {
    /// Bytes of one number.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::BOOL
            | Self::U8
            | Self::I8
            | Self::F8_E5M2
            | Self::F8_E4M3
            | Self::F8_E8M0
            | Self::F8_E4M3FNUZ
            | Self::F8_E5M2FNUZ => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => 8,
        }
    }

    /// How many of the numbers in these little-endian bytes are NaN or infinite. It is 0 for types
    /// that weights do not have, such as integers.
    #[must_use]
    pub fn count_not_finite(self, bytes: &[u8]) -> u64 {
        let count = match self {
            Self::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .filter(|bytes| !f32::from_le_bytes(**bytes).is_finite())
                .count(),
            Self::F64 => bytes
                .as_chunks()
                .0
                .iter()
                .filter(|bytes| !f64::from_le_bytes(**bytes).is_finite())
                .count(),
            // NaN and infinities are the numbers with all bits of the exponent set.
            Self::F16 => full_exponents(bytes, 0x7c00),
            Self::BF16 => full_exponents(bytes, 0x7f80),
            _ => 0,
        };

        count as u64
    }
}

fn full_exponents(bytes: &[u8], exponent: u16) -> usize {
    bytes
        .as_chunks()
        .0
        .iter()
        .filter(|bytes| u16::from_le_bytes(**bytes) & exponent == exponent)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_counted_in_every_type_of_weights() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let both = [[1.0, value], [value, f32::MAX]].concat();
            let bytes: Vec<u8> = both.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(Number::F32.count_not_finite(&bytes), 2);

            let bytes: Vec<u8> =
                both.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
            assert_eq!(Number::F64.count_not_finite(&bytes), 2);

            let bytes: Vec<u8> =
                both.iter().flat_map(|value| (value.to_bits() >> 16).to_le_bytes()).collect();
            assert_eq!(Number::BF16.count_not_finite(&bytes[..2]), 0);
        }

        // 1, infinity, a NaN, the largest number.
        let halves: [u16; 4] = [0x3c00, 0x7c00, 0xfe01, 0x7bff];
        assert_eq!(Number::F16.count_not_finite(&halves.map(u16::to_le_bytes).concat()), 2);

        let halves: [u16; 4] = [0x3f80, 0xff80, 0x7fc0, 0x7f7f];
        assert_eq!(Number::BF16.count_not_finite(&halves.map(u16::to_le_bytes).concat()), 2);
        assert_eq!(Number::I64.count_not_finite(&[255; 16]), 0);
    }
}
