//! Attention over the cached keys and values of earlier tokens, for generation.

use super::blocks::{Scope, Sum};
use super::head::Head;
use super::{Mask, Sizes, definition};
use crate::choice::Backend;
use crate::lanes::{exp_and_sum, largest, vectorised};
use crate::matrix::View;
use crate::rounding::{rounded, widened};
use crate::{Kernels, host, rows};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// From this many new tokens of a sequence on, matrix products are worth the copy of the keys that
/// they need. Fewer tokens are handled one by one.
const MANY_TOKENS: usize = 16;

/// Keys and values of the tokens so far of `R` sequences, for one layer.
///
/// The memory for `capacity` tokens of each sequence is allocated at once: `2 R G D capacity`
/// elements.
#[derive(Debug)]
pub struct KeyValues {
    /// (R, G, D, capacity): transposed, so that the scores of a query with all keys are adjacent.
    keys: Tensor,
    /// (R, G, capacity, D).
    values: Tensor,
    filled: Vec<usize>,
    capacity: usize,
    key_heads: usize,
    head_width: usize,
}

impl KeyValues {
    /// An empty cache for `sequences` sequences of at most `capacity` tokens each.
    ///
    /// # Errors
    /// When one of the numbers is zero, or the device has too little memory.
    pub fn new(
        sequences: usize,
        capacity: usize,
        key_heads: usize,
        head_width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let dims = (sequences, key_heads, head_width, capacity);
        if sequences == 0 || capacity == 0 || key_heads == 0 || head_width == 0 {
            bail!(
                "key_values: expected sequences, key heads, a width and a capacity above zero, \
                 got {dims:?}"
            )
        }

        Ok(KeyValues {
            keys: Tensor::zeros(dims, dtype, device)?,
            values: Tensor::zeros((sequences, key_heads, capacity, head_width), dtype, device)?,
            filled: vec![0; sequences],
            capacity,
            key_heads,
            head_width,
        })
    }

    /// Tokens that the cache holds of a sequence; 0 where there is no such sequence.
    pub fn filled(&self, sequence: usize) -> usize {
        self.filled.get(sequence).copied().unwrap_or(0)
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.filled.len()
    }

    /// The most tokens that each sequence can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `tokens` of a sequence.
    ///
    /// # Errors
    /// When there is no such sequence, or it holds fewer tokens.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) -> Result<()> {
        self.check_sequence("truncate", sequence)?;
        let filled = &mut self.filled[sequence];
        if tokens > *filled {
            bail!(
                "truncate: expected at most the {filled} tokens of sequence {sequence}, got {tokens}"
            )
        }

        *filled = tokens;
        Ok(())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.filled.fill(0);
    }

    fn check_sequence(&self, op: &str, sequence: usize) -> Result<()> {
        if sequence >= self.filled.len() {
            bail!("{op}: expected a sequence below {}, got {sequence}", self.filled.len())
        }
        Ok(())
    }

    /// Refuses tokens that cannot be appended. Everything is checked before anything is written.
    fn check(&self, qkv: &Tensor, sequences: &[usize], heads: usize) -> Result<Sizes> {
        let sizes = Sizes::new("attend_cached", qkv, heads, self.key_heads)?;
        if sizes.head_width != self.head_width {
            bail!(
                "attend_cached: expected heads of width {} as in the cache, got {}",
                self.head_width,
                sizes.head_width
            )
        }

        let dtype = self.keys.dtype();
        let device = self.keys.device();

        // A cache of f32 holds numbers of bf16 exactly.
        let is_held = qkv.dtype() == dtype || (qkv.dtype(), dtype) == (DType::BF16, DType::F32);
        if !is_held || !qkv.device().same_device(device) {
            let got = qkv.dtype();
            let got_device = qkv.device().location();
            bail!(
                "attend_cached: expected {dtype:?} on {:?} as in the cache, \
                 got {got:?} on {got_device:?}",
                device.location()
            )
        }

        if sequences.len() != sizes.batch {
            bail!(
                "attend_cached: expected a sequence for each of {} windows, got {sequences:?}",
                sizes.batch
            )
        }

        let mut named = vec![false; self.filled.len()];
        for &sequence in sequences {
            self.check_sequence("attend_cached", sequence)?;
            if std::mem::replace(&mut named[sequence], true) {
                bail!("attend_cached: expected distinct sequences, got {sequence} twice")
            }

            let held = self.filled[sequence];
            let need = self.filled[sequence].saturating_add(sizes.tokens);
            if need > self.capacity {
                bail!(
                    "attend_cached: expected at most {} tokens, the capacity, \
                     got {need} of sequence {sequence}: {held} held and {} new",
                    self.capacity,
                    sizes.tokens
                )
            }
        }

        Ok(sizes)
    }
}

