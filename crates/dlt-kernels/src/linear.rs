//! Affine maps, alone and followed by GELU.

mod few;
mod gradient;
mod tiled;

use crate::choice::Backend;
use crate::gelu::Gelu;
use crate::matrix::{By, View, product};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_vector, matrix, rows_and_width};
use crate::tiles::Weight;
use crate::{Kernels, cuda, gelu, host, rows};
use candle_core::{DType, Result, Tensor, bail};
pub(crate) use gradient::input_gradient;
use rayon::prelude::*;

impl Kernels {
    /// `x · weightᵀ + bias` over the last dimension.
    ///
    /// # Shapes
    /// `x` (..., in), `weight` (out, in), `bias` (out); returns (..., out).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn linear<'a>(
        self,
        x: &Tensor,
        weight: impl Into<Weight<'a>>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let given = weight.into();
        let weight = given.tensor;
        check("linear", x, weight, bias)?;

        match self.backend(&[x], &[weight, bias.unwrap_or(weight)]) {
            Backend::Host if x.dtype() == DType::BF16 => return tiled::linear(x, given, bias),
            Backend::Host => {}
            Backend::Cuda => return cuda::linear(&cuda::Launcher, x, weight, bias),
            Backend::Composed => return definition(x, weight, bias),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.linear(&x, weight, bias)?);
            }
        }

        let outputs = weight.dim(0)?;
        let weight = &weight.contiguous()?;

        // `read` has a fixed number of tensors: without a bias, the weight fills its place and is
        // not used.
        host::read([x, weight, bias.unwrap_or(weight)], |[data, weight, vector]| {
            let (y, _) = affine(data, weight, bias.map(|_| vector), outputs, None, self.by());
            host::tensor(y, output_dims(x.dims(), outputs))
        })
    }

    /// [`Kernels::linear`] followed by [`Kernels::gelu`]. The fused loops save one pass over the
    /// result.
    ///
    /// # Shapes
    /// As [`Kernels::linear`].
    ///
    /// # Errors
    /// As [`Kernels::linear`].
    pub fn linear_gelu<'a>(
        self,
        x: &Tensor,
        weight: impl Into<Weight<'a>>,
        bias: Option<&Tensor>,
        kind: Gelu,
    ) -> Result<Tensor> {
        let weight = weight.into();
        check("linear_gelu", x, weight.tensor, bias)?;
        let [_, after] = self.linear_then_gelu(x, weight, bias, kind)?;
        Ok(after)
    }

    /// [`Kernels::linear`] and [`Kernels::gelu`] of it, which is what a backward pass needs.
    ///
    /// # Shapes
    /// As [`Kernels::linear`], twice.
    ///
    /// # Errors
    /// As [`Kernels::linear`].
    pub fn linear_then_gelu<'a>(
        self,
        x: &Tensor,
        weight: impl Into<Weight<'a>>,
        bias: Option<&Tensor>,
        kind: Gelu,
    ) -> Result<[Tensor; 2]> {
        let given = weight.into();
        let weight = given.tensor;
        check("linear_then_gelu", x, weight, bias)?;
        match self.backend(&[x], &[weight, bias.unwrap_or(weight)]) {
            Backend::Host if x.dtype() == DType::F32 => {}
            Backend::Cuda => {
                return cuda::linear_then_gelu(&cuda::Launcher, x, weight, bias, kind);
            }
            Backend::Composed => {
                let before = definition(x, weight, bias)?;
                let after = gelu::definition(&before, kind)?;
                return Ok([before, after]);
            }
            // GELU is applied to the rounded map, so that a backward pass can compute it again from
            // that.
            Backend::Host | Backend::Widened => {
                let before = self.linear(x, given, bias)?;
                let after = self.gelu(&before, kind)?;
                return Ok([before, after]);
            }
        }

        let outputs = weight.dim(0)?;
        let dims = output_dims(x.dims(), outputs);
        let weight = &weight.contiguous()?;

        host::read([x, weight, bias.unwrap_or(weight)], |[x, weight, vector]| {
            let (before, after) =
                affine(x, weight, bias.map(|_| vector), outputs, Some(kind), self.by());
            Ok([host::tensor(before, dims.as_slice())?, host::tensor(after, dims.as_slice())?])
        })
    }
}

/// [`Kernels::linear`] in candle's own operations.
pub(crate) fn definition(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;

    // (N, in): contiguous and flat, because candle's matrix product misreads some strided batches.
    let flat = x.contiguous()?.reshape(((), inputs))?;
    let mut y = flat.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }

    y.reshape(output_dims(x.dims(), outputs))
}

fn check(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (_, width) = rows_and_width(op, x)?;
    let (outputs, inputs) = matrix(op, "weight", weight)?;
    if inputs != width {
        bail!("{op}: expected weight of shape [{outputs}, {width}], got [{outputs}, {inputs}]")
    }

    bias.map_or(Ok(()), |bias| expect_vector(op, "bias", bias, outputs))
}

/// The affine map, and GELU of it, (N, out) each; the second is empty where there is no activation.
fn affine(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: usize,
    activation: Option<Gelu>,
    by: By,
) -> (Vec<f32>, Vec<f32>) {
    let inputs = weight.len() / outputs;
    let mut y = match x.len() / inputs {
        ..=few::FEW_ROWS => few::product(x, weight, inputs),
        count => {
            // (N, in) x (in, out)
            let weight = View::new(weight, outputs, inputs, inputs);
            product(View::new(x, count, inputs, inputs), weight.t(), by)
        }
    };

    let piece = rows::per_task(outputs) * outputs;
    let Some(kind) = activation else {
        if let Some(bias) = bias {
            y.par_chunks_mut(piece).for_each(|y| add_bias(y, bias));
        }
        return (y, Vec::new());
    };

    // Bias and GELU in one pass over each piece, while it is in the cache.
    let mut activated = vec![0.0; y.len()];
    y.par_chunks_mut(piece).zip(activated.par_chunks_mut(piece)).for_each(|(y, activated)| {
        if let Some(bias) = bias {
            add_bias(y, bias);
        }
        kind.forward(y, activated);
    });

    (y, activated)
}

fn output_dims(dims: &[usize], outputs: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    dims
}

fn add_bias(y: &mut [f32], bias: &[f32]) {
    y.chunks_exact_mut(bias.len()).for_each(|row| rows::add(row, bias));
}
