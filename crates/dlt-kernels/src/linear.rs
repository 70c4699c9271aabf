//! Affine maps, alone and followed by GELU.

use crate::gelu::Gelu;
use crate::matrix::{Threads, View, product};
use crate::shape::{expect_vector, matrix, rows_and_width};
use crate::{Kernels, composed, host, rows};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

impl Kernels {
    /// `x · weightᵀ + bias` over the last dimension.
    ///
    /// The gradient of a weight (or of `x`, or of the bias) that is not tracked is not computed by the fused path.
    ///
    /// # Shapes
    /// `x` (..., in), `weight` (out, in), `bias` (out); returns (..., out).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        check("linear", x, weight, bias)?;
        match self.fuses(&[x, weight, bias.unwrap_or(x)]) {
            true => apply(x, weight, bias, None),
            false => composed::linear(x, weight, bias),
        }
    }

    /// [`Kernels::linear`] followed by [`Kernels::gelu`]. The fused path reads and writes the result once less.
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
        match self.fuses(&[x, weight, bias.unwrap_or(x)]) {
            true => apply(x, weight, bias, Some(kind)),
            false => composed::gelu(&composed::linear(x, weight, bias)?, kind),
        }
    }
}

fn check(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (_, width) = rows_and_width(op, x)?;
    let (outputs, inputs) = matrix(op, "weight", weight)?;
    if inputs != width {
        bail!("{op}: expected weight of shape [{outputs}, {width}], came [{outputs}, {inputs}]")
    }
    bias.map_or(Ok(()), |bias| expect_vector(op, "bias", bias, outputs))
}

fn apply(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Option<Gelu>) -> Result<Tensor> {
    let wanted =
        Wanted { x: x.track_op(), weight: weight.track_op(), bias: bias.is_some_and(|bias| bias.track_op()) };
    let tracked = wanted.x || wanted.weight || wanted.bias;
    let op = Op { wanted, tracked, activation, before_activation: OnceLock::new() };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
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

struct Op {
    wanted: Wanted,
    tracked: bool,
    activation: Option<Gelu>,
    /// What the activation was applied to, for the backward pass.
    before_activation: OnceLock<Vec<f32>>,
}

/// (x, weight, bias)
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Op {
    fn forward(
        &self,
        x: (&[f32], &Layout),
        weight: (&[f32], &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = weight.1.shape().dims2()?;
        let mut dims = x.1.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        let count = x.0.len() / inputs;
        let weight = View::new(weight.0, outputs, inputs, inputs);
        let mut y = product(View::new(x.0, count, inputs, inputs), weight.t(), Threads::All);
        let Some(kind) = self.activation else {
            if let Some(bias) = bias {
                y.par_chunks_mut(rows::per_task(outputs) * outputs).for_each(|y| add_bias(y, bias));
            }
            return Ok((CpuStorage::F32(y), Shape::from(dims)));
        };
        let mut activated = vec![0.0; y.len()];
        let piece = rows::per_task(outputs) * outputs;
        y.par_chunks_mut(piece).zip(activated.par_chunks_mut(piece)).for_each(|(y, activated)| {
            if let Some(bias) = bias {
                add_bias(y, bias);
            }
            kind.forward(y, activated);
        });
        if self.tracked {
            self.before_activation.set(y).ok();
        }
        Ok((CpuStorage::F32(activated), Shape::from(dims)))
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<Gradients> {
        let (outputs, inputs) = weight.dims2()?;
        host::read([x, weight, gradient], |[x_data, weight, gradient]| {
            let before = match (self.activation, self.before_activation.get()) {
                (Some(kind), Some(before)) => {
                    Some(rows::map2(before, gradient, |x, gradient, dx| kind.backward(x, gradient, dx)))
                }
                (None, _) => None,
                (Some(_), None) => {
                    bail!("linear_gelu: expected a saved activation in the backward pass, came none")
                }
            };
            let gradient = before.as_deref().unwrap_or(gradient);
            let count = gradient.len() / outputs;
            let outer = View::new(gradient, count, outputs, outputs);
            let of_bias = match self.wanted.bias {
                true => Some(host::tensor(rows::sum(gradient, outputs), outputs)?),
                false => None,
            };
            let of_weight = match self.wanted.weight {
                true => {
                    let x = View::new(x_data, count, inputs, inputs);
                    Some(host::tensor(product(outer.t(), x, Threads::All), (outputs, inputs))?)
                }
                false => None,
            };
            let of_x = match self.wanted.x {
                true => {
                    let weight = View::new(weight, outputs, inputs, inputs);
                    Some(host::tensor(product(outer, weight, Threads::All), x.shape())?)
                }
                false => None,
            };
            Ok((of_x, of_weight, of_bias))
        })
    }
}

impl CustomOp2 for Op {
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
        self.forward((host::slice(x, x_layout)?, x_layout), (host::slice(w, w_layout)?, w_layout), None)
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

impl CustomOp3 for Op {
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
