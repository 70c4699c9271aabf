//! Every operation as the tests call it: its value, and its gradients by the methods that name them.

use crate::reference::{host, upstream};
use candle_core::{Result, Tensor};
use dlt_kernels::{Attention, Dropout, Gelu, Kernels, Rotary};

pub(crate) const EPSILON: f64 = 1e-5;

/// From the arguments.
type Value<'a> = dyn Fn(Kernels, &[Tensor]) -> Result<Tensor> + 'a;
/// From the arguments and the gradient of the value: the gradient of each argument.
type Gradients<'a> = dyn Fn(Kernels, &[Tensor], &Tensor) -> Result<Vec<Tensor>> + 'a;

/// A differentiable function of tensors.
pub(crate) struct Operation<'a> {
    pub(crate) value: Box<Value<'a>>,
    pub(crate) gradients: Box<Gradients<'a>>,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(
        value: impl Fn(Kernels, &[Tensor]) -> Result<Tensor> + 'a,
        gradients: impl Fn(Kernels, &[Tensor], &Tensor) -> Result<Vec<Tensor>> + 'a,
    ) -> Self {
        Operation { value: Box::new(value), gradients: Box::new(gradients) }
    }

    /// The value, and the gradient of `Σ value · upstream` for each argument.
    pub(crate) fn value_and_gradients(
        &self,
        kernels: Kernels,
        arguments: &[Tensor],
    ) -> (Tensor, Vec<Tensor>) {
        let value = (self.value)(kernels, arguments).unwrap();
        let up = upstream(value.dims(), value.dtype());
        let gradients = (self.gradients)(kernels, arguments, &up).unwrap();
        (value, gradients)
    }
}

/// Of input, weight and, where there is one, bias.
pub(crate) fn linear() -> Operation<'static> {
    Operation::new(|k, t| k.linear(&t[0], &t[1], t.get(2)), affine_gradients)
}

fn affine_gradients(k: Kernels, t: &[Tensor], up: &Tensor) -> Result<Vec<Tensor>> {
    let mut sums = [None, None];
    let mut gradients = vec![k.linear_input_gradient(&t[1], up)?];

    k.linear_weight_gradient(&t[0], up, &mut sums[0])?;
    if t.len() > 2 {
        k.linear_bias_gradient(up, &mut sums[1])?;
    }

    gradients.extend(sums.into_iter().flatten());
    Ok(gradients)
}

pub(crate) fn linear_gelu(kind: Gelu) -> Operation<'static> {
    Operation::new(
        move |k, t| k.linear_gelu(&t[0], &t[1], t.get(2), kind),
        move |k, t, up| {
            let [before, after] = k.linear_then_gelu(&t[0], &t[1], t.get(2), kind)?;
            let alone = k.linear_gelu(&t[0], &t[1], t.get(2), kind)?;

            assert_eq!(host(&after), host(&alone), "with and without the map before");
            affine_gradients(k, t, &k.gelu_gradient(&before, kind, up)?)
        },
    )
}

pub(crate) fn gelu(kind: Gelu) -> Operation<'static> {
    Operation::new(
        move |k, t| k.gelu(&t[0], kind),
        move |k, t, up| Ok(vec![k.gelu_gradient(&t[0], kind, up)?]),
    )
}

pub(crate) fn swiglu() -> Operation<'static> {
    Operation::new(|k, t| k.swiglu(&t[0]), |k, t, up| Ok(vec![k.swiglu_gradient(&t[0], up)?]))
}

/// Of input, weight and bias.
pub(crate) fn layer_norm() -> Operation<'static> {
    Operation::new(
        |k, t| k.layer_norm(&t[0], &t[1], &t[2], EPSILON),
        |k, t, up| {
            let mut weight = None;
            let mut bias = None;
            let sums = Some([&mut weight, &mut bias]);
            let of_x = k.layer_norm_gradient(&t[0], &t[1], EPSILON, up, sums)?;
            let alone = k.layer_norm_gradient(&t[0], &t[1], EPSILON, up, None)?;

            assert_eq!(host(&of_x), host(&alone), "with and without sums");
            Ok(vec![of_x, weight.unwrap(), bias.unwrap()])
        },
    )
}

/// Of input and weight.
pub(crate) fn rms_norm() -> Operation<'static> {
    Operation::new(
        |k, t| k.rms_norm(&t[0], &t[1], EPSILON),
        |k, t, up| {
            let mut weight = None;
            let of_x = k.rms_norm_gradient(&t[0], &t[1], EPSILON, up, Some(&mut weight))?;
            let alone = k.rms_norm_gradient(&t[0], &t[1], EPSILON, up, None)?;

            assert_eq!(host(&of_x), host(&alone), "with and without a sum");
            Ok(vec![of_x, weight.unwrap()])
        },
    )
}

pub(crate) fn dropout(dropout: Dropout) -> Operation<'static> {
    Operation::new(
        move |k, t| k.dropout(&t[0], dropout),
        move |k, _, up| Ok(vec![k.dropout(up, dropout)?]),
    )
}

pub(crate) fn rotate<'a>(heads: usize, rotary: &'a Rotary, first: &'a [usize]) -> Operation<'a> {
    Operation::new(
        move |k, t| k.rotate(&t[0], heads, rotary, first),
        move |k, _, up| Ok(vec![k.rotate_gradient(up, heads, rotary, first)?]),
    )
}

pub(crate) fn attention<'a>(attention: &'a Attention<'a>) -> Operation<'a> {
    Operation::new(
        |k, t| k.attention(&t[0], attention),
        |k, t, up| {
            let [out, sums] = k.attention_and_sums(&t[0], attention)?;
            let alone = k.attention(&t[0], attention)?;

            assert_eq!(host(&out), host(&alone), "with and without sums");
            Ok(vec![k.attention_gradient(&t[0], [&out, &sums], attention, up)?])
        },
    )
}

/// Of the table.
pub(crate) fn embedding(ids: &Tensor) -> Operation<'_> {
    Operation::new(
        |k, t| k.embedding(&t[0], ids),
        |k, t, up| {
            let sum = Tensor::zeros(t[0].dims(), t[0].dtype(), t[0].device())?;
            k.embedding_gradient(&sum, ids, up)?;
            Ok(vec![sum])
        },
    )
}

/// Of input and table.
pub(crate) fn add_rows() -> Operation<'static> {
    Operation::new(
        |k, t| k.add_rows(&t[0], &t[1]),
        |k, t, up| {
            let sum = Tensor::zeros(t[1].dims(), t[1].dtype(), t[1].device())?;
            k.add_rows_gradient(up, &sum)?;
            Ok(vec![up.clone(), sum])
        },
    )
}
