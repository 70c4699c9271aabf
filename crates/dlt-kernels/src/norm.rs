//! Layer normalisation.

use crate::choice::Backend;
use crate::lanes::{dot_of, sum_of, vectorised};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_same, expect_vector, rows_and_width};
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{D, Result, Tensor};

impl Kernels {
    /// `(x - mean) / sqrt(variance + epsilon) · weight + bias` over the last dimension (variance of
    /// the population).
    ///
    /// # Shapes
    /// `x` (..., C), `weight` (C), `bias` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn layer_norm(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f64,
    ) -> Result<Tensor> {
        let (_, width) = rows_and_width("layer_norm", x)?;
        expect_vector("layer_norm", "weight", weight, width)?;
        expect_vector("layer_norm", "bias", bias, width)?;

        match self.backend(&[x], &[weight, bias]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::layer_norm(&cuda::Launcher, x, weight, bias, epsilon),
            Backend::Composed => return definition(x, weight, bias, epsilon),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.layer_norm(&x, weight, bias, epsilon)?);
            }
        }

        host::read([weight, bias], |[weight, bias]| {
            rows::map_rows([x], x.dims(), |_, [x], y| forward(x, weight, bias, epsilon as f32, y))
        })
    }

    /// Gradient of [`Kernels::layer_norm`] with respect to `x`. The gradients of weight and bias are
    /// added to `parameters`, in place; where one is `None`, it becomes the gradient.
    ///
    /// # Shapes
    /// `x`, `gradient` (..., C), `weight` and `parameters` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn layer_norm_gradient(
        self,
        x: &Tensor,
        weight: &Tensor,
        epsilon: f64,
        gradient: &Tensor,
        parameters: Option<[&mut Option<Tensor>; 2]>,
    ) -> Result<Tensor> {
        let (_, width) = rows_and_width("layer_norm_gradient", x)?;
        expect_vector("layer_norm_gradient", "weight", weight, width)?;
        expect_same("layer_norm_gradient", "gradient", x, gradient)?;

        let [of_x, of_weight, of_bias] = gradients(self, x, weight, epsilon, gradient)?;
        if let Some([weight_into, bias_into]) = parameters {
            host::add_or_set(weight_into, of_weight)?;
            host::add_or_set(bias_into, of_bias)?;
        }

        Ok(of_x)
    }
}

/// [`Kernels::layer_norm`] in candle's own operations.
fn definition(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Gradients of x, weight and bias.
fn gradients(
    kernels: Kernels,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    match kernels.backend(&[x, gradient], &[weight]) {
        Backend::Host => host_gradients(x, weight, epsilon, gradient),
        Backend::Cuda => cuda::layer_norm_gradients(&cuda::Launcher, x, weight, epsilon, gradient),
        Backend::Composed => {
            // The bias is only added, so no gradient depends on its value.
            let bias = weight.zeros_like()?;
            composed::gradients([x, weight, &bias], gradient, |[x, weight, bias]| {
                definition(x, weight, bias, epsilon)
            })
        }
        Backend::Widened => {
            let [x, gradient] = widened([x, gradient])?;
            let [of_x, of_weight, of_bias] = gradients(kernels, &x, weight, epsilon, &gradient)?;
            Ok([rounded(&of_x)?, of_weight, of_bias])
        }
    }
}

fn host_gradients(
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    host::read([weight], |[weight]| {
        let width = weight.len();
        let (dx, mut of_weight) =
            rows::map_and_sum([x, gradient], 2 * width, |[x, gradient], dx, sums| {
                backward(x, weight, epsilon as f32, gradient, dx, sums);
            })?;
        let of_bias = of_weight.split_off(width);

        Ok([dx, host::tensor(of_weight, width)?, host::tensor(of_bias, width)?])
    })
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();

    vectorised!(|| {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let [mean, inverse] = moments(x, epsilon);
            for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = ((x - mean) * inverse).mul_add(weight, bias);
            }
        }
    });
}

/// Mean of a row, and one over its standard deviation.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> [f32; 2] {
    let mean = sum_of(x, |x| x) / x.len() as f32;
    // From the deviations: with a large mean, mean(x²) - mean² would lose digits.
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    [mean, 1.0 / (variance + epsilon).sqrt()]
}

/// Writes the gradient of `x`; adds those of weight and bias to `sums`, 2 C numbers.
fn backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &[f32],
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let width = weight.len();
    let (of_weight, of_bias) = sums.split_at_mut(width);

    vectorised!(|| {
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let [mean, inverse] = moments(x, epsilon);
            for (i, dx) in dx.iter_mut().enumerate().take(width) {
                let normal = (x[i] - mean) * inverse;
                of_weight[i] = gradient[i].mul_add(normal, of_weight[i]);
                of_bias[i] += gradient[i];
                *dx = gradient[i] * weight[i];
            }

            // With d = gradient · weight, which `dx` holds up to here, the gradient of x is
            // inverse · (d - mean(d) - normal · mean(d · normal)).
            let mean_outer = sum_of(dx, |d| d) / width as f32;
            let along = dot_of(dx, x, |x| (x - mean) * inverse) / width as f32;

            for (dx, &x) in dx.iter_mut().zip(x) {
                let normal = (x - mean) * inverse;
                *dx = inverse * (*dx - mean_outer - normal * along);
            }
        }
    });
}
