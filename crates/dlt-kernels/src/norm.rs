//! Layer normalisation.

use crate::lanes::{dot_of, sum_of, vectorised};
use crate::shape::{expect_vector, rows_and_width};
use crate::{Kernels, composed, host, rows};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

impl Kernels {
    /// `(x - mean) / sqrt(variance + epsilon) · weight + bias` over the last dimension (variance of the population).
    ///
    /// # Shapes
    /// `x` (..., C), `weight` (C), `bias` (C); returns (..., C).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn layer_norm(self, x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
        let (_, width) = rows_and_width("layer_norm", x)?;
        expect_vector("layer_norm", "weight", weight, width)?;
        expect_vector("layer_norm", "bias", bias, width)?;
        if !self.fuses(&[x, weight, bias]) {
            return composed::layer_norm(x, weight, bias, epsilon);
        }
        let tracked = [x, weight, bias].map(Tensor::track_op);
        let op = Op { epsilon, tracked, moments: OnceLock::new() };
        let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
        match tracked.contains(&true) {
            true => x.apply_op3(&weight, &bias, op),
            false => x.apply_op3_no_bwd(&weight, &bias, &op),
        }
    }
}

struct Op {
    epsilon: f64,
    /// Whether x, weight, bias are tracked.
    tracked: [bool; 3],
    /// Mean and inverse deviation of each row.
    moments: OnceLock<Vec<[f32; 2]>>,
}

impl CustomOp3 for Op {
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
        let (weight, bias) = (host::slice(weight, weight_layout)?, host::slice(bias, bias_layout)?);
        let width = weight.len();
        let mut y = vec![0.0; x.len()];
        let mut moments = vec![[0.0; 2]; x.len() / width];
        let count = rows::per_task(width);
        y.par_chunks_mut(count * width)
            .zip(x.par_chunks(count * width).zip(moments.par_chunks_mut(count)))
            .for_each(|(y, (x, moments))| forward(x, weight, bias, self.epsilon as f32, y, moments));
        self.moments.set(moments).ok();
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(moments) = self.moments.get() else {
            bail!("layer_norm: expected saved moments in the backward pass, came none")
        };
        host::read([x, weight, gradient], |[x_data, weight, gradient]| {
            let width = weight.len();
            let count = rows::per_sum(moments.len());
            let mut dx = vec![0.0; x_data.len()];
            let partial: Vec<Vec<f32>> = dx
                .par_chunks_mut(count * width)
                .zip(x_data.par_chunks(count * width))
                .zip(gradient.par_chunks(count * width).zip(moments.par_chunks(count)))
                .map(|((dx, x), (gradient, moments))| backward(x, weight, gradient, moments, dx))
                .collect();
            let sums = rows::combine(partial);
            let [wants_x, wants_weight, wants_bias] = self.tracked;
            let vector = |wanted: bool, part: &[f32]| match wanted {
                true => host::tensor(part.to_vec(), width).map(Some),
                false => Ok(None),
            };
            let of_x = if wants_x { Some(host::tensor(dx, x.shape())?) } else { None };
            Ok((of_x, vector(wants_weight, &sums[..width])?, vector(wants_bias, &sums[width..])?))
        })
    }
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32], moments: &mut [[f32; 2]]) {
    let width = weight.len();
    vectorised(
        #[inline(always)]
        || {
            for ((x, y), moments) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(moments) {
                let mean = sum_of(x, |x| x) / width as f32;
                // Deviations first, so that a large mean costs no digits.
                let variance = sum_of(x, |x| (x - mean) * (x - mean)) / width as f32;
                let inverse = 1.0 / (variance + epsilon).sqrt();
                *moments = [mean, inverse];
                for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = ((x - mean) * inverse).mul_add(weight, bias);
                }
            }
        },
    );
}

/// Writes the gradient of `x`; returns those of weight and bias, one behind the other.
fn backward(x: &[f32], weight: &[f32], gradient: &[f32], moments: &[[f32; 2]], dx: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    let mut sums = vec![0.0; 2 * width];
    let (of_weight, of_bias) = sums.split_at_mut(width);
    vectorised(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
            for (((x, gradient), dx), &[mean, inverse]) in rows.zip(dx.chunks_exact_mut(width)).zip(moments) {
                for (i, dx) in dx.iter_mut().enumerate().take(width) {
                    let normal = (x[i] - mean) * inverse;
                    of_weight[i] = gradient[i].mul_add(normal, of_weight[i]);
                    of_bias[i] += gradient[i];
                    *dx = gradient[i] * weight[i];
                }
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
