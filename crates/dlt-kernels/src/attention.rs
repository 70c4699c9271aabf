//! Scaled dot-product attention over all heads.

mod head;

use crate::matrix::{Panel, View};
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
        let op = Op { sizes, mask, dropout, sums: OnceLock::new() };
        match qkv.track_op() {
            true => qkv.contiguous()?.apply_op1(op),
            false => qkv.contiguous()?.apply_op1_no_bwd(&op),
        }
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

struct Op {
    sizes: Sizes,
    mask: Mask,
    dropout: Option<Dropout>,
    /// For each head and row, the log-sum-exp of its scores.
    sums: OnceLock<Vec<Sum>>,
}

impl Op {
    fn head<'a>(&self, qkv: &'a [f32], index: usize) -> Head<'a> {
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
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = host::slice(storage, layout)?;
        let Sizes { batch, tokens, heads, .. } = self.sizes;
        let mut out = vec![0.0; batch * tokens * self.sizes.width()];
        let mut sums = vec![Sum::default(); batch * heads * tokens];
        self.sizes
            .panels(&mut out, 1)
            .into_par_iter()
            .zip(sums.par_chunks_mut(tokens))
            .enumerate()
            .for_each(|(index, (mut out, sums))| self.head(qkv, index).forward(&mut out, sums));
        self.sums.set(sums).ok();
        Ok((CpuStorage::F32(out), Shape::from((batch, tokens, self.sizes.width()))))
    }

    fn bwd(&self, qkv: &Tensor, out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some(sums) = self.sums.get() else {
            bail!("attention: expected saved log-sum-exps in the backward pass, came none")
        };
        let Sizes { tokens, heads, .. } = self.sizes;
        host::read([qkv, out, gradient], |[data, out, gradient]| {
            let mut into = vec![0.0; data.len()];
            let mut panels: Vec<Option<Panel<'_>>> =
                self.sizes.panels(&mut into, 3).into_iter().map(Some).collect();
            // From (batch, part, head) to one triple for each (batch, head).
            let triples: Vec<[Option<Panel<'_>>; 3]> = (0..self.sizes.batch * heads)
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
                    self.head(data, index).backward(&outer, [query, key, value]);
                }
            });
            host::tensor(into, qkv.shape()).map(Some)
        })
    }
}
