//! The definition of every operation in candle's own operations. It is the reference of the tests,
//! and what runs on other devices and dtypes.

mod attention;

pub(crate) use attention::{attend_cached, attention};

use crate::optimizer::AdamwStep;
use crate::rotary::Turns;
use crate::sketch::{SKETCH_WIDTH, Stream, tables};
use crate::{Dropout, Gelu, HeadGradients, HeadSums, Projection};
use candle_core::{D, DType, Result, Tensor, Var, bail};

/// Rows of logits that exist at a time.
const CHUNK_ROWS: usize = 256;

pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();

    // (N, in): contiguous and flat, because candle's matrix product misreads some strided batches.
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

    // (N, out) x (out, in)
    let gradient = gradient.detach().contiguous()?.reshape(((), outputs))?;
    gradient.matmul(&weight.detach().contiguous()?)?.reshape(dims)
}

pub(crate) fn linear_weight_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    // (out, N) x (N, in)
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

    // candle starts a backward pass from a scalar: this one has `gradient` as the gradient of y.
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

pub(crate) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&size)?.broadcast_mul(weight)
}

pub(crate) fn swiglu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let half = x.dim(D::Minus1)? / 2;
    let gate = x.narrow(D::Minus1, 0, half)?.silu()?;
    gate * x.narrow(D::Minus1, half, half)?
}

pub(crate) fn rotate(x: &Tensor, turns: &Turns) -> Result<Tensor> {
    let &Turns { batch, tokens, width, heads, half, .. } = turns;
    let x = x.contiguous()?;
    let turned = heads * 2 * half;

    // (B, T, 1, D/2), for all heads of a row.
    let table = |which: usize| {
        let rows =
            (0..batch).map(|window| turns.of_window(window)[which]).collect::<Vec<_>>().concat();
        Tensor::from_vec(rows, (batch, tokens, 1, half), x.device())?.to_dtype(x.dtype())
    };

    let cosine = table(0)?;
    let sine = table(1)?;

    // (B, T, heads, D)
    let pairs = x.narrow(2, 0, turned)?.reshape((batch, tokens, heads, 2 * half))?;
    let a = pairs.narrow(3, 0, half)?;
    let b = pairs.narrow(3, half, half)?;

    let into_a = (a.broadcast_mul(&cosine)? - b.broadcast_mul(&sine)?)?;
    let into_b = (b.broadcast_mul(&cosine)? + a.broadcast_mul(&sine)?)?;
    let turned_part = Tensor::cat(&[into_a, into_b], 3)?.reshape((batch, tokens, turned))?;

    match width - turned {
        0 => Ok(turned_part),
        rest => Tensor::cat(&[turned_part, x.narrow(2, turned, rest)?], 2),
    }
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
    projection: Projection<'_>,
    targets: &Tensor,
    scale: f64,
    sums: HeadSums<'_>,
) -> Result<HeadGradients> {
    let sum = |into: Option<&Tensor>, of: &Tensor| {
        into.map_or_else(|| of.zeros_like(), |into| Ok(into.clone()))
    };
    let table_sum = sum(sums.table, projection.table)?;
    let bias_sum = projection.bias.map(|bias| sum(sums.bias, bias)).transpose()?;
    let variable = |tensor: &Tensor| Var::from_tensor(&tensor.detach().contiguous()?);

    let mut loss_sum = 0.0;
    let mut of_hidden = Vec::new();

    for start in (0..hidden.dim(0)?).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(hidden.dim(0)? - start);
        // Leaves of this chunk alone, so that its graph is dropped with it.
        let hidden = variable(&hidden.narrow(0, start, length)?)?;
        let table = variable(projection.table)?;
        let bias = projection.bias.map(variable).transpose()?;
        let leaves = Projection { table: &table, bias: bias.as_deref() };
        let loss = chunk_loss(&hidden, leaves, &targets.narrow(0, start, length)?)?;

        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let mut gradients = (loss * scale)?.backward()?;
        let mut take = |leaf: &Tensor| match gradients.remove(leaf) {
            Some(gradient) => Ok(gradient.detach()),
            None => bail!("cross_entropy: expected a gradient of each argument, got none"),
        };

        of_hidden.push(take(&hidden)?);
        add_in_place(&table_sum, &take(&table)?)?;

        if let (Some(bias_sum), Some(bias)) = (&bias_sum, &bias) {
            add_in_place(bias_sum, &take(bias)?)?;
        }
    }

    Ok(HeadGradients {
        loss_sum,
        hidden: Tensor::cat(&of_hidden, 0)?,
        table: table_sum,
        bias: bias_sum,
    })
}

pub(crate) fn cross_entropy_sum(
    hidden: &Tensor,
    projection: Projection<'_>,
    targets: &Tensor,
) -> Result<f64> {
    let (rows, _) = hidden.dims2()?;
    let table = projection.table.detach();
    let bias = projection.bias.map(Tensor::detach);
    let mut loss_sum = 0.0;

    for start in (0..rows).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(rows - start);
        let hidden = hidden.detach().narrow(0, start, length)?;
        let projection = Projection { table: &table, bias: bias.as_ref() };
        let loss = chunk_loss(&hidden, projection, &targets.narrow(0, start, length)?)?;

        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }

    Ok(loss_sum)
}

fn chunk_loss(hidden: &Tensor, projection: Projection<'_>, targets: &Tensor) -> Result<Tensor> {
    let mut logits = hidden.contiguous()?.matmul(&projection.table.t()?)?;
    if let Some(bias) = projection.bias {
        logits = logits.broadcast_add(bias)?;
    }

    // Detached: the loss does not depend on the shift, so no gradient goes through it.
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
    let new_first =
        (first.detach().affine(step.beta1, 0.0)? + gradient.affine(1.0 - step.beta1, 0.0)?)?;
    let new_second = (second.detach().affine(step.beta2, 0.0)?
        + gradient.sqr()?.affine(1.0 - step.beta2, 0.0)?)?;

    // The moments start from zero and are too small at first; both corrections undo that.
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

pub(crate) fn sketch(tensors: &[&Tensor], seed: u64) -> Result<Tensor> {
    let mut sketch = Tensor::zeros(SKETCH_WIDTH, DType::F64, tensors[0].device())?;
    for (number, x) in tensors.iter().enumerate().filter(|(_, x)| x.elem_count() > 0) {
        let (places, signs) = tables(Stream::of(seed, number), x.elem_count());
        let shape = (signs.len() / SKETCH_WIDTH, SKETCH_WIDTH);
        let signs = Tensor::from_vec(signs, shape, x.device())?;
        let places = Tensor::from_vec(places, shape, x.device())?;
        let x = x.detach().flatten_all()?.to_dtype(DType::F64)?;
        // (chunks, SKETCH_WIDTH), as are places and signs.
        let chunks = x.pad_with_zeros(0, 0, signs.elem_count() - x.elem_count())?.reshape(shape)?;

        sketch = (sketch + (chunks.gather(&places, 1)? * signs)?.sum(0)?)?;
    }

    Ok(sketch)
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
        bail!("expected a contiguous tensor to write to, got strides {:?}", into.stride())
    }

    // A flat view of a contiguous tensor shares its memory.
    into.detach().flatten_all()?.slice_set(&value.flatten_all()?.contiguous()?, 0, 0)
}