impl Kernels {
    /// Appends the keys and values of T new tokens to each of N sequences, then attends. A new
    /// token sees all earlier tokens of its sequence, and the new ones up to itself.
    ///
    /// The result is what [`Kernels::attention`] with [`Mask::Causal`] gives for these tokens of
    /// whole sequences. A cache of f32 accepts new tokens of bf16 too: they are widened, and the
    /// result is rounded. After an error the cache holds what it held before.
    ///
    /// # Shapes
    /// `qkv` (N, T, (H + 2G) D): H heads of queries, G of keys, G of values; returns (N, T, H D).
    ///
    /// # Errors
    /// When `qkv` is empty, its shape, dtype or device does not fit the cache, `sequences` are not
    /// N distinct sequences of the cache, or one has no room for T tokens.
    pub fn attend_cached(
        self,
        qkv: &Tensor,
        cache: &mut KeyValues,
        sequences: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let sizes = cache.check(qkv, sequences, heads)?;
        if qkv.dtype() != cache.keys.dtype() {
            let [qkv] = widened([qkv])?;
            return rounded(&self.attend_cached(&qkv, cache, sequences, heads)?);
        }

        let KeyValues { keys, values, filled, .. } = &*cache;
        let out = match self.backend(&[qkv], &[keys]) {
            Backend::Host => host::read([qkv], |[qkv]| {
                host::write(keys, |keys| {
                    host::write(values, |values| {
                        let capacity = cache.capacity;
                        let step = Step { sizes, capacity, qkv, sequences, filled };
                        step.append(keys, values);
                        host::tensor(step.attend(keys, values), sizes.dims())
                    })
                })
            })?,
            _ => definition::attend_cached(qkv, [keys, values], sequences, filled, sizes)?,
        };

        // Last, so that after an error the new rows are behind the end and nothing sees them.
        for &sequence in sequences {
            cache.filled[sequence] += sizes.tokens;
        }

        Ok(out)
    }
}

/// New tokens of some sequences, on the host.
struct Step<'a> {
    sizes: Sizes,
    capacity: usize,
    qkv: &'a [f32],
    sequences: &'a [usize],
    /// For every sequence of the cache, the tokens that it holds before this step.
    filled: &'a [usize],
}

