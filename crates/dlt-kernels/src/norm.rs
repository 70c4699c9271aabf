//! Layer normalisation.

use crate::choice::Backend;
use crate::lanes::{dot_of, sum_of, vectorised};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_same, expect_vector, rows_and_width};
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

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
            Backend::Host | Backend::Cuda => {}
            Backend::Composed => return composed::layer_norm(x, weight, bias, epsilon),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.layer_norm(&x, weight, bias, epsilon)?);
            }
        }

        let tracked = [x, weight, bias].map(Tensor::track_op);
        let op = LayerNormOp { epsilon, tracked };
        let x = x.contiguous()?;
        let weight = weight.contiguous()?;
        let bias = bias.contiguous()?;

        if tracked.contains(&true) {
            x.apply_op3(&weight, &bias, op)
        } else {
            x.apply_op3_no_bwd(&weight, &bias, &op)
        }
    }

    /// Gradient of [`Kernels::layer_norm`] with respect to `x`, without autograd. The gradients of
    /// weight and bias are added to `parameters`, in place; where one is `None`, it becomes the
    /// gradient.
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

struct LayerNormOp {
    epsilon: f64,
    /// Whether x, weight, bias are tracked.
    tracked: [bool; 3],
}

impl CustomOp3 for LayerNormOp {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(x, x_layout)?;
        let weight = host::slice(weight, weight_layout)?;
        let bias = host::slice(bias, bias_layout)?;
        let mut y = vec![0.0; x.len()];
        let piece = rows::per_task(weight.len()) * weight.len();

        y.par_chunks_mut(piece)
            .zip(x.par_chunks(piece))
            .for_each(|(y, x)| forward(x, weight, bias, self.epsilon as f32, y));

        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape = x_layout.shape();
        let width = weight_layout.shape().elem_count();
        let launch = cuda::layer_norm(x.dtype(), shape.elem_count() / width, width, self.epsilon)?;
        let inputs = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        cuda::forward(&launch, &inputs, shape.clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [of_x, of_weight, of_bias] =
            gradients(Kernels::Fused, x, weight, self.epsilon, gradient)?;
        let [wants_x, wants_weight, wants_bias] = self.tracked;
        let wanted = |wanted: bool, gradient: Tensor| wanted.then_some(gradient);
        Ok((wanted(wants_x, of_x), wanted(wants_weight, of_weight), wanted(wants_bias, of_bias)))
    }
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
                composed::layer_norm(x, weight, bias, epsilon)
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
    host::read([x, weight, gradient], |[data, weight, gradient]| {
        let width = weight.len();
        // One partial sum of the gradients of weight and bias for each piece. Pieces depend on the
        // number of rows alone, so that the sums have the same bits for every number of threads.
        let piece = rows::per_sum(data.len() / width) * width;
        let mut dx = vec![0.0; data.len()];
        let partial: Vec<Vec<f32>> = dx
            .par_chunks_mut(piece)
            .zip(data.par_chunks(piece).zip(gradient.par_chunks(piece)))
            .map(|(dx, (x, gradient))| backward(x, weight, epsilon as f32, gradient, dx))
            .collect();

        let mut of_weight = rows::combine(partial);
        let of_bias = of_weight.split_off(width);

        Ok([
            host::tensor(dx, x.shape())?,
            host::tensor(of_weight, width)?,
            host::tensor(of_bias, width)?,
        ])
    })
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();

    vectorised(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                let [mean, inverse] = moments(x, epsilon);
                for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = ((x - mean) * inverse).mul_add(weight, bias);
                }
            }
        },
    );
}

/// Mean of a row, and one over its standard deviation.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> [f32; 2] {
    let mean = sum_of(x, |x| x) / x.len() as f32;
    // From the deviations: with a large mean, mean(x²) - mean² would lose digits.
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    [mean, 1.0 / (variance + epsilon).sqrt()]
}

/// Writes the gradient of `x`; returns those of weight and bias, 2 C numbers.
fn backward(x: &[f32], weight: &[f32], epsilon: f32, gradient: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    let mut sums = vec![0.0; 2 * width];
    let (of_weight, of_bias) = sums.split_at_mut(width);

    vectorised(
        #[inline(always)]
        || {
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
        },
    );

    sums
}
