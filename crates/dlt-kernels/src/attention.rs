//! Scaled dot-product attention over all heads.

mod blocks;
mod cache;
mod definition;
mod head;
mod sizes;
mod tiled;

use crate::choice::Backend;
use crate::rounding::{rounded, widened};
use crate::shape::expect_same;
use crate::{Dropout, Kernels, composed, cuda, host};
use blocks::{Scope, Sum};
use candle_core::{DType, Result, Shape, Tensor, bail};
use head::{Head, Outer};
use rayon::prelude::*;
use sizes::Group;

pub use cache::KeyValues;
pub(crate) use sizes::Sizes;

/// Which positions a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and everything before it.
    Causal,
    /// Every position.
    Full,
}

/// What attention does with its queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention<'a> {
    /// Query heads: H.
    pub heads: usize,
    /// Heads of keys, and as many of values: G, which divides H. Query head `h` uses key head
    /// `h / (H / G)`.
    pub key_heads: usize,
    /// Which positions a token attends to.
    pub mask: Mask,
    /// How many tokens of each window are real, 1 to T. No token attends to those behind; their own
    /// rows of the result hold what they see of the real tokens.
    pub lengths: Option<&'a [usize]>,
    /// Dropout of the probabilities.
    pub dropout: Option<Dropout>,
}

impl Attention<'_> {
    /// As many key heads as query heads, whole windows, no dropout.
    pub fn new(heads: usize, mask: Mask) -> Self {
        Attention { heads, key_heads: heads, mask, lengths: None, dropout: None }
    }

    fn check_lengths(&self, Sizes { batch, tokens, .. }: Sizes) -> Result<()> {
        let Some(lengths) = self.lengths else { return Ok(()) };
        if lengths.len() != batch {
            bail!(
                "attention: expected a length for each of {batch} windows, got {} lengths",
                lengths.len()
            )
        }

        match lengths.iter().position(|length| !(1..=tokens).contains(length)) {
            Some(window) => bail!(
                "attention: expected lengths of 1 to {tokens} tokens, got {} of window {window}",
                lengths[window]
            ),
            None => Ok(()),
        }
    }
}

impl Kernels {
    /// `softmax(q kᵀ / sqrt(D)) v` for each head.
    ///
    /// The fused loops keep the two numbers of each row's softmax and compute the probabilities
    /// again in the backward pass, so a T x T matrix for all heads never exists. Element (b, h, i,
    /// j) of the probabilities uses number `((b H + h) T + i) T + j` of the dropout stream.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2G) D): H heads of queries, G of keys, G of values; returns (B, T, H D).
    ///
    /// # Errors
    /// When `qkv` is empty or not of rank 3, its width is not a multiple of `H + 2G`, G does not
    /// divide H, there is not one length of 1 to T for each window, or the dropout probability is
    /// not in [0, 1).
    pub fn attention(self, qkv: &Tensor, attention: &Attention<'_>) -> Result<Tensor> {
        let [out, _] = self.attention_and_sums(qkv, attention)?;
        Ok(out)
    }

    /// [`Kernels::attention`] with the sums that [`Kernels::attention_gradient`] needs. For each row
    /// of scores these are the largest score, and one over the sum of the exponentials of `score -
    /// largest`. The composed operations return zeros instead.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2G) D); returns (B, T, H D) and (B, H, T, 2), the latter in f32 where
    /// `qkv` is bf16.
    ///
    /// # Errors
    /// As [`Kernels::attention`].
    pub fn attention_and_sums(
        self,
        qkv: &Tensor,
        attention: &Attention<'_>,
    ) -> Result<[Tensor; 2]> {
        let heads = Heads::new(qkv, attention)?;
        let dims = heads.sizes.dims();
        let sum_dims = heads.sizes.sum_dims();

        match self.backend(&[qkv], &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::attention(&cuda::Launcher, qkv, attention, None),
            Backend::Composed => {
                // The composed gradient is candle's autograd, which computes the sums again. These
                // only have the right shape.
                let sums = Tensor::zeros(sum_dims, qkv.dtype(), qkv.device())?;
                return Ok([definition::attention(qkv, attention)?, sums]);
            }
            Backend::Widened => {
                let [qkv] = widened([qkv])?;
                let [out, sums] = self.attention_and_sums(&qkv, attention)?;
                return Ok([rounded(&out)?, sums]);
            }
        }

        let numbers =
            |sums: Vec<Sum>| sums.iter().flat_map(|sum| sum.to_array()).collect::<Vec<_>>();
        if qkv.dtype() == DType::BF16 {
            return host::read_as([qkv], |[qkv]| {
                let (out, sums) = heads.forward_tiled(qkv);
                Ok([host::tensor(out, dims)?, host::tensor(numbers(sums), sum_dims)?])
            });
        }

        host::read([qkv], |[qkv]| {
            let (out, sums) = heads.forward(qkv);
            Ok([host::tensor(out, dims)?, host::tensor(numbers(sums), sum_dims)?])
        })
    }