impl Step<'_> {
    /// Elements of one head of keys or of values.
    fn head_elements(&self) -> usize {
        self.sizes.head_width * self.capacity
    }

    fn view(&self, window: usize, column: usize) -> View<'_> {
        self.sizes.view(self.qkv, self.sizes.columns(), [window, column], self.sizes.tokens)
    }

    fn append(&self, keys: &mut [f32], values: &mut [f32]) {
        let Sizes { tokens, heads, key_heads, head_width, .. } = self.sizes;

        // The buffers below are split by sequence, so each needs the window that extends it.
        let mut windows = vec![None; self.filled.len()];
        for (window, &sequence) in self.sequences.iter().enumerate() {
            windows[sequence] = Some(window);
        }

        keys.par_chunks_mut(self.head_elements())
            .zip(values.par_chunks_mut(self.head_elements()))
            .with_min_len(rows::per_task(tokens * head_width))
            .enumerate()
            .for_each(|(index, (keys, values))| {
                let sequence = index / key_heads;
                let key_head = index % key_heads;
                let Some(window) = windows[sequence] else { return };
                let held = self.filled[sequence];
                // (D, T), into columns of (D, capacity).
                let new = self.view(window, heads + key_head).transposed();

                for (into, new) in
                    keys.chunks_exact_mut(self.capacity).zip(new.chunks_exact(tokens))
                {
                    into[held..held + tokens].copy_from_slice(new);
                }

                // (T, D), into rows of (capacity, D).
                let new = self.view(window, heads + key_heads + key_head);
                for (row, into) in
                    values.chunks_exact_mut(head_width).skip(held).take(tokens).enumerate()
                {
                    into.copy_from_slice(new.row(row));
                }
            });
    }

    /// The result (N, T, H D), from keys and values that include the new tokens.
    fn attend(&self, keys: &[f32], values: &[f32]) -> Vec<f32> {
        let Sizes { batch, tokens, heads, key_heads, head_width } = self.sizes;
        let most = self
            .sequences
            .iter()
            .map(|&sequence| self.filled[sequence] + tokens)
            .max()
            .unwrap_or(0);

        let mut out = vec![0.0; batch * tokens * heads * head_width];
        self.sizes
            .panels(&mut out, heads)
            .into_par_iter()
            .with_min_len(rows::per_task(tokens * most * head_width))
            .enumerate()
            .for_each_init(Vec::new, |scores, (index, mut out)| {
                let window = index / heads;
                let head = index % heads;
                let sequence = self.sequences[window];
                let shared = sequence * key_heads + head / self.sizes.group();

                let held = Held {
                    keys: &keys[shared * self.head_elements()..][..self.head_elements()],
                    values: &values[shared * self.head_elements()..][..self.head_elements()],
                    capacity: self.capacity,
                    before: self.filled[sequence],
                };

                let query = self.view(window, head);
                if tokens >= MANY_TOKENS {
                    let mut sums = vec![Sum::default(); tokens];
                    held.head(query, tokens, head_width).forward(&mut out, &mut sums);
                    return;
                }

                for row in 0..tokens {
                    held.attend(query.row(row), held.before + row + 1, scores, out.row(row));
                }
            });

        out
    }
}

/// The cached keys and values of one head of one sequence, including the new tokens.
struct Held<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    capacity: usize,
    /// Tokens before the new ones.
    before: usize,
}

impl<'a> Held<'a> {
    /// The arguments for many tokens, which are computed in blocks.
    fn head(&self, query: View<'a>, tokens: usize, width: usize) -> Head<'a> {
        let before = self.before;
        let keys = before + tokens;

        Head {
            scope: Scope { tokens, keys, before, width, mask: Mask::Causal, dropout: None },
            query,
            key: View::new(self.keys, width, keys, self.capacity).t(),
            value: View::new(self.values, keys, width, width),
        }
    }

    /// Attention of one token, which sees the first `seen` tokens.
    fn attend(&self, query: &[f32], seen: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        let width = query.len();
        let scale = 1.0 / (width as f32).sqrt();
        scores.clear();
        scores.resize(seen, 0.0);

        vectorised!(|| {
            // The keys are transposed, so a score is a sum over rows of (D, capacity).
            add_rows(query, self.keys, self.capacity, scores);
            scores.iter_mut().for_each(|score| *score *= scale);

            let most = largest(scores);
            let sum = exp_and_sum(scores, most);
            add_rows(scores, self.values, width, out);
            out.iter_mut().for_each(|out| *out /= sum);
        });
    }
}

/// `into += Σ factors[i] rows[i]`, of rows that are `stride` apart.
#[inline(always)]
fn add_rows(factors: &[f32], rows: &[f32], stride: usize, into: &mut [f32]) {
    // Four at a time, so that the sums are loaded and stored a quarter as often.
    let (fours, rest) = factors.as_chunks::<4>();
    for (factors, rows) in fours.iter().zip(rows.chunks(4 * stride)) {
        let &[a, b, c, d] = factors;
        let width = into.len();
        let w = &rows[..width];
        let x = &rows[stride..][..width];
        let y = &rows[2 * stride..][..width];
        let z = &rows[3 * stride..][..width];

        for ((((into, &w), &x), &y), &z) in into.iter_mut().zip(w).zip(x).zip(y).zip(z) {
            *into = d.mul_add(z, c.mul_add(y, b.mul_add(x, a.mul_add(w, *into))));
        }
    }

    for (&factor, row) in rest.iter().zip(rows[4 * fours.len() * stride..].chunks(stride)) {
        for (into, &x) in into.iter_mut().zip(row) {
            *into = factor.mul_add(x, *into);
        }
    }
}
