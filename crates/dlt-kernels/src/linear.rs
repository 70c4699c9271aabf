//! Affine maps, alone and followed by GELU.

mod few;
mod gradient;

use crate::choice::Backend;
use crate::gelu::Gelu;
use crate::matrix::{Threads, View, product};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_vector, matrix, rows_and_width};
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

impl Kernels {
    /// `x · weightᵀ + bias` over the last dimension.
    ///
    /// The fused loops compute gradients only of those arguments that autograd tracks.
    ///
    /// # Shapes
    /// `x` (..., in), `weight` (out, in), `bias` (out); returns (..., out).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        check("linear", x, weight, bias)?;

        match affine_backend(self, x, weight, bias) {
            Backend::Host => apply(x, weight, bias, None),
            Backend::Cuda => cuda::linear(&cuda::Launcher, x, weight, bias),
            Backend::Composed => composed::linear(x, weight, bias),
            Backend::Widened => {
                let [x] = widened([x])?;
                rounded(&self.linear(&x, weight, bias)?)
            }
        }
    }

    /// [`Kernels::linear`] followed by [`Kernels::gelu`]. The fused loops save one pass over the
    /// result.
    ///
    /// # Shapes
    /// As [`Kernels::linear`].
    ///
    /// # Errors
    /// As [`Kernels::linear`].
    pub fn linear_gelu(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        kind: Gelu,
    ) -> Result<Tensor> {
        check("linear_gelu", x, weight, bias)?;

        match affine_backend(self, x, weight, bias) {
            Backend::Host => apply(x, weight, bias, Some(kind)),
            Backend::Cuda => {
                let [_, after] = cuda::linear_then_gelu(&cuda::Launcher, x, weight, bias, kind)?;
                Ok(after)
            }
            Backend::Composed => self.gelu(&composed::linear(x, weight, bias)?, kind),
            // GELU is applied to the rounded map, so that a backward pass can compute it again from
            // that.
            Backend::Widened => self.gelu(&self.linear(x, weight, bias)?, kind),
        }
    }

    /// [`Kernels::linear_gelu`] outside autograd: returns the affine map and GELU of it.
    ///
    /// # Shapes
    /// As [`Kernels::linear`], twice.
    ///
    /// # Errors
    /// As [`Kernels::linear`].
    pub fn linear_then_gelu(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        kind: Gelu,
    ) -> Result<[Tensor; 2]> {
        check("linear_then_gelu", x, weight, bias)?;
        let [x, weight] = [x, weight].map(Tensor::detach);
        let bias = bias.map(Tensor::detach);

        match affine_backend(self, &x, &weight, bias.as_ref()) {
            Backend::Host => {}
            Backend::Cuda => {
                return cuda::linear_then_gelu(&cuda::Launcher, &x, &weight, bias.as_ref(), kind);
            }
            Backend::Composed => {
                let before = composed::linear(&x, &weight, bias.as_ref())?;
                let after = composed::gelu(&before, kind)?;
                return Ok([before, after]);
            }
            Backend::Widened => {
                let before = self.linear(&x, &weight, bias.as_ref())?;
                let after = self.gelu(&before, kind)?;
                return Ok([before, after]);
            }
        }

        let outputs = weight.dim(0)?;
        let dims = output_dims(x.dims(), weight.dim(0)?);

        // `read` has a fixed number of tensors: without a bias, the weight fills its place and is
        // not used.
        host::read([&x, &weight, bias.as_ref().unwrap_or(&weight)], |[x, weight, vector]| {
            let (before, after) =
                affine(x, weight, bias.as_ref().map(|_| vector), outputs, Some(kind));
            Ok([host::tensor(before, dims.as_slice())?, host::tensor(after, dims.as_slice())?])
        })
    }
}

fn check(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (_, width) = rows_and_width(op, x)?;
    let (outputs, inputs) = matrix(op, "weight", weight)?;
    if inputs != width {
        bail!("{op}: expected weight of shape [{outputs}, {width}], got [{outputs}, {inputs}]")
    }

    bias.map_or(Ok(()), |bias| expect_vector(op, "bias", bias, outputs))
}

