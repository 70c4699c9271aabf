//! Attention over whole windows or over a cache, in candle's own operations.

use super::{Attention, Mask, Sizes};
use crate::dropout;
use candle_core::{D, Result, Shape, Tensor};

pub(super) fn attention(qkv: &Tensor, attention: &Attention<'_>) -> Result<Tensor> {
    let &Attention { heads, key_heads, mask, lengths, .. } = attention;
    let (batch, tokens, width) = qkv.dims3()?;
    let head = width / (heads + 2 * key_heads);
    let qkv = qkv.contiguous()?;

    // (B, heads, T, D)
    let part = |first: usize, heads: usize| {
        qkv.narrow(2, first * head, heads * head)?
            .reshape((batch, tokens, heads, head))?
            .transpose(1, 2)?
            .contiguous()
    };

    let q = part(0, heads)?;
    let k = repeated(&part(heads, key_heads)?, heads)?;
    let v = repeated(&part(heads + key_heads, key_heads)?, heads)?;

    // (B, H, T, T)
    let mut scores = q.matmul(&k.t()?)?.affine(1.0 / (head as f64).sqrt(), 0.0)?;

    if mask == Mask::Causal {
        scores = hide(&scores, (tokens, tokens), |at| at % tokens > at / tokens)?;
    }
    if let Some(lengths) = lengths {
        scores = hide(&scores, (batch, 1, 1, tokens), |at| at % tokens >= lengths[at / tokens])?;
    }

    let mut p = softmax(&scores)?;
    if let Some(chosen) = attention.dropout {
        p = dropout::definition(&p, chosen)?;
    }

    // (B, H, T, D) to (B, T, H D)
    p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, heads * head))
}

/// New tokens of each of `sequences` after the `filled` ones of a cache: `keys` (R, G, D, capacity)
/// and `values` (R, G, capacity, D).
pub(super) fn attend_cached(
    qkv: &Tensor,
    [keys, values]: [&Tensor; 2],
    sequences: &[usize],
    filled: &[usize],
    sizes: Sizes,
) -> Result<Tensor> {
    let Sizes { tokens, heads, key_heads, head_width, .. } = sizes;
    let qkv = qkv.detach().contiguous()?;
    let mut results = Vec::with_capacity(sequences.len());

    for (at, &sequence) in sequences.iter().enumerate() {
        // (1, heads, T, D)
        let part = |first: usize, heads: usize| {
            qkv.narrow(0, at, 1)?
                .narrow(2, first * head_width, heads * head_width)?
                .reshape((1, tokens, heads, head_width))?
                .transpose(1, 2)
        };

        let keys = keys.narrow(0, sequence, 1)?;
        let values = values.narrow(0, sequence, 1)?;
        let held = filled[sequence];
        let seen = held + tokens;

        // Keys (1, G, D, T), behind those that are held; values (1, G, T, D).
        keys.slice_set(&part(heads, key_heads)?.t()?.contiguous()?, 3, held)?;
        values.slice_set(&part(heads + key_heads, key_heads)?.contiguous()?, 2, held)?;

        let keys = repeated(&keys.narrow(3, 0, seen)?.contiguous()?, heads)?;
        let values = repeated(&values.narrow(2, 0, seen)?.contiguous()?, heads)?;
        // (1, H, T, seen)
        let scores = part(0, heads)?.contiguous()?.matmul(&keys)?;
        let scores = scores.affine(1.0 / (head_width as f64).sqrt(), 0.0)?;
        let scores = hide(&scores, (tokens, seen), |at| at % seen > held + at / seen)?;

        results.push(softmax(&scores)?.matmul(&values)?.transpose(1, 2)?.contiguous()?);
    }

    Tensor::cat(&results, 0)?.reshape(sizes.dims())
}

/// Each key head as often as query heads use it: (B, G, ...) becomes (B, H, ...).
fn repeated(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, key_heads, rows, columns) = x.dims4()?;
    if key_heads == heads {
        return Ok(x.clone());
    }

    // (B, G, 1, ...) to (B, G, H/G, ...): the query heads of a key head are adjacent.
    x.unsqueeze(2)?
        .broadcast_as((batch, key_heads, heads / key_heads, rows, columns))?
        .reshape((batch, heads, rows, columns))
}

/// Sets scores to minus infinity where `hidden` is true. It gets the index of an element in a
/// tensor of `shape`, which is broadcast to the shape of the scores.
fn hide(
    scores: &Tensor,
    shape: impl Into<Shape>,
    hidden: impl Fn(usize) -> bool,
) -> Result<Tensor> {
    let shape = shape.into();
    let bias: Vec<f32> = (0..shape.elem_count())
        .map(|at| if hidden(at) { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let bias = Tensor::from_vec(bias, shape, scores.device())?.to_dtype(scores.dtype())?;

    scores.broadcast_add(&bias)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}