    /// Gradient of [`Kernels::attention`] with respect to `qkv`. `out` and `sums` are what
    /// [`Kernels::attention_and_sums`] returned for the same arguments.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2G) D), `out` and `gradient` (B, T, H D), `sums` (B, H, T, 2); returns the
    /// shape of `qkv`.
    ///
    /// # Errors
    /// As [`Kernels::attention`], and when another shape does not fit.
    pub fn attention_gradient(
        self,
        qkv: &Tensor,
        [out, sums]: [&Tensor; 2],
        attention: &Attention<'_>,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let heads = Heads::new(qkv, attention)?;
        expect_same("attention_gradient", "gradient", out, gradient)?;
        if out.dims() != Shape::from(heads.sizes.dims()).dims()
            || sums.dims() != Shape::from(heads.sizes.sum_dims()).dims()
        {
            let out = out.dims();
            let sums = sums.dims();
            bail!(
                "attention_gradient: expected the result for {:?}, got {out:?} and {sums:?}",
                qkv.dims()
            )
        }

        match self.backend(&[qkv, out, gradient], &[sums]) {
            Backend::Host => {}
            Backend::Cuda => {
                let machine = &cuda::Launcher;
                return cuda::attention_gradient(machine, qkv, sums, attention, gradient, None);
            }
            Backend::Composed => {
                let attend = |[qkv]: [&Tensor; 1]| definition::attention(qkv, attention);
                let [of_qkv] = composed::gradients([qkv], gradient, attend)?;
                return Ok(of_qkv);
            }
            Backend::Widened => {
                let [qkv, out, gradient] = widened([qkv, out, gradient])?;
                return rounded(&self.attention_gradient(
                    &qkv,
                    [&out, sums],
                    attention,
                    &gradient,
                )?);
            }
        }

        let sums: Vec<Sum> = host::read([sums], |[sums]| {
            Ok(sums.as_chunks().0.iter().copied().map(Sum::from_array).collect())
        })?;
        if qkv.dtype() == DType::BF16 {
            return host::read_as([qkv, out, gradient], |[data, out, gradient]| {
                host::tensor(heads.backward_tiled(data, out, &sums, gradient), qkv.shape())
            });
        }

        host::read([qkv, out, gradient], |[data, out, gradient]| {
            host::tensor(heads.backward(data, out, &sums, gradient), qkv.shape())
        })
    }
}

/// All heads of all sequences.
struct Heads<'a> {
    sizes: Sizes,
    mask: Mask,
    lengths: Option<&'a [usize]>,
    dropout: Option<Dropout>,
}

impl<'a> Heads<'a> {
    fn new(qkv: &Tensor, attention: &Attention<'a>) -> Result<Self> {
        let &Attention { heads, key_heads, mask, lengths, dropout } = attention;
        let sizes = Sizes::new("attention", qkv, heads, key_heads)?;
        attention.check_lengths(sizes)?;

        if let Some(dropout) = dropout {
            dropout.check()?;
        }

        Ok(Heads { sizes, mask, lengths, dropout })
    }

    fn head<'q>(&self, qkv: &'q [f32], index: usize) -> Head<'q> {
        let Sizes { tokens, heads, key_heads, .. } = self.sizes;
        let batch = index / heads;
        let head = index % heads;
        // Columns of a row of `qkv`: H heads of queries, then G of keys, then G of values.
        let shared = heads + head / self.sizes.group();
        let scope = self.scope(index);
        let view = |column, rows| self.sizes.view(qkv, self.sizes.columns(), [batch, column], rows);

        Head {
            scope,
            query: view(head, tokens),
            key: view(shared, scope.keys),
            value: view(shared + key_heads, scope.keys),
        }
    }

    /// The sizes of a head, and what its rows see.
    fn scope(&self, index: usize) -> Scope {
        let Sizes { tokens, heads, head_width, .. } = self.sizes;
        // Each head has its own part of the stream, T x T numbers.
        let first = (index * tokens * tokens) as u64;

        Scope {
            tokens,
            keys: self.lengths.map_or(tokens, |lengths| lengths[index / heads]),
            before: 0,
            width: head_width,
            mask: self.mask,
            dropout: self.dropout.map(|d| Dropout { offset: d.offset.wrapping_add(first), ..d }),
        }
    }

    /// The result (B, T, H D), and the sums of each row of scores, (B, H, T).
    fn forward(&self, qkv: &[f32]) -> (Vec<f32>, Vec<Sum>) {
        let Sizes { batch, tokens, heads, head_width, .. } = self.sizes;
        let mut out = vec![0.0; batch * tokens * heads * head_width];
        let mut sums = vec![Sum::default(); self.sizes.rows()];

        self.sizes
            .panels(&mut out, heads)
            .into_par_iter()
            .zip(sums.par_chunks_mut(tokens))
            .enumerate()
            .for_each(|(index, (mut out, sums))| self.head(qkv, index).forward(&mut out, sums));

        (out, sums)
    }

    /// The gradient of `qkv`, (B, T, (H + 2G) D).
    fn backward(&self, qkv: &[f32], out: &[f32], sums: &[Sum], gradient: &[f32]) -> Vec<f32> {
        let Sizes { tokens, heads, .. } = self.sizes;
        let mut into = vec![0.0; qkv.len()];

        // A task has a key head with all query heads that use it. With a task for each query head,
        // several would write the same gradients of key and value at a time.
        self.sizes.groups(&mut into).into_par_iter().enumerate().for_each(|(index, group)| {
            let Group { queries, mut key, mut value } = group;
            for (index, mut query) in (index * self.sizes.group()..).zip(queries) {
                let place = [index / heads, index % heads];
                let outer = Outer {
                    out: self.sizes.view(out, heads, place, tokens),
                    gradient: self.sizes.view(gradient, heads, place, tokens),
                    sums: &sums[index * tokens..][..tokens],
                };

                self.head(qkv, index).backward(&outer, [&mut query, &mut key, &mut value]);
            }
        });

        into
    }
}
