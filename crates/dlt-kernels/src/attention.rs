//! Scaled dot-product attention over all heads.

mod head;

use crate::matrix::{Panel, View};
use crate::shape::expect_same;
use crate::{Dropout, Kernels, composed, host};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use head::{Head, Sum};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Which positions a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and everything before it.
    Causal,
    /// Every position.
    Full,
}

impl Kernels {
    /// `softmax(q kᵀ / sqrt(D)) v` for each head.
    ///
    /// The fused path keeps one log-sum-exp for each row and computes the probabilities again in the backward pass:
    /// no T x T matrix for all heads exists at any time. Element (b, h, i, j) of the probabilities takes number
    /// `((b H + h) T + i) T + j` of the dropout stream.
    ///
    /// # Shapes
    /// `qkv` (B, T, 3C): queries, keys, values, each (H, D); returns (B, T, C).
    ///
    /// # Errors
    /// When `qkv` is empty or not of rank 3, or its width is not a multiple of three times `heads`, or the dropout
    /// probability is not in [0, 1).
    pub fn attention(
        self,
        qkv: &Tensor,
        heads: usize,
        mask: Mask,
        dropout: Option<Dropout>,
    ) -> Result<Tensor> {
        let sizes = Sizes::new(qkv, heads)?;
        if let Some(dropout) = dropout {
            dropout.check()?;
        }
        if !self.fuses(&[qkv]) {
            return composed::attention(qkv, heads, mask, dropout);
        }
        let op = Op { heads: Heads { sizes, mask, dropout }, sums: OnceLock::new() };
        match qkv.track_op() {
            true => qkv.contiguous()?.apply_op1(op),
            false => qkv.contiguous()?.apply_op1_no_bwd(&op),
        }
    }

    /// [`Kernels::attention`] without autograd, with the sums that [`Kernels::attention_gradient`] asks for.
    ///
    /// # Shapes
    /// `qkv` (B, T, 3C); returns (B, T, C) and (B, H, T, 2).
    ///
    /// # Errors
    /// As [`Kernels::attention`].
    pub fn attention_and_sums(
        self,
        qkv: &Tensor,
        heads: usize,
        mask: Mask,
        dropout: Option<Dropout>,
    ) -> Result<[Tensor; 2]> {
        let sizes = Sizes::new(qkv, heads)?;
        let (dims, sum_dims) = (sizes.dims(), sizes.sum_dims());
        if !self.fuses(&[qkv]) {
            // Autograd, which the composed gradient is made by, computes them again.
            let sums = Tensor::zeros(sum_dims, qkv.dtype(), qkv.device())?;
            return Ok([self.attention(&qkv.detach(), heads, mask, dropout)?, sums]);
        }
        if let Some(dropout) = dropout {
            dropout.check()?;
        }
        host::read([qkv], |[qkv]| {
            let (out, sums) = Heads { sizes, mask, dropout }.forward(qkv);
            let sums = sums.iter().flat_map(|sum| sum.to_array()).collect();
            Ok([host::tensor(out, dims)?, host::tensor(sums, sum_dims)?])
        })
    }

    /// Gradient of [`Kernels::attention`] with respect to `qkv`, without autograd. `out` and `sums` are what
    /// [`Kernels::attention_and_sums`] gave for the same arguments.
    ///
    /// # Shapes
    /// `qkv` (B, T, 3C), `out` and `gradient` (B, T, C), `sums` (B, H, T, 2); returns (B, T, 3C).
    ///
    /// # Errors
    /// As [`Kernels::attention`], and when another shape does not fit.
    pub fn attention_gradient(
        self,
        qkv: &Tensor,
        [out, sums]: [&Tensor; 2],
        heads: usize,
        mask: Mask,
        dropout: Option<Dropout>,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let sizes = Sizes::new(qkv, heads)?;
        if let Some(dropout) = dropout {
            dropout.check()?;
        }
        expect_same("attention_gradient", "gradient", out, gradient)?;
        if out.dims() != Shape::from(sizes.dims()).dims()
            || sums.dims() != Shape::from(sizes.sum_dims()).dims()
        {
            let (out, sums) = (out.dims(), sums.dims());
            bail!("attention_gradient: expected the result for {:?}, came {out:?} and {sums:?}", qkv.dims())
        }
        if !self.fuses(&[qkv, out, sums, gradient]) {
            let attend = |[qkv]: [&Tensor; 1]| composed::attention(qkv, heads, mask, dropout);
            let [of_qkv] = composed::gradients([qkv], gradient, attend)?;
            return Ok(of_qkv);
        }
        host::read([qkv, out, sums, gradient], |[data, out, sums, gradient]| {
            let sums: Vec<Sum> = sums.as_chunks().0.iter().copied().map(Sum::from_array).collect();
            let of_qkv = Heads { sizes, mask, dropout }.backward(data, out, &sums, gradient);
            host::tensor(of_qkv, qkv.shape())
        })
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    heads: usize,
    head_width: usize,
}

impl Sizes {
    fn new(qkv: &Tensor, heads: usize) -> Result<Self> {
        let (batch, tokens, width) = match *qkv.dims() {
            [batch, tokens, width] => (batch, tokens, width),
            ref other => bail!("attention: expected qkv of shape [batch, tokens, 3 x width], came {other:?}"),
        };
        if heads == 0 || width % (3 * heads) != 0 {
            bail!(
                "attention: expected a last dimension that is a multiple of 3 x {heads} heads, came {width}"
            )
        }
        if batch * tokens * width == 0 {
            bail!("attention: expected a non-empty qkv, came shape {:?}", qkv.dims())
        }
        Ok(Sizes { batch, tokens, heads, head_width: width / (3 * heads) })
    }

    fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// Shape of the result.
    fn dims(self) -> (usize, usize, usize) {
        (self.batch, self.tokens, self.width())
    }

    /// Shape of the sums: two for each row of scores.
    fn sum_dims(self) -> (usize, usize, usize, usize) {
        (self.batch, self.heads, self.tokens, 2)
    }

    /// Rows of scores of all heads.
    fn rows(self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// Columns of one head in part 0, 1 or 2 of a tensor whose rows have `parts` parts.
    fn view(self, data: &[f32], parts: usize, part: usize, index: usize) -> View<'_> {
        let (batch, head) = (index / self.heads, index % self.heads);
        let stride = parts * self.width();
        let start = batch * self.tokens * stride + part * self.width() + head * self.head_width;
        View::new(&data[start..], self.tokens, self.head_width, stride)
    }

    /// Every (batch, head) part of a buffer to write: for each batch, the heads of each part.
    fn panels(self, data: &mut [f32], parts: usize) -> Vec<Panel<'_>> {
        let stride = parts * self.width();
        data.chunks_exact_mut(self.tokens * stride)
            .flat_map(|batch| Panel::new(batch, self.tokens, stride, stride).split(parts * self.heads))
            .collect()
    }
}

/// All heads of all sequences.
#[derive(Clone, Copy)]
struct Heads {
    sizes: Sizes,
    mask: Mask,
    dropout: Option<Dropout>,
}

impl Heads {
    fn head(self, qkv: &[f32], index: usize) -> Head<'_> {
        let Sizes { tokens, head_width, .. } = self.sizes;
        // Each head has its own part of the stream.
        let first = (index * tokens * tokens) as u64;
        Head {
            tokens,
            width: head_width,
            mask: self.mask,
            dropout: self.dropout.map(|d| Dropout { offset: d.offset.wrapping_add(first), ..d }),
            query: self.sizes.view(qkv, 3, 0, index),
            key: self.sizes.view(qkv, 3, 1, index),
            value: self.sizes.view(qkv, 3, 2, index),
        }
    }

    /// The result, and the sums of each row of scores.
    fn forward(self, qkv: &[f32]) -> (Vec<f32>, Vec<Sum>) {
        let Sizes { batch, tokens, .. } = self.sizes;
        let mut out = vec![0.0; batch * tokens * self.sizes.width()];
        let mut sums = vec![Sum::default(); self.sizes.rows()];
        self.sizes
            .panels(&mut out, 1)
            .into_par_iter()
            .zip(sums.par_chunks_mut(tokens))
            .enumerate()
            .for_each(|(index, (mut out, sums))| self.head(qkv, index).forward(&mut out, sums));
        (out, sums)
    }

    /// The gradient of `qkv`.
    fn backward(self, qkv: &[f32], out: &[f32], sums: &[Sum], gradient: &[f32]) -> Vec<f32> {
        let Sizes { batch, tokens, heads, .. } = self.sizes;
        let mut into = vec![0.0; qkv.len()];
        let mut panels: Vec<Option<Panel<'_>>> =
            self.sizes.panels(&mut into, 3).into_iter().map(Some).collect();
        // From (batch, part, head) to one triple for each (batch, head).
        let triples: Vec<[Option<Panel<'_>>; 3]> = (0..batch * heads)
            .map(|index| {
                let first = index / heads * 3 * heads + index % heads;
                [0, 1, 2].map(|part| panels[first + part * heads].take())
            })
            .collect();
        triples.into_par_iter().enumerate().for_each(|(index, triple)| {
            if let [Some(query), Some(key), Some(value)] = triple {
                let outer = head::Outer {
                    out: self.sizes.view(out, 1, 0, index),
                    gradient: self.sizes.view(gradient, 1, 0, index),
                    sums: &sums[index * tokens..][..tokens],
                };
                self.head(qkv, index).backward(&outer, [query, key, value]);
            }
        });
        into
    }
}

struct Op {
    heads: Heads,
    /// For each head and row, what its softmax is computed again from.
    sums: OnceLock<Vec<Sum>>,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, sums) = self.heads.forward(host::slice(storage, layout)?);
        self.sums.set(sums).ok();
        Ok((CpuStorage::F32(out), Shape::from(self.heads.sizes.dims())))
    }

    fn bwd(&self, qkv: &Tensor, out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some(sums) = self.sums.get() else {
            bail!("attention: expected saved sums in the backward pass, came none")
        };
        host::read([qkv, out, gradient], |[data, out, gradient]| {
            host::tensor(self.heads.backward(data, out, sums, gradient), qkv.shape()).map(Some)
        })
    }
}
