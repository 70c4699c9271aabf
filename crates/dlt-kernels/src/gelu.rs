//! The Gaussian error linear unit in both of its forms.

use crate::choice::Backend;
use crate::lanes::{exp, vectorised};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_same, rows_and_width};
use crate::{Kernels, composed, cuda, rows};
use candle_core::{Result, Tensor};

/// The form of GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x/2 · (1 + tanh(sqrt(2/pi) · (x + 0.044715 x³)))`, as in GPT-2.
    Tanh,
    /// `x/2 · (1 + erf(x / sqrt(2)))`, as in BERT and ViT.
    Erf,
}

impl Kernels {
    /// GELU of every element.
    ///
    /// # Shapes
    /// `x` any non-empty shape but a scalar; returns the same.
    ///
    /// # Errors
    /// When `x` is empty or a scalar.
    pub fn gelu(self, x: &Tensor, kind: Gelu) -> Result<Tensor> {
        rows_and_width("gelu", x)?;

        match self.backend(&[x], &[]) {
            Backend::Host => rows::map([x], |[x], y| kind.forward(x, y)),
            Backend::Cuda => cuda::gelu(&cuda::Launcher, x, kind),
            Backend::Composed => definition(x, kind),
            Backend::Widened => {
                let [x] = widened([x])?;
                rounded(&self.gelu(&x, kind)?)
            }
        }
    }

    /// Gradient of [`Kernels::gelu`] with respect to `x`.
    ///
    /// # Shapes
    /// Both the same; so is the result.
    ///
    /// # Errors
    /// When `x` is empty or a scalar, or shapes differ.
    pub fn gelu_gradient(self, x: &Tensor, kind: Gelu, gradient: &Tensor) -> Result<Tensor> {
        rows_and_width("gelu_gradient", x)?;
        expect_same("gelu_gradient", "gradient", x, gradient)?;

        match self.backend(&[x, gradient], &[]) {
            Backend::Host => {
                rows::map([x, gradient], |[x, gradient], dx| kind.backward(x, gradient, dx))
            }
            Backend::Cuda => cuda::gelu_gradient(&cuda::Launcher, x, kind, gradient),
            Backend::Composed => {
                let [of_x] = composed::gradients([x], gradient, |[x]| definition(x, kind))?;
                Ok(of_x)
            }
            Backend::Widened => {
                let [x, gradient] = widened([x, gradient])?;
                rounded(&self.gelu_gradient(&x, kind, &gradient)?)
            }
        }
    }
}

/// [`Kernels::gelu`] in candle's own operations.
pub(crate) fn definition(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    let x = x.contiguous()?;
    let gate = match kind {
        Gelu::Tanh => {
            let inner = ((x.sqr()? * &x)?.affine(0.044715, 0.0)? + &x)?;
            inner.affine((2.0 / std::f64::consts::PI).sqrt(), 0.0)?.tanh()?
        }
        Gelu::Erf => x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?,
    };

    x * gate.affine(0.5, 0.5)?
}

impl Gelu {
    /// `y = gelu(x)`
    pub(crate) fn forward(self, x: &[f32], y: &mut [f32]) {
        match self {
            Gelu::Tanh => {
                vectorised!(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * tanh_gate(x).0))
            }
            Gelu::Erf => {
                vectorised!(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * normal(x).0))
            }
        }
    }

    /// `dx = gelu'(x) · gradient`
    pub(crate) fn backward(self, x: &[f32], gradient: &[f32], dx: &mut [f32]) {
        match self {
            Gelu::Tanh => vectorised!(|| {
                for ((dx, &x), &gradient) in dx.iter_mut().zip(x).zip(gradient) {
                    let (gate, slope) = tanh_gate(x);
                    *dx = x.mul_add(slope, gate) * gradient;
                }
            }),
            Gelu::Erf => vectorised!(|| {
                for ((dx, &x), &gradient) in dx.iter_mut().zip(x).zip(gradient) {
                    let (below, density) = normal(x);
                    *dx = x.mul_add(density, below) * gradient;
                }
            }),
        }
    }
}

/// `(1 + tanh(u)) / 2` and its derivative by `x`, with `u = sqrt(2/pi) · (x + 0.044715 x³)`.
/// Computed as a logistic function of `-2|u|`, it loses no digits in either tail.
#[inline(always)]
fn tanh_gate(x: f32) -> (f32, f32) {
    const TWICE_ROOT: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;

    let square = x * x;
    let u = TWICE_ROOT * x * CUBIC.mul_add(square, 1.0);
    let e = exp(-u.abs());
    let s = 1.0 / (1.0 + e);
    let gate = if u < 0.0 { e * s } else { s };

    // Where e is zero the square may be infinite, and zero times infinity would be NaN.
    let du = TWICE_ROOT * (3.0 * CUBIC).mul_add(square.min(1e6), 1.0);
    (gate, e * s * s * du)
}

/// The standard normal distribution function and its density.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    const DENSITY: f32 = 0.398_942_3;

    // exp(z²) erfc(z) as a polynomial in t = 1 / (1 + z/2), minimax on z in 0..9.4, relative error
    // 3e-8.
    let size = x.abs();
    // The polynomial's range ends here.
    let z = if size > 13.0 { 13.0 } else { size };
    let t = 1.0 / (0.5 * ROOT_HALF).mul_add(z, 1.0);
    let mut p = -5.392_304e-2f32;

    p = p.mul_add(t, 2.579_954_3e-1);
    p = p.mul_add(t, -4.281_456e-1);
    p = p.mul_add(t, 2.042_174_3e-1);
    p = p.mul_add(t, 3.047_452_5e-2);
    p = p.mul_add(t, 1.744_714_2e-1);
    p = p.mul_add(t, 2.519_860_6e-1);
    p = p.mul_add(t, 2.806_623_2e-1);
    p = p.mul_add(t, 2.822_697e-1);
    p = p.mul_add(t, -8.279_356e-6);

    let e = exp(-0.5 * z * z);
    let tail = 0.5 * e * p;
    let below = if x < 0.0 { tail } else { 1.0 - tail };

    (below, DENSITY * e)
}
