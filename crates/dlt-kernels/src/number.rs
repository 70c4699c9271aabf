//! Number formats of activations in main memory. Every loop computes in f32; it reads activations
//! of either format, and rounds its results to that format.

use candle_core::WithDType;
use half::bf16;

use crate::lanes::vectorised;

/// A number format of activations.
pub(crate) trait Number: WithDType {
    /// `into = x`, exactly.
    fn widen(x: &[Self], into: &mut [f32]);

    /// `into = x`, rounded to the nearest number, ties to even. NaN stays NaN.
    fn round(x: &[f32], into: &mut [Self]);

    /// The nearest bf16.
    fn to_bf16(self) -> bf16;
}

impl Number for f32 {
    fn widen(x: &[f32], into: &mut [f32]) {
        into.copy_from_slice(x);
    }

    fn round(x: &[f32], into: &mut [f32]) {
        into.copy_from_slice(x);
    }

    #[inline(always)]
    fn to_bf16(self) -> bf16 {
        rounded(self)
    }
}

impl Number for bf16 {
    fn widen(x: &[bf16], into: &mut [f32]) {
        vectorised!(|| into.iter_mut().zip(x).for_each(|(into, &x)| *into = widened(x)));
    }

    fn round(x: &[f32], into: &mut [bf16]) {
        vectorised!(|| into.iter_mut().zip(x).for_each(|(into, &x)| *into = rounded(x)));
    }

    #[inline(always)]
    fn to_bf16(self) -> bf16 {
        self
    }
}

/// The same number in f32.
#[inline(always)]
pub(crate) fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// The nearest bf16, of two equally near ones that with an even last digit. Without a branch, so
/// that loops of it become vector code.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Cutting could make a NaN infinite: a bit of those that stay is set.
    let nan = (bits >> 16) | 0x40;
    bf16::from_bits(if x.is_nan() { nan } else { nearest } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_rounding_is_that_of_half() {
        // Every upper half, with lower halves at, below and above each tie.
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(rounded(x).to_bits(), bf16::from_f32(x).to_bits(), "{x}");
            }
            let x = bf16::from_bits(upper);
            assert_eq!(widened(x).to_bits(), x.to_f32().to_bits(), "{x}");
        }
    }
}
