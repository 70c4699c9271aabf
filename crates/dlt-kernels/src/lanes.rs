//! Vector loops in plain Rust, compiled for each instruction set; one is chosen at run time.
//!
//! Every loop gives the same bits under every instruction set: multiply-adds are fused everywhere,
//! and a reduction always has [`LANES`] partial results that are combined in a fixed order.

use pulp::{Arch, Simd, WithSimd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Partial results of a reduction: two AVX-512 registers, so that two chains of additions overlap.
pub(crate) const LANES: usize = 32;

static PORTABLE: AtomicBool = AtomicBool::new(false);

/// The instruction set that the vector loops use on this machine, for people: `AVX-512`, `AVX2`,
/// `NEON`, or `portable` where there is no vector code.
#[must_use]
pub fn instruction_set() -> &'static str {
    match dispatch(Width) {
        16 => "AVX-512",
        8 => "AVX2",
        4 if cfg!(target_arch = "aarch64") => "NEON",
        _ => "portable",
    }
}

/// Asks for the number of f32 in a vector.
struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Makes every vector loop of this process run the portable code, for tests of that code.
#[doc(hidden)]
pub fn set_portable(portable: bool) {
    PORTABLE.store(portable, Ordering::Relaxed);
}

/// Runs a closure without arguments, compiled for the best instruction set of this machine.
/// Functions that it calls must be inlined into it: other calls keep the instruction set of the
/// build.
macro_rules! vectorised {
    (|| $body:expr) => {
        $crate::lanes::dispatch($crate::lanes::Loop(
            #[inline(always)]
            || $body,
        ))
    };
}
pub(crate) use vectorised;

/// A closure that is called as what it is. Were it called as `FnOnce`, the compiler could put a
/// function between, keep that function out of line, and so compile the loop without vectors.
pub(crate) struct Loop<F>(pub(crate) F);

impl<R, F: FnMut() -> R> WithSimd for Loop<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> R {
        (self.0)()
    }
}

/// Runs `body` with the vectors of the best instruction set of this machine, for loops that the
/// compiler does not vectorise by itself.
#[inline(always)]
pub(crate) fn dispatch<B: WithSimd>(body: B) -> B::Output {
    let arch = if PORTABLE.load(Ordering::Relaxed) { Arch::Scalar } else { Arch::new() };
    arch.dispatch(body)
}

/// `Σ f(x)`, in the fixed order of the lanes.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();

    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }

    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }

    fold(lanes)
}

/// `Σ x f(y)`, in the fixed order of the lanes.
#[inline(always)]
pub(crate) fn dot_of(x: &[f32], y: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let xs = x.chunks_exact(LANES);
    let ys = y.chunks_exact(LANES);
    let x_rest = xs.remainder();
    let y_rest = ys.remainder();

    for (x, y) in xs.zip(ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.mul_add(f(y), *lane);
        }
    }

    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.mul_add(f(y), *lane);
    }

    fold(lanes)
}

/// The largest element. NaN is ignored here; the sums that follow keep it.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();

    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            // A comparison with NaN is false, so NaN never becomes the largest.
            *lane = if x > *lane { x } else { *lane };
        }
    }

    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }

    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each `x` by `exp(x - shift)` and returns their sum.
#[inline(always)]
pub(crate) fn exp_and_sum(x: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - shift);
            *lane += *x;
        }
    }

    for (lane, x) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *x = exp(*x - shift);
        *lane += *x;
    }

    fold(lanes)
}

/// The sum of `N` partial sums, where `N` is a power of two: halves are added until one sum is
/// left.
#[inline(always)]
pub(crate) fn fold<const N: usize>(lanes: [f32; N]) -> f32 {
    let mut lanes = lanes;
    let mut width = N / 2;

    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }

    lanes[0]
}

/// `exp(x)` to about one unit in the last place for `x` up to 88; zero below -87, where the result
/// would not be a normal number; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 · 2²³: adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;

    // The high part has few enough bits that its product with the integer is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // exp(x) = 2ⁿ exp(r), with n the integer nearest to x / ln 2 and |r| at most ln(2)/2.
    let low = x < -87.0;
    let x = if low { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));

    // Minimax on ±ln(2)/2, relative error 2e-9.
    let mut p = 1.383_683_5e-3f32;
    p = p.mul_add(r, 8.374_824e-3);
    p = p.mul_add(r, 4.166_822_6e-2);
    p = p.mul_add(r, 0.166_664_2);
    p = p.mul_add(r, 0.499_999_9);
    p = p.mul_add(r, 1.0);
    p = p.mul_add(r, 1.0);

    // n moves into the exponent's bits, on top of those of 1.0: the power 2ⁿ.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if low { 0.0 } else { p * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two units in the last place of f32, relative.
    const EXP_TOLERANCE: f64 = 2.4e-7;

    #[test]
    fn matches_reference_exp() {
        for i in 0..200_000 {
            let x = -87.0 + i as f32 * (175.0 / 200_000.0);
            let expected = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) / expected - 1.0).abs() < EXP_TOLERANCE,
                "exp({x}) = {}",
                exp(x)
            );
        }

        assert_eq!((exp(0.0), exp(-1e4), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn law_reductions_reach_every_element() {
        for length in [1, 31, 32, 33, 64, 101] {
            let x: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let sum = (length * (length - 1) / 2) as f32;
            assert_eq!(sum_of(&x, |x| x), sum);
            assert_eq!(dot_of(&x, &vec![1.0; length], |y| 2.0 * y), 2.0 * sum);
            assert_eq!(largest(&x), (length - 1) as f32);
            assert_eq!(exp_and_sum(&mut vec![3.0; length], 3.0), length as f32);
        }
    }
}
