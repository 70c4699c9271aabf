//! The definition of every operation in candle's own operations: the reference of the tests, and the path on other
//! devices and dtypes.

use crate::optimizer::AdamwStep;
use crate::{Dropout, Gelu, HeadGradients, Mask};
use candle_core::{D, DType, Result, Tensor, Var, bail};

/// Rows of logits that exist at a time.
const CHUNK_ROWS: usize = 256;

pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    // Contiguous and flat, because candle's matrix product misreads some strided batches.
    let flat = x.contiguous()?.reshape(((), inputs))?;
    let mut y = flat.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    y.reshape(dims)
}

pub(crate) fn linear_input_gradient(weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = gradient.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = inputs;
    }
    let gradient = gradient.detach().contiguous()?.reshape(((), outputs))?;
    gradient.matmul(&weight.detach().contiguous()?)?.reshape(dims)
}

pub(crate) fn linear_weight_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let flat = |tensor: &Tensor| tensor.detach().contiguous()?.flatten_to(D::Minus2);
    flat(gradient)?.t()?.contiguous()?.matmul(&flat(x)?)
}

/// The sum of rows of `width`.
pub(crate) fn row_sum(x: &Tensor, width: usize) -> Result<Tensor> {
    x.detach().contiguous()?.reshape(((), width))?.sum(0)
}

/// Gradients of `Σ f(inputs) ∘ gradient`, by candle's autograd.
pub(crate) fn gradients<const N: usize>(
    inputs: [&Tensor; N],
    gradient: &Tensor,
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<[Tensor; N]> {
    let mut leaves = Vec::with_capacity(N);
    for input in inputs {
        leaves.push(Var::from_tensor(&input.detach().contiguous()?)?);
    }
    let y = f(std::array::from_fn(|i| leaves[i].as_tensor()))?;
    let mut store = (y * gradient.detach())?.sum_all()?.backward()?;
    let mut found = Vec::with_capacity(N);
    for leaf in &leaves {
        match store.remove(leaf) {
            Some(gradient) => found.push(gradient.detach()),
            None => found.push(leaf.zeros_like()?),
        }
    }
    Ok(std::array::from_fn(|i| found[i].clone()))
}

pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

pub(crate) fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
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

pub(crate) fn attention(qkv: &Tensor, heads: usize, mask: Mask, dropout: Option<Dropout>) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    let (width, head) = (width / 3, width / 3 / heads);
    let qkv = qkv.contiguous()?;
    let part = |i: usize| {
        qkv.narrow(2, i * width, width)?.reshape((batch, tokens, heads, head))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let mut scores = q.matmul(&k.t()?)?.affine(1.0 / (head as f64).sqrt(), 0.0)?;
    if mask == Mask::Causal {
        let bias: Vec<f32> = (0..tokens * tokens)
            .map(|at| if at % tokens > at / tokens { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let bias = Tensor::from_vec(bias, (tokens, tokens), qkv.device())?.to_dtype(qkv.dtype())?;
        scores = scores.broadcast_add(&bias)?;
    }
    let mut p = softmax(&scores)?;
    if let Some(dropout) = dropout {
        p = self::dropout(&p, dropout)?;
    }
    p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, width))
}

pub(crate) fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(table.dim(1)?);
    table.contiguous()?.index_select(&ids.flatten_all()?.contiguous()?, 0)?.reshape(dims)
}

pub(crate) fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    let factors = dropout.factors(x.shape(), x.device())?.to_dtype(x.dtype())?;
    x.contiguous()? * factors
}

pub(crate) fn cross_entropy(
    hidden: &Tensor,
    table: &Tensor,
    targets: &Tensor,
    scale: f64,
    table_into: Option<&Tensor>,
) -> Result<HeadGradients> {
    let (rows, _) = hidden.dims2()?;
    let table_gradient = match table_into {
        Some(into) => into.clone(),
        None => table.zeros_like()?,
    };
    let (mut loss_sum, mut hidden_gradients) = (0.0, Vec::new());
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(rows - start);
        let hidden = Var::from_tensor(&hidden.detach().narrow(0, start, length)?.copy()?)?;
        let table = Var::from_tensor(&table.detach())?;
        let loss = chunk_loss(&hidden, &table, &targets.narrow(0, start, length)?)?;
        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let mut gradients = (loss * scale)?.backward()?;
        match (gradients.remove(&hidden), gradients.remove(&table)) {
            (Some(of_hidden), Some(of_table)) => {
                hidden_gradients.push(of_hidden.detach());
                add_in_place(&table_gradient, &of_table.detach())?;
            }
            _ => bail!("cross_entropy: expected a gradient of each argument, came none"),
        }
    }
    Ok(HeadGradients { loss_sum, hidden: Tensor::cat(&hidden_gradients, 0)?, table: table_gradient })
}

pub(crate) fn cross_entropy_sum(hidden: &Tensor, table: &Tensor, targets: &Tensor) -> Result<f64> {
    let (rows, _) = hidden.dims2()?;
    let mut loss_sum = 0.0;
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(rows - start);
        let hidden = hidden.detach().narrow(0, start, length)?;
        let loss = chunk_loss(&hidden, &table.detach(), &targets.narrow(0, start, length)?)?;
        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(loss_sum)
}

fn chunk_loss(hidden: &Tensor, table: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let logits = hidden.contiguous()?.matmul(&table.t()?)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    let targets = targets.contiguous()?.unsqueeze(1)?;
    (log_sum - shifted.gather(&targets, 1)?)?.sum_all()
}

pub(crate) fn adamw(
    parameter: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    step: &AdamwStep,
) -> Result<()> {
    let gradient = gradient.detach().affine(step.gradient_scale, 0.0)?;
    let count = step.step as f64;
    let new_first = (first.detach().affine(step.beta1, 0.0)? + gradient.affine(1.0 - step.beta1, 0.0)?)?;
    let new_second =
        (second.detach().affine(step.beta2, 0.0)? + gradient.sqr()?.affine(1.0 - step.beta2, 0.0)?)?;
    let correction = (1.0 - step.beta2.powf(count)).sqrt();
    let denominator = (new_second.sqrt()?.affine(1.0 / correction, 0.0)? + step.epsilon)?;
    let rate = step.learning_rate / (1.0 - step.beta1.powf(count));
    let decayed = parameter.detach().affine(1.0 - step.learning_rate * step.weight_decay, 0.0)?;
    overwrite(first, &new_first)?;
    overwrite(second, &new_second)?;
    overwrite(parameter, &(decayed - (new_first / denominator)?.affine(rate, 0.0)?)?)
}

pub(crate) fn squared_norm(tensor: &Tensor) -> Result<f64> {
    if tensor.elem_count() == 0 {
        return Ok(0.0);
    }
    tensor.detach().to_dtype(DType::F64)?.flatten_all()?.sqr()?.sum_all()?.to_scalar()
}

pub(crate) fn add_in_place(into: &Tensor, other: &Tensor) -> Result<()> {
    overwrite(into, &(into.detach() + other.detach())?)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Copies `value` into the memory of `into`.
fn overwrite(into: &Tensor, value: &Tensor) -> Result<()> {
    if !into.is_contiguous() {
        bail!("expected a contiguous tensor to write to, came strides {:?}", into.stride())
    }
    // A flat view of a contiguous tensor shares its memory.
    into.detach().flatten_all()?.slice_set(&value.flatten_all()?.contiguous()?, 0, 0)
}
