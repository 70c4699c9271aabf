//! The gated linear unit of Llama's feed-forward layers.

use crate::choice::Backend;
use crate::lanes::{exp, vectorised};
use crate::rounding::{rounded, widened};
use crate::shape::rows_and_width;
use crate::{Kernels, composed, cuda, rows};
use candle_core::{D, Result, Tensor, bail};

impl Kernels {
    /// `silu(gate) · up`, with `silu(z) = z / (1 + exp(-z))`. Each row holds F numbers of the gate,
    /// then F numbers that it lets through.
    ///
    /// # Shapes
    /// `x` (..., 2F); returns (..., F).
    ///
    /// # Errors
    /// When `x` is empty or a scalar, or its last dimension is odd.
    pub fn swiglu(self, x: &Tensor) -> Result<Tensor> {
        let half = half_width("swiglu", x)?;

        match self.backend(&[x], &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::swiglu(&cuda::Launcher, x, half),
            Backend::Composed => return definition(x),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.swiglu(&x)?);
            }
        }

        rows::map_rows([x], &halved(x.dims(), half), |_, [x], y| forward(x, half, y))
    }

    /// Gradient of [`Kernels::swiglu`] with respect to `x`.
    ///
    /// # Shapes
    /// `x` (..., 2F), `gradient` (..., F); returns (..., 2F).
    ///
    /// # Errors
    /// When `x` is empty or a scalar, its last dimension is odd, or the shape of the gradient does
    /// not fit.
    pub fn swiglu_gradient(self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let half = half_width("swiglu_gradient", x)?;
        let expected = halved(x.dims(), half);
        if gradient.dims() != expected {
            bail!(
                "swiglu_gradient: expected gradient of shape {expected:?}, got {:?}",
                gradient.dims()
            )
        }

        match self.backend(&[x, gradient], &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::swiglu_gradient(&cuda::Launcher, x, half, gradient),
            Backend::Composed => {
                let [of_x] = composed::gradients([x], gradient, |[x]| definition(x))?;
                return Ok(of_x);
            }
            Backend::Widened => {
                let [x, gradient] = widened([x, gradient])?;
                return rounded(&self.swiglu_gradient(&x, &gradient)?);
            }
        }

        rows::map_rows([x, gradient], x.dims(), |_, [x, gradient], dx| {
            backward(x, gradient, half, dx);
        })
    }
}

/// F, from rows of 2F.
fn half_width(op: &str, x: &Tensor) -> Result<usize> {
    let (_, width) = rows_and_width(op, x)?;
    if !width.is_multiple_of(2) {
        bail!("{op}: expected an even last dimension, half of it a gate, got {width}")
    }
    Ok(width / 2)
}

/// The shape of the result.
pub(crate) fn halved(dims: &[usize], half: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = half;
    }
    dims
}

/// [`Kernels::swiglu`] in candle's own operations.
fn definition(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let half = x.dim(D::Minus1)? / 2;
    let gate = x.narrow(D::Minus1, 0, half)?.silu()?;
    gate * x.narrow(D::Minus1, half, half)?
}

fn forward(x: &[f32], half: usize, y: &mut [f32]) {
    vectorised!(|| {
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(half)) {
            let (gate, up) = x.split_at(half);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * logistic(gate).0 * up;
            }
        }
    });
}

fn backward(x: &[f32], gradient: &[f32], half: usize, dx: &mut [f32]) {
    vectorised!(|| {
        let rows = x.chunks_exact(2 * half).zip(gradient.chunks_exact(half));
        for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(2 * half)) {
            let (gate, up) = x.split_at(half);
            let (of_gate, of_up) = dx.split_at_mut(half);
            let columns = of_gate.iter_mut().zip(of_up).zip(gate).zip(up).zip(gradient);

            for ((((of_gate, of_up), &gate), &up), &gradient) in columns {
                let (open, slope) = logistic(gate);
                *of_gate = gate.mul_add(slope, open) * up * gradient;
                *of_up = gate * open * gradient;
            }
        }
    });
}

/// `1 / (1 + exp(-z))` and its derivative. It uses the exponential of `-|z|`, so that nothing
/// overflows and neither tail loses digits.
#[inline(always)]
fn logistic(z: f32) -> (f32, f32) {
    let e = exp(-z.abs());
    let s = 1.0 / (1.0 + e);
    (if z < 0.0 { e * s } else { s }, e * s * s)
}
