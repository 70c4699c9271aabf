//! Sketches: a random linear projection of many numbers to few, which estimates inner products.
//!
//! The numbers of each tensor are cut into chunks of [`SKETCH_WIDTH`]. Each chunk is turned by a
//! random rotation, gets random signs and is added to the sketch. So two numbers of one chunk are
//! never added to each other, and numbers that are added have independent signs. The mean of the
//! inner product of two sketches is therefore the inner product of what was sketched. The gradients
//! of a matrix's column are often large together. Without the rotations, in a matrix with rows as
//! long as chunks, they would all be added to one number of the sketch.

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::number::{Number, in_format_of};
use crate::rounding::widened;
use crate::{Kernels, cuda, host};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Numbers in a sketch, and in a chunk.
pub const SKETCH_WIDTH: usize = 256;
/// Numbers of a tensor in one partial sum.
pub(crate) const PART: usize = 64 * SKETCH_WIDTH;
/// From this many numbers on, threads share a tensor. One thread adds that many in about 20 µs.
const SHARED: usize = 8 * PART;
/// Words of the stream for a chunk: one for each 64 signs, and one for its rotation.
const WORDS: u64 = 5;
/// Signs in one step of the loop: the bits of a 32-bit word.
const SIGNS: usize = 32;
/// The step of splitmix64's counter.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Kernels {
    /// The sketch of all tensors together, as f64. It is linear in their numbers, and otherwise
    /// depends only on `seed` and on the tensors' sizes and order. It does not wait for the device.
    ///
    /// # Shapes
    /// Any number of tensors of any shapes on one device; returns ([`SKETCH_WIDTH`]).
    ///
    /// # Errors
    /// When there is no tensor, or they are on several devices.
    ///
    /// # Source
    /// Count sketches: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams",
    /// 2002; their inner products: Cormode and Garofalakis, "Sketching streams through the net",
    /// 2005.
    pub fn sketch(self, tensors: &[&Tensor], seed: u64) -> Result<Tensor> {
        if tensors.is_empty() {
            bail!("sketch: expected one tensor or more, got none")
        }

        match self.backend(tensors, &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::sketch(&cuda::Launcher, tensors, seed),
            Backend::Composed => return definition(tensors, seed),
            Backend::Widened => {
                let wide = tensors.iter().map(|tensor| widened([tensor]).map(|[wide]| wide));
                let wide = wide.collect::<Result<Vec<_>>>()?;
                return self.sketch(&wide.iter().collect::<Vec<_>>(), seed);
            }
        }

        let mut sketch = vec![0.0f64; SKETCH_WIDTH];
        for (number, tensor) in tensors.iter().enumerate() {
            let stream = Stream::of(seed, number);
            in_format_of!(tensor, |E| host::read_as::<E, 1, _>([tensor], |[data]| {
                stream.add(data, &mut sketch);
                Ok(())
            }))?;
        }

        Tensor::from_vec(sketch, SKETCH_WIDTH, &Device::Cpu)
    }
}

/// The random numbers of one tensor, by splitmix64: each number can be computed without the others.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    key: u64,
}

impl Stream {
    pub(crate) fn of(seed: u64, tensor: usize) -> Self {
        Stream { key: mixed(seed.wrapping_add(STRIDE.wrapping_mul(tensor as u64 + 1))) }
    }

    /// From this the CUDA kernel computes the same words.
    pub(crate) fn key(self) -> u64 {
        self.key
    }

    #[inline(always)]
    fn word(self, number: u64) -> u64 {
        mixed(self.key.wrapping_add(STRIDE.wrapping_mul(number + 1)))
    }

    /// By how many places a chunk is turned, and the signs at the places of the turned chunk, a bit
    /// each.
    #[inline(always)]
    fn chunk(self, chunk: usize) -> (usize, [u32; SKETCH_WIDTH / SIGNS]) {
        let first = chunk as u64 * WORDS;
        let mut signs = [0; SKETCH_WIDTH / SIGNS];
        for (number, signs) in (first..).zip(signs.chunks_exact_mut(2)) {
            let word = self.word(number);
            signs.copy_from_slice(&[word as u32, (word >> 32) as u32]);
        }

        // splitmix64 mixes the upper bits best.
        ((self.word(first + WORDS - 1) >> 56) as usize, signs)
    }