/// What computes an affine map. No CUDA kernel here gives autograd the gradients of one, but
/// candle's own operations do.
fn affine_backend(kernels: Kernels, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Backend {
    let tracked = [Some(x), Some(weight), bias].into_iter().flatten().any(Tensor::track_op);
    match kernels.backend(&[x], &[weight, bias.unwrap_or(weight)]) {
        Backend::Cuda if tracked => Backend::Composed,
        backend => backend,
    }
}

fn apply(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Gelu>,
) -> Result<Tensor> {
    let wanted = Wanted {
        x: x.track_op(),
        weight: weight.track_op(),
        bias: bias.is_some_and(|bias| bias.track_op()),
    };

    let tracked = wanted.x || wanted.weight || wanted.bias;
    let op = LinearOp { wanted, tracked, activation, before_activation: OnceLock::new() };
    let x = x.contiguous()?;
    let weight = weight.contiguous()?;

    match (bias.map(Tensor::contiguous).transpose()?, tracked) {
        (Some(bias), true) => x.apply_op3(&weight, &bias, op),
        (Some(bias), false) => x.apply_op3_no_bwd(&weight, &bias, &op),
        (None, true) => x.apply_op2(&weight, op),
        (None, false) => x.apply_op2_no_bwd(&weight, &op),
    }
}

/// Which gradients are computed.
#[derive(Clone, Copy)]
struct Wanted {
    x: bool,
    weight: bool,
    bias: bool,
}

struct LinearOp {
    wanted: Wanted,
    tracked: bool,
    activation: Option<Gelu>,
    /// The map before the activation, for the backward pass.
    before_activation: OnceLock<Tensor>,
}

/// (x, weight, bias)
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl LinearOp {
    fn forward(
        &self,
        x: (&[f32], &Layout),
        weight: (&[f32], &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let outputs = weight.1.shape().dims2()?.0;
        let shape = Shape::from(output_dims(x.1.dims(), outputs));
        let (y, activated) = affine(x.0, weight.0, bias, outputs, self.activation);

        if self.activation.is_none() {
            return Ok((CpuStorage::F32(y), shape));
        }
        // Without a backward pass nothing reads it.
        if self.tracked {
            self.before_activation.set(host::tensor(y, shape.clone())?).ok();
        }

        Ok((CpuStorage::F32(activated), shape))
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<Gradients> {
        let kernels = Kernels::Fused;
        let gradient = match (self.activation, self.before_activation.get()) {
            (Some(kind), Some(before)) => kernels.gelu_gradient(before, kind, gradient)?,
            (None, _) => gradient.detach(),
            (Some(_), None) => {
                bail!("linear_gelu: expected a saved activation in the backward pass, got none")
            }
        };

        let mut of_weight = None;
        let mut of_bias = None;
        if self.wanted.bias {
            kernels.linear_bias_gradient(&gradient, &mut of_bias)?;
        }
        if self.wanted.weight {
            kernels.linear_weight_gradient(x, &gradient, &mut of_weight)?;
        }

        let of_x =
            self.wanted.x.then(|| kernels.linear_input_gradient(weight, &gradient)).transpose()?;
        Ok((of_x, of_weight, of_bias))
    }
}

/// The affine map, and GELU of it, (N, out) each; the second is empty where there is no activation.
fn affine(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: usize,
    activation: Option<Gelu>,
) -> (Vec<f32>, Vec<f32>) {
    let inputs = weight.len() / outputs;
    let mut y = match x.len() / inputs {
        ..=few::FEW_ROWS => few::product(x, weight, inputs),
        count => {
            // (N, in) x (in, out)
            let weight = View::new(weight, outputs, inputs, inputs);
            product(View::new(x, count, inputs, inputs), weight.t(), Threads::All)
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

impl CustomOp2 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(
            (host::slice(x, x_layout)?, x_layout),
            (host::slice(w, w_layout)?, w_layout),
            None,
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight, _) = self.backward(x, weight, gradient)?;
        Ok((of_x, of_weight))
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
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
        let weight = host::slice(weight, weight_layout)?;
        let bias = host::slice(bias, bias_layout)?;
        self.forward((host::slice(x, x_layout)?, x_layout), (weight, weight_layout), Some(bias))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients> {
        self.backward(x, weight, gradient)
    }
}

fn add_bias(y: &mut [f32], bias: &[f32]) {
    y.chunks_exact_mut(bias.len()).for_each(|row| rows::add(row, bias));
}
