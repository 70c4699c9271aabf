//! The instruction of AVX512-BF16 that adds the products of pairs of bf16 to sums of f32.
#![allow(unsafe_code, reason = "vectors are loaded and stored through raw pointers")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{Block, EDGE, TILE};

/// Rows whose sums stay in registers.
const ROWS: usize = 8;

/// Whether the processor has the instruction, and the system saves its registers.
pub(super) fn is_usable() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Computes one block.
///
/// # Panics
/// When the processor lacks the instruction, which is a bug in the caller.
pub(super) fn multiply(block: Block<'_>) {
    assert!(is_usable(), "AVX512-BF16 on a machine without it");
    // SAFETY: the processor has both features (checked above).
    unsafe { multiply_block(block) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_block(block: Block<'_>) {
    let Block { left, right, out, stride, adds } = block;

    for first in (0..EDGE).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        if adds {
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = out[(first + i) * stride..][..EDGE].as_chunks::<TILE>().0;
                *sums = [load(&row[0]), load(&row[1])];
            }
        }

        // Rows 16 to 31 are in the second tile of each step.
        let tile = first / TILE;
        let start = first % TILE * TILE;
        for (left, right) in left.as_chunks::<2>().0.iter().zip(right.as_chunks::<2>().0) {
            let rows = &left[tile].0[start..start + ROWS * TILE];
            let columns = right[0].0.as_chunks::<TILE>().0.iter().zip(right[1].0.as_chunks().0);

            for (pair, (low, high)) in columns.enumerate() {
                let columns = [load_pairs(low), load_pairs(high)];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let number = pairs(_mm512_set1_epi32(rows[row * TILE + pair].cast_signed()));
                    sums[0] = _mm512_dpbf16_ps(sums[0], number, columns[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], number, columns[1]);
                }
            }
        }

        for (i, sums) in sums.into_iter().enumerate() {
            let row = out[(first + i) * stride..][..EDGE].as_chunks_mut::<TILE>().0;
            store(sums[0], &mut row[0]);
            store(sums[1], &mut row[1]);
        }
    }
}

#[target_feature(enable = "avx512f")]
fn load(numbers: &[f32; TILE]) -> __m512 {
    // SAFETY: the array has the 16 numbers that are read, at any alignment.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store(sums: __m512, into: &mut [f32; TILE]) {
    // SAFETY: the array has room for the 16 numbers that are written, at any alignment.
    unsafe { _mm512_storeu_ps(into.as_mut_ptr(), sums) }
}

#[target_feature(enable = "avx512f")]
fn load_pairs(words: &[u32; TILE]) -> __m512bh {
    // SAFETY: the array has the 64 bytes that are read, at any alignment.
    pairs(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
}

/// The same bits as pairs of bf16.
#[target_feature(enable = "avx512f")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both types are 64 bytes of plain numbers, and every bit pattern is valid in both.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}
