//! Dropout from a counter-based stream. A mask is a function of a seed and a position, so it is
//! never stored.

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::rounding::{rounded, widened};
use crate::shape::rows_and_width;
use crate::{Kernels, cuda, rows};
use candle_core::{Result, Tensor, bail};

/// One use of the dropout stream: element `i` of a tensor uses number `offset + i`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an element becomes zero, in [0, 1). All other elements are divided by
    /// `1 - probability`.
    pub probability: f32,
    /// Which stream.
    pub seed: u64,
    /// Position of the first element in the stream.
    pub offset: u64,
}

impl Dropout {
    pub(crate) fn check(self) -> Result<()> {
        if !(0.0..1.0).contains(&self.probability) {
            bail!("dropout: expected a probability in [0, 1), got {}", self.probability)
        }
        Ok(())
    }

    /// Whether element `index` is kept.
    pub fn keeps(self, index: u64) -> bool {
        let keys = self.keys();
        let counter = self.offset.wrapping_add(index);
        hash(counter as u32, high_key(counter, keys), keys.1) >= self.threshold()
    }

    /// Multiplies `x` by the factors of the elements from `first` on.
    pub(crate) fn apply(self, first: u64, x: &mut [f32]) {
        let keys = self.keys();
        let threshold = self.threshold();
        let scale = self.scale();
        let mut counter = self.offset.wrapping_add(first);
        let mut rest = x;

        while !rest.is_empty() {
            // The key depends on the high half of the counter, so it stays the same until the low
            // half wraps.
            let low = counter as u32;
            let (run, behind) = rest.split_at_mut(rest.len().min((u32::MAX - low) as usize + 1));
            let key = high_key(counter, keys);

            counter = counter.wrapping_add(run.len() as u64);
            rest = behind;
            vectorised!(|| {
                for (i, x) in run.iter_mut().enumerate() {
                    let kept = hash(low.wrapping_add(i as u32), key, keys.1) >= threshold;
                    *x *= if kept { scale } else { 0.0 };
                }
            });
        }
    }

    pub(crate) fn scale(self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    pub(crate) fn threshold(self) -> u32 {
        // The cast saturates, so a probability that rounds up to one still keeps elements with the
        // largest hash.
        (f64::from(self.probability) * 4_294_967_296.0) as u32
    }

    pub(crate) fn keys(self) -> (u32, u32) {
        // The finaliser of splitmix64 spreads neighbouring seeds over both keys.
        let mut z = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;

        (z as u32, (z >> 32) as u32)
    }
}

impl Kernels {
    /// Sets each element to zero with the probability of `dropout`, and divides all others by
    /// `1 - probability`. The gradient with respect to `x` is the same operation on the gradient of
    /// the result.
    ///
    /// # Shapes
    /// `x` any non-empty shape but a scalar; returns the same.
    ///
    /// # Errors
    /// When `x` is empty or a scalar, or the probability is not in [0, 1).
    pub fn dropout(self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        rows_and_width("dropout", x)?;
        dropout.check()?;

        match self.backend(&[x], &[]) {
            Backend::Host => rows::map_from([x], |first, [x], y| {
                y.copy_from_slice(x);
                dropout.apply(first as u64, y);
            }),
            Backend::Cuda => cuda::dropout(&cuda::Launcher, x, dropout),
            Backend::Composed => definition(x, dropout),
            Backend::Widened => {
                let [x] = widened([x])?;
                rounded(&self.dropout(&x, dropout)?)
            }
        }
    }
}

/// [`Kernels::dropout`] in candle's own operations.
pub(crate) fn definition(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    // The factor of each element: zero, or one over the probability of staying.
    let scale = dropout.scale();
    let factors: Vec<f32> =
        (0..x.elem_count() as u64).map(|i| if dropout.keeps(i) { scale } else { 0.0 }).collect();
    let factors = Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?;

    x.contiguous()? * factors
}

/// Mixes the high half of the counter into the first key. The result changes only once in 2³²
/// elements.
fn high_key(counter: u64, keys: (u32, u32)) -> u32 {
    mix(((counter >> 32) as u32).wrapping_mul(0x9e37_79b9) ^ keys.0)
}

#[inline(always)]
fn hash(low: u32, first: u32, second: u32) -> u32 {
    mix(mix(low ^ first).wrapping_add(second))
}

/// A bijective 32-bit mixer: every output bit depends on every input bit, in five operations that
/// vectorise.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
