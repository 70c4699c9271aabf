//! Rotary positions: queries and keys are turned by angles that grow with the token's position.

mod stretch;

use std::borrow::Cow;

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::rounding::{rounded, widened};
use crate::{Kernels, cuda, rows};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
pub use stretch::Stretch;

/// Positions below this are exact in f32.
const POSITIONS: usize = 1 << 24;

/// The angles of one head of D numbers: at position `p`, numbers `i` and `i + D/2` turn by
/// `p · frequency[i]`, and are multiplied by one factor.
///
/// The pairing is that of Hugging Face's Llama, and so is the rounding: frequencies and angles are
/// f32. Published weights were trained with these angles; at position 4,000 an exact angle differs
/// from them by up to 2e-4.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// D/2 numbers.
    frequencies: Vec<f32>,
    /// The factor of the turned numbers.
    factor: f32,
    /// The frequencies of longer texts.
    longer: Longer,
}

/// The frequencies in texts that are longer than those that a model was trained on.
#[derive(Clone, Debug, PartialEq)]
enum Longer {
    /// The same.
    Same,
    /// Those of a base that grows with the length of a text.
    Growing { base: f64, factor: f64, original_context: usize },
    /// Others.
    Other { frequencies: Vec<f32>, original_context: usize },
}

impl Rotary {
    /// Frequency `i` is `base^(-2i/D)`, stretched by `stretch`, if any.
    ///
    /// # Errors
    /// When the head width is zero or odd, the base is not a finite number of at least 1, or a
    /// number of the stretch is outside of its range: see [`Stretch`].
    ///
    /// # Source
    /// Su et al., RoFormer, section 3.4.2.
    pub fn new(head_width: usize, base: f64, stretch: Option<Stretch>) -> Result<Self> {
        if head_width == 0 || !head_width.is_multiple_of(2) {
            bail!("rotary: expected an even head width, got {head_width}")
        }
        if !(1.0..=f64::from(f32::MAX)).contains(&base) {
            bail!("rotary: expected a finite base of at least 1, got {base}")
        }

        let Some(stretch) = stretch else {
            let frequencies = plain(&powers(head_width, base));
            return Ok(Rotary { frequencies, factor: 1.0, longer: Longer::Same });
        };

        stretch.check(head_width, base)?;
        Ok(stretch.apply(&powers(head_width, base), base))
    }

    /// D.
    #[must_use]
    pub fn head_width(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// D/2 numbers: radians from one position to the next, in texts of the length that the model
    /// was trained on.
    #[must_use]
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The same in a text of `tokens` tokens.
    #[must_use]
    pub fn frequencies_of(&self, tokens: usize) -> Cow<'_, [f32]> {
        match &self.longer {
            Longer::Growing { base, factor, original_context } if tokens > *original_context => {
                let share = tokens as f64 / *original_context as f64;
                let head_width = self.head_width();

                // Width 2 would divide by zero. Such a head has one frequency, which is 1 for every
                // base.
                let exponent = head_width as f64 / head_width.saturating_sub(2).max(1) as f64;
                let base = base * (factor * share - (factor - 1.0)).powf(exponent);
                plain(&powers(head_width, base)).into()
            }
            Longer::Other { frequencies, original_context } if tokens > *original_context => {
                frequencies.as_slice().into()
            }
            _ => self.frequencies.as_slice().into(),
        }
    }
}

/// Powers of the base, D/2 numbers. A frequency without stretching is one over its power.
fn powers(head_width: usize, base: f64) -> Vec<f32> {
    let power = |i: usize| {
        let exponent = (2 * i) as f32 / head_width as f32;
        // A power in f64 is exact up to its last rounding. f32 arithmetic, which transformers uses,
        // gives the same number nearly everywhere.
        f64::from(base as f32).powf(f64::from(exponent)) as f32
    };

    (0..head_width / 2).map(power).collect()
}

fn plain(powers: &[f32]) -> Vec<f32> {
    powers.iter().map(|power| 1.0 / power).collect()
}

impl Kernels {
    /// Turns the first `heads` heads of each row by the angles of its position, `first[b] + t` for
    /// row `t` of window `b`. The rest of the row stays as it is. With queries and keys in front,
    /// `heads` counts both. Where frequencies depend on the length of the text, that is the
    /// position after the last row, `first[b] + T`.
    ///
    /// # Shapes
    /// `qkv` (B, T, W) with W at least `heads · D`; `first` B numbers, or none where every window
    /// starts at 0; returns (B, T, W).
    ///
    /// # Errors
    /// When `qkv` is empty, its shape or the number of first positions does not fit, `heads` is 0,
    /// or a position is 2²⁴ or more.
    pub fn rotate(
        self,
        qkv: &Tensor,
        heads: usize,
        rotary: &Rotary,
        first: &[usize],
    ) -> Result<Tensor> {
        self.turned(qkv, &Turns::new("rotate", qkv, heads, rotary, first)?)
    }

    /// Gradient of [`Kernels::rotate`] with respect to `qkv`: the turn in the other direction, by
    /// the same factor.
    ///
    /// # Shapes
    /// As [`Kernels::rotate`].
    ///
    /// # Errors
    /// As [`Kernels::rotate`].
    pub fn rotate_gradient(
        self,
        gradient: &Tensor,
        heads: usize,
        rotary: &Rotary,
        first: &[usize],
    ) -> Result<Tensor> {
        let turns = Turns::new("rotate_gradient", gradient, heads, rotary, first)?.back();
        self.turned(&gradient.detach(), &turns)
    }

