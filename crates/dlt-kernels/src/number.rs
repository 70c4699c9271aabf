//! Number formats of activations in main memory. Every loop computes in f32; it reads activations
//! of either format, and rounds its results to that format.

use candle_core::WithDType;
use half::bf16;
use half::vec::HalfBitsVecExt;

use crate::lanes::vectorised;

/// A number format of activations.
pub(crate) trait Number: WithDType {
    /// The most numbers that a loop reads or writes at once. Those of bf16 are in buffers of f32
    /// then, three of which fit into the first cache.
    const PIECE: usize;

    /// A new buffer of `count` zeros.
    fn zeros(count: usize) -> Vec<Self>;

    /// `x` in f32: itself, or widened into `buffer`.
    fn wide<'a>(x: &'a [Self], buffer: &'a mut Vec<f32>) -> &'a [f32];

    /// Fills `into` with what `f` writes, without a copy or by way of `buffer`, and returns the
    /// result of `f`.
    fn fill<R>(into: &mut [Self], buffer: &mut Vec<f32>, f: impl FnOnce(&mut [f32]) -> R) -> R;

    /// `into = x`, exactly.
    fn widen(x: &[Self], into: &mut [f32]);

    /// `into = x`, rounded to the nearest number, ties to even. NaN stays NaN.
    fn round(x: &[f32], into: &mut [Self]);

    /// The nearest bf16.
    fn to_bf16(self) -> bf16;

    /// The same number in f32.
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    const PIECE: usize = usize::MAX;

    fn zeros(count: usize) -> Vec<f32> {
        vec![0.0; count]
    }

    fn wide<'a>(x: &'a [f32], _: &'a mut Vec<f32>) -> &'a [f32] {
        x
    }

    fn fill<R>(into: &mut [f32], _: &mut Vec<f32>, f: impl FnOnce(&mut [f32]) -> R) -> R {
        f(into)
    }

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

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    const PIECE: usize = 2_048;

    fn zeros(count: usize) -> Vec<bf16> {
        // Memory that the system hands out is zero, and zeros of integers make use of that.
        vec![0u16; count].reinterpret_into()
    }

    fn wide<'a>(x: &'a [bf16], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        buffer.resize(x.len(), 0.0);
        Self::widen(x, buffer);
        buffer
    }

    fn fill<R>(into: &mut [bf16], buffer: &mut Vec<f32>, f: impl FnOnce(&mut [f32]) -> R) -> R {
        buffer.resize(into.len(), 0.0);
        let result = f(buffer);
        Self::round(buffer, into);
        result
    }

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

    #[inline(always)]
    fn to_f32(self) -> f32 {
        widened(self)
    }
}

/// Evaluates an expression with a name for the number format of a tensor. Formats other than bf16
/// count as f32; whatever reads the tensor refuses them.
macro_rules! in_format_of {
    ($tensor:expr, |$format:ident| $result:expr) => {
        if $tensor.dtype() == candle_core::DType::BF16 {
            type $format = half::bf16;
            $result
        } else {
            type $format = f32;
            $result
        }
    };
}
pub(crate) use in_format_of;

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
            // Where half makes a signalling NaN quiet, widening changes no bit.
            let same = widened(x).to_bits() == x.to_f32().to_bits();
            assert!(same || x.is_nan() && widened(x).is_nan(), "{x}");
        }
    }
}
