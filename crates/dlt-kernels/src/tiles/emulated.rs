//! The definition of a product of tiles, in f32. It gives the bits of AMX, but keeps denormal
//! numbers, which AMX reads and writes as zero. It also runs where there is no instruction for bf16.

use super::{Block, EDGE, TILE};
use crate::lanes::vectorised;

/// Rows whose sums stay in registers.
const ROWS: usize = 4;

/// Two columns of tiles.
type Row = [[f32; TILE]; 2];

/// Computes one block.
pub(super) fn multiply(block: Block<'_>) {
    let Block { left, right, out, stride, adds } = block;

    vectorised!(|| {
        for first in (0..EDGE).step_by(ROWS) {
            let mut sums = [[[0.0f32; TILE]; 2]; ROWS];
            if adds {
                for (i, sums) in sums.iter_mut().enumerate() {
                    sums.as_flattened_mut().copy_from_slice(&out[(first + i) * stride..][..EDGE]);
                }
            }

            // Rows 16 to 31 are in the second tile of each step.
            let tile = first / TILE;
            let start = first % TILE * TILE;
            for (left, right) in left.as_chunks::<2>().0.iter().zip(right.as_chunks::<2>().0) {
                let rows = &left[tile].0[start..start + ROWS * TILE];
                add_step(&mut sums, rows, [&right[0].0, &right[1].0]);
            }

            for (i, sums) in sums.iter().enumerate() {
                out[(first + i) * stride..][..EDGE].copy_from_slice(sums.as_flattened());
            }
        }
    });
}

/// Adds the products of 32 numbers along the depth. Those at even places and those at odd places
/// have a chain of fused multiply-adds each, which starts from zero; the sum of both chains is
/// added.
#[inline(always)]
fn add_step(sums: &mut [Row; ROWS], left: &[u32], right: [&[u32; TILE * TILE]; 2]) {
    let mut even = [[[0.0f32; TILE]; 2]; ROWS];
    let mut odd = [[[0.0f32; TILE]; 2]; ROWS];

    for pair in 0..TILE {
        for row in 0..ROWS {
            let word = left[row * TILE + pair];
            let low = f32::from_bits(word << 16);
            let high = f32::from_bits(word & 0xffff_0000);

            for half in 0..2 {
                let words = &right[half][pair * TILE..][..TILE];
                for i in 0..TILE {
                    let word = words[i];
                    even[row][half][i] =
                        low.mul_add(f32::from_bits(word << 16), even[row][half][i]);
                    odd[row][half][i] =
                        high.mul_add(f32::from_bits(word & 0xffff_0000), odd[row][half][i]);
                }
            }
        }
    }

    for row in 0..ROWS {
        for half in 0..2 {
            for i in 0..TILE {
                sums[row][half][i] += even[row][half][i] + odd[row][half][i];
            }
        }
    }
}