    fn turned(self, x: &Tensor, turns: &Turns) -> Result<Tensor> {
        match self.backend(&[x], &[]) {
            Backend::Host => {
                rows::map_rows([x], x.dims(), |first, [x], y| turns.apply(first, x, y))
            }
            Backend::Cuda => cuda::turn(&cuda::Launcher, x, turns),
            Backend::Composed => definition(x, turns),
            Backend::Widened => {
                let [x] = widened([x])?;
                rounded(&self.turned(&x, turns)?)
            }
        }
    }
}

/// [`Kernels::rotate`] by the CUDA kernels on `machine`.
///
/// # Errors
/// As [`Kernels::rotate`].
#[doc(hidden)]
pub fn rotate_on(
    machine: &dyn cuda::Machine,
    qkv: &Tensor,
    heads: usize,
    rotary: &Rotary,
    first: &[usize],
) -> Result<Tensor> {
    cuda::turn(machine, qkv, &Turns::new("rotate", qkv, heads, rotary, first)?)
}

/// The turn of every row of (B, T, W).
pub(crate) struct Turns {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// D/2.
    pub(crate) half: usize,
    /// For each window, its block of T rows in the tables; where this is empty, all windows use the
    /// first block.
    blocks: Vec<usize>,
    /// For each position of each block, D/2 numbers.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    fn new(op: &str, x: &Tensor, heads: usize, rotary: &Rotary, first: &[usize]) -> Result<Self> {
        let (batch, tokens, width) = match *x.dims() {
            [batch, tokens, width] if batch * tokens * width > 0 => (batch, tokens, width),
            ref other => {
                bail!(
                    "{op}: expected a non-empty tensor of shape [batch, tokens, width], \
                     got {other:?}"
                )
            }
        };

        let head_width = rotary.head_width();
        if heads == 0 || heads.checked_mul(head_width).is_none_or(|turned| turned > width) {
            bail!(
                "{op}: expected at least one head of {head_width}, \
                 and rows of {width} with room for all, got {heads} heads"
            )
        }

        if !first.is_empty() && first.len() != batch {
            bail!(
                "{op}: expected a first position for each of {batch} windows or none, got {}",
                first.len()
            )
        }

        // Windows that start at the same position share a block of the tables.
        let mut starts = if first.is_empty() { vec![0] } else { first.to_vec() };
        starts.sort_unstable();
        starts.dedup();

        let last = starts.last().map_or(0, |start| start.saturating_add(tokens - 1));
        if last >= POSITIONS {
            bail!("{op}: expected positions below {POSITIONS}, got {last}")
        }

        let blocks =
            first.iter().map(|start| starts.partition_point(|other| other < start)).collect();
        let half = head_width / 2;
        let (cosines, sines) = starts
            .par_iter()
            .flat_map_iter(|&start| {
                let frequencies = rotary.frequencies_of(start + tokens);
                (start..start + tokens).flat_map(move |position| {
                    let turn = |frequency: &f32| {
                        // The angle is rounded to f32 first: see the type.
                        let (sine, cosine) = f64::from(position as f32 * frequency).sin_cos();
                        (cosine as f32 * rotary.factor, sine as f32 * rotary.factor)
                    };

                    frequencies.iter().map(turn).collect::<Vec<_>>()
                })
            })
            .unzip();

        Ok(Turns { batch, tokens, width, heads, half, blocks, cosines, sines })
    }

    /// Cosines and sines of all blocks.
    pub(crate) fn tables(&self) -> [&[f32]; 2] {
        [&self.cosines, &self.sines]
    }

    /// The block of the tables that a window uses.
    pub(crate) fn block(&self, window: usize) -> usize {
        self.blocks.get(window).copied().unwrap_or(0)
    }

    /// The same turns in the other direction: a negative angle changes the sine's sign alone.
    fn back(mut self) -> Self {
        self.sines.iter_mut().for_each(|sine| *sine = -*sine);
        self
    }

    /// Cosines and sines of the rows of a window, T x D/2 numbers each.
    fn of_window(&self, window: usize) -> [&[f32]; 2] {
        let size = self.tokens * self.half;
        let block = self.block(window) * size;
        self.tables().map(|table| &table[block..block + size])
    }

    /// `y = turned(x)` for rows of W numbers, the first of which is row `first` of B T rows.
    fn apply(&self, first: usize, x: &[f32], y: &mut [f32]) {
        let rows = x.chunks_exact(self.width).zip(y.chunks_exact_mut(self.width));
        for (row, (x, y)) in (first..).zip(rows) {
            let start = row % self.tokens * self.half;
            let [cosines, sines] =
                self.of_window(row / self.tokens).map(|table| &table[start..start + self.half]);
            turn(x, [cosines, sines], self.heads, y);
        }
    }
}

/// The turn of every row in candle's own operations.
fn definition(x: &Tensor, turns: &Turns) -> Result<Tensor> {
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

/// One row: its first heads turned, the rest copied.
fn turn(x: &[f32], [cosines, sines]: [&[f32]; 2], heads: usize, y: &mut [f32]) {
    let half = cosines.len();
    let turned = heads * 2 * half;
    y[turned..].copy_from_slice(&x[turned..]);

    vectorised!(|| {
        let heads = x[..turned].chunks_exact(2 * half).zip(y[..turned].chunks_exact_mut(2 * half));
        for (x, y) in heads {
            let (a, b) = x.split_at(half);
            let (into_a, into_b) = y.split_at_mut(half);
            let pairs = into_a.iter_mut().zip(into_b).zip(a).zip(b).zip(cosines).zip(sines);

            for (((((into_a, into_b), &a), &b), &cosine), &sine) in pairs {
                *into_a = a.mul_add(cosine, -(b * sine));
                *into_b = b.mul_add(cosine, a * sine);
            }
        }
    });
}
