//! Normalisation by the root mean square.

use crate::choice::Backend;
use crate::lanes::{dot_of, vectorised};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_same, expect_vector, rows_and_width};
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{D, Result, Tensor};

impl Kernels {
    /// `x / sqrt(mean(x²) + epsilon) · weight` over the last dimension.
    ///
    /// # Shapes
    /// `x` (..., C), `weight` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn rms_norm(self, x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
        let (_, width) = rows_and_width("rms_norm", x)?;
        expect_vector("rms_norm", "weight", weight, width)?;

        match self.backend(&[x], &[weight]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::rms_norm(&cuda::Launcher, x, weight, epsilon),
            Backend::Composed => return definition(x, weight, epsilon),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.rms_norm(&x, weight, epsilon)?);
            }
        }

        host::read([weight], |[weight]| {
            rows::map_rows([x], x.dims(), |_, [x], y| forward(x, weight, epsilon as f32, y))
        })
    }

    /// Gradient of [`Kernels::rms_norm`] with respect to `x`. The gradient of the weight is added to
    /// `parameter`, in place; where that is `None`, it becomes the gradient.
    ///
    /// # Shapes
    /// `x`, `gradient` (..., C), `weight` and `parameter` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn rms_norm_gradient(
        self,
        x: &Tensor,
        weight: &Tensor,
        epsilon: f64,
        gradient: &Tensor,
        parameter: Option<&mut Option<Tensor>>,
    ) -> Result<Tensor> {
        let (_, width) = rows_and_width("rms_norm_gradient", x)?;
        expect_vector("rms_norm_gradient", "weight", weight, width)?;
        expect_same("rms_norm_gradient", "gradient", x, gradient)?;

        let [of_x, of_weight] = gradients(self, x, weight, epsilon, gradient)?;
        if let Some(into) = parameter {
            host::add_or_set(into, of_weight)?;
        }

        Ok(of_x)
    }
}

/// [`Kernels::rms_norm`] in candle's own operations.
fn definition(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&size)?.broadcast_mul(weight)
}

/// Gradients of x and weight.
fn gradients(
    kernels: Kernels,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    match kernels.backend(&[x, gradient], &[weight]) {
        Backend::Host => host_gradients(x, weight, epsilon, gradient),
        Backend::Cuda => cuda::rms_norm_gradients(&cuda::Launcher, x, weight, epsilon, gradient),
        Backend::Composed => {
            composed::gradients([x, weight], gradient, |[x, weight]| definition(x, weight, epsilon))
        }
        Backend::Widened => {
            let [x, gradient] = widened([x, gradient])?;
            let [of_x, of_weight] = gradients(kernels, &x, weight, epsilon, &gradient)?;
            Ok([rounded(&of_x)?, of_weight])
        }
    }
}

fn host_gradients(
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    host::read([weight], |[weight]| {
        let width = weight.len();
        let (dx, of_weight) =
            rows::map_and_sum([x, gradient], width, |[x, gradient], dx, of_weight| {
                backward(x, weight, epsilon as f32, gradient, dx, of_weight);
            })?;

        Ok([dx, host::tensor(of_weight, width)?])
    })
}

fn forward(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();

    vectorised!(|| {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let inverse = inverse_size(x, epsilon);
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
    });
}

/// One over the root mean square of a row.
#[inline(always)]
fn inverse_size(x: &[f32], epsilon: f32) -> f32 {
    let mean_square = dot_of(x, x, |x| x) / x.len() as f32;
    1.0 / (mean_square + epsilon).sqrt()
}

/// Writes the gradient of `x`; adds that of the weight to `of_weight`, C numbers.
fn backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &[f32],
    dx: &mut [f32],
    of_weight: &mut [f32],
) {
    let width = weight.len();

    vectorised!(|| {
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let inverse = inverse_size(x, epsilon);
            let columns = dx.iter_mut().zip(of_weight.iter_mut()).zip(x).zip(gradient).zip(weight);
            for ((((dx, of_weight), &x), &gradient), &weight) in columns {
                *of_weight = gradient.mul_add(x * inverse, *of_weight);
                *dx = gradient * weight;
            }

            // With d = gradient · weight, which `dx` holds up to here, and normal = x ·
            // inverse, the gradient of x is inverse · (d - normal · mean(d · normal)).
            let along = dot_of(dx, x, |x| x * inverse) / width as f32;
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = inverse * (x * inverse).mul_add(-along, *dx);
            }
        }
    });
}
