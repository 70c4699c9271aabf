//! Sketches: a random linear projection of many numbers to few, from which inner products can be estimated.
//!
//! The numbers of each tensor are cut into chunks of [`SKETCH_WIDTH`]. Each chunk gets random signs, is turned by a
//! random rotation and added to the sketch. So two numbers of one chunk never meet, and those that do meet have
//! independent signs: the inner product of two sketches has the inner product of what was sketched as its mean. The
//! rotations keep a column of a matrix, whose gradients are often large together, from always meeting itself.

use crate::choice::Path;
use crate::lanes::vectorised;
use crate::rounding::widened;
use crate::{Kernels, composed, cuda, host};
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Numbers of a sketch, and of a chunk.
pub const SKETCH_WIDTH: usize = 256;
/// Numbers of a tensor that one partial sum covers.
pub(crate) const PART: usize = 64 * SKETCH_WIDTH;
/// Words of the stream that a chunk takes: one for each 64 signs, and one for its rotation.
const WORDS: u64 = 5;
/// Signs that one step of the loop takes: the bits of a word of 32.
const SIGNS: usize = 32;
/// The step of splitmix64's counter.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Kernels {
    /// The sketch of all tensors together, as f64. It is linear in their numbers, and depends on nothing else but
    /// `seed` and the tensors' sizes and order. The device is not waited for.
    ///
    /// # Shapes
    /// Any number of tensors of any shapes on one device; returns ([`SKETCH_WIDTH`]).
    ///
    /// # Errors
    /// When there is no tensor, or they are on several devices.
    ///
    /// # Source
    /// Count sketches: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002; their inner
    /// products: Cormode and Garofalakis, "Sketching streams through the net", 2005.
    pub fn sketch(self, tensors: &[&Tensor], seed: u64) -> Result<Tensor> {
        if tensors.is_empty() {
            bail!("sketch: expected one tensor or more, got none")
        }
        match self.path(tensors, &[]) {
            Path::Host => {}
            Path::Cuda => return cuda::sketch(&cuda::Launcher, tensors, seed),
            Path::Composed => return composed::sketch(tensors, seed),
            Path::Widened => {
                let wide = tensors.iter().map(|tensor| widened([tensor]).map(|[wide]| wide));
                let wide = wide.collect::<Result<Vec<_>>>()?;
                return self.sketch(&wide.iter().collect::<Vec<_>>(), seed);
            }
        }
        let mut sketch = vec![0.0f64; SKETCH_WIDTH];
        for (number, tensor) in tensors.iter().enumerate() {
            let stream = Stream::of(seed, number);
            host::read([tensor], |[data]| {
                let part = |(at, part): (usize, &[f32])| stream.sum(at * (PART / SKETCH_WIDTH), part);
                // Threads are not worth waking for one part; the order of the sums is the same.
                let parts: Vec<_> = match data.len() <= PART {
                    true => data.chunks(PART).enumerate().map(part).collect(),
                    false => data.par_chunks(PART).enumerate().map(part).collect(),
                };
                for part in parts {
                    sketch.iter_mut().zip(part).for_each(|(into, sum)| *into += f64::from(sum));
                }
                Ok(())
            })?;
        }
        Tensor::from_vec(sketch, SKETCH_WIDTH, &Device::Cpu)
    }
}

/// The random numbers of one tensor: those of splitmix64, of which each can be made alone.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    key: u64,
}

impl Stream {
    pub(crate) fn of(seed: u64, tensor: usize) -> Self {
        Stream { key: mixed(seed.wrapping_add(STRIDE.wrapping_mul(tensor as u64 + 1))) }
    }

    /// What the CUDA kernel makes the same words of.
    pub(crate) fn key(self) -> u64 {
        self.key
    }

    fn word(self, number: u64) -> u64 {
        mixed(self.key.wrapping_add(STRIDE.wrapping_mul(number + 1)))
    }

    /// Signs of a chunk, a bit each, and by how much it is turned.
    pub(crate) fn chunk(self, chunk: usize) -> ([u32; SKETCH_WIDTH / SIGNS], usize) {
        let first = chunk as u64 * WORDS;
        let mut signs = [0; SKETCH_WIDTH / SIGNS];
        for (number, signs) in (first..).zip(signs.chunks_exact_mut(2)) {
            let word = self.word(number);
            signs.copy_from_slice(&[word as u32, (word >> 32) as u32]);
        }
        // The upper bits are those that splitmix64 mixes best.
        (signs, (self.word(first + WORDS - 1) >> 56) as usize)
    }

    /// The sum of the chunks of `x`, of which the first has this number.
    fn sum(self, first: usize, x: &[f32]) -> [f32; SKETCH_WIDTH] {
        // What a rotation carries over the end has sums of its own: so each chunk is added to adjacent numbers.
        let mut sums = [0.0f32; 2 * SKETCH_WIDTH];
        vectorised(
            #[inline(always)]
            || {
                for (chunk, x) in (first..).zip(x.chunks(SKETCH_WIDTH)) {
                    let (signs, turn) = self.chunk(chunk);
                    add_signed(&mut sums[turn..turn + x.len()], x, &signs);
                }
            },
        );
        let (within, carried) = sums.split_at(SKETCH_WIDTH);
        let mut sum = [0.0; SKETCH_WIDTH];
        for (sum, (&within, &carried)) in sum.iter_mut().zip(within.iter().zip(carried)) {
            *sum = within + carried;
        }
        sum
    }
}

/// Adds a chunk with its signs.
#[inline(always)]
fn add_signed(into: &mut [f32], x: &[f32], signs: &[u32]) {
    let (whole, rest) = x.as_chunks::<SIGNS>();
    let (into, into_rest) = into.as_chunks_mut::<SIGNS>();
    for ((into, x), &signs) in into.iter_mut().zip(whole).zip(signs) {
        for (bit, (into, &x)) in into.iter_mut().zip(x).enumerate() {
            *into += signed(x, signs, bit);
        }
    }
    if let Some(&signs) = signs.get(whole.len()) {
        for (bit, (into, &x)) in into_rest.iter_mut().zip(rest).enumerate() {
            *into += signed(x, signs, bit);
        }
    }
}

/// `x`, or `-x` where the bit is set.
#[inline(always)]
fn signed(x: f32, signs: u32, bit: usize) -> f32 {
    f32::from_bits(x.to_bits() ^ ((signs << (SIGNS - 1 - bit)) & 0x8000_0000))
}

/// The finaliser of splitmix64.
#[inline(always)]
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// For each number of a tensor of `count` numbers that is filled up to whole chunks, its sign; and for each number of a
/// turned chunk, from where in the chunk it comes.
pub(crate) fn tables(stream: Stream, count: usize) -> (Vec<f64>, Vec<u32>) {
    let (mut signs, mut places) = (Vec::new(), Vec::new());
    for chunk in 0..count.div_ceil(SKETCH_WIDTH) {
        let (words, turn) = stream.chunk(chunk);
        let sign = |at: usize| signed(1.0, words[at / SIGNS], at % SIGNS);
        signs.extend((0..SKETCH_WIDTH).map(|at| f64::from(sign(at))));
        places.extend((0..SKETCH_WIDTH).map(|at| ((at + SKETCH_WIDTH - turn) % SKETCH_WIDTH) as u32));
    }
    (signs, places)
}