    /// Adds a whole tensor to its sketch.
    fn add<E: Number>(self, data: &[E], sketch: &mut [f64]) {
        let part = |(at, part): (usize, &[E])| {
            self.sum(at * (PART / SKETCH_WIDTH), E::wide(part, &mut Vec::new()))
        };

        // Both have the same parts in the same order, so the same bits.
        let parts: Vec<_> = if data.len() < SHARED {
            data.chunks(PART).enumerate().map(part).collect()
        } else {
            data.par_chunks(PART).enumerate().map(part).collect()
        };

        for part in parts {
            sketch.iter_mut().zip(part).for_each(|(into, sum)| *into += f64::from(sum));
        }
    }

    /// The sum of the chunks of `x`, whose first chunk has the number `first`.
    fn sum(self, first: usize, x: &[f32]) -> [f32; SKETCH_WIDTH] {
        let mut sums = [0.0; SKETCH_WIDTH];

        vectorised!(|| {
            let (whole, rest) = x.as_chunks();
            for (chunk, x) in (first..).zip(whole) {
                add_turned(&mut sums, x, self.chunk(chunk));
            }

            if !rest.is_empty() {
                let mut filled = [0.0; SKETCH_WIDTH];
                filled[..rest.len()].copy_from_slice(rest);
                add_turned(&mut sums, &filled, self.chunk(first + whole.len()));
            }
        });

        sums
    }
}

/// Adds a chunk, turned and with its signs. The turn moves what is read, not what is written: with
/// moved sums, each load of a sum would wait for two stores of the chunk before.
#[inline(always)]
fn add_turned(
    sums: &mut [f32; SKETCH_WIDTH],
    x: &[f32; SKETCH_WIDTH],
    (turn, signs): (usize, [u32; SKETCH_WIDTH / SIGNS]),
) {
    let mut first = SKETCH_WIDTH - turn;
    for (sums, signs) in sums.as_chunks_mut::<SIGNS>().0.iter_mut().zip(signs) {
        first %= SKETCH_WIDTH;
        let (head, tail) = x.split_at(first);
        match tail.first_chunk() {
            Some(x) => add_signed(sums, x, signs),
            // The turned chunk wraps here: the end of the chunk, then its beginning.
            None => {
                let mut joined = [0.0; SIGNS];
                joined[..tail.len()].copy_from_slice(tail);
                joined[tail.len()..].copy_from_slice(&head[..SIGNS - tail.len()]);
                add_signed(sums, &joined, signs);
            }
        }

        first += SIGNS;
    }
}

#[inline(always)]
fn add_signed(sums: &mut [f32; SIGNS], x: &[f32; SIGNS], signs: u32) {
    for ((sum, &x), &shift) in sums.iter_mut().zip(x).zip(&SHIFTS) {
        *sum += signed(x, signs.wrapping_shl(shift));
    }
}

/// By how many places each bit of a word is moved to become a sign bit.
const SHIFTS: [u32; SIGNS] = {
    let mut shifts = [0; SIGNS];
    let mut bit = 0;
    while bit < SIGNS {
        shifts[bit] = (SIGNS - 1 - bit) as u32;
        bit += 1;
    }

    shifts
};

/// `x`, or `-x` where the uppermost bit is set.
#[inline(always)]
fn signed(x: f32, upper: u32) -> f32 {
    f32::from_bits(x.to_bits() ^ (upper & 0x8000_0000))
}

/// The finaliser of splitmix64.
#[inline(always)]
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// [`Kernels::sketch`] in candle's own operations.
fn definition(tensors: &[&Tensor], seed: u64) -> Result<Tensor> {
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

/// For each number of the turned chunks of a tensor of `count` numbers, padded to whole chunks: its
/// place in the chunk before the turn, and its sign.
fn tables(stream: Stream, count: usize) -> (Vec<u32>, Vec<f64>) {
    let mut places = Vec::new();
    let mut signs = Vec::new();

    for chunk in 0..count.div_ceil(SKETCH_WIDTH) {
        let (turn, words) = stream.chunk(chunk);
        places
            .extend((0..SKETCH_WIDTH).map(|at| ((at + SKETCH_WIDTH - turn) % SKETCH_WIDTH) as u32));
        signs.extend(
            (0..SKETCH_WIDTH)
                .map(|at| f64::from(signed(1.0, words[at / SIGNS] << SHIFTS[at % SIGNS]))),
        );
    }

    (places, signs)
}
