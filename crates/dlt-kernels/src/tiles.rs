//! Products of bf16 matrices with sums of f32: on the tile registers of AMX, with the instructions
//! of AVX512-BF16, or in f32.
//!
//! Both operands are packed first, in panels of [`EDGE`] rows or columns. A block is the product of
//! two panels. Its sums are in registers while a stretch of the depth is added, so an element has
//! one order of additions, whatever the number of threads.

mod amx;
mod emulated;
mod engine;
mod pack;

use rayon::prelude::*;
use std::ops::Range;

use crate::number::Number;
pub(crate) use engine::Engine;
use engine::Running;
pub(crate) use pack::{Operand, Packed, Side};

/// Rows and columns of a block.
const EDGE: usize = 32;
/// Rows of a tile, and words of its rows.
const TILE: usize = 16;
/// Numbers along the depth that one tile holds.
const STEP: usize = 32;

/// Steps whose tiles of the left operand stay in the first cache: 32 KiB.
const CACHED_STEPS: usize = 16;
/// Tiles of the right operand that stay in the second cache: 1 MiB.
const CACHED_TILES: usize = 1024;
/// Tiles of the left operand that a task packs, at most.
const TASK_TILES: usize = 512;
/// Rows of a task, at most.
const TASK_ROWS: usize = 256;

/// 16 x 16 words, each a pair of bf16 numbers along the depth; the first is in the low half.
#[derive(Clone)]
#[repr(align(64))]
struct Tile([u32; TILE * TILE]);

impl Tile {
    const ZERO: Tile = Tile([0; TILE * TILE]);
}

/// The product of two panels, and where it goes.
struct Block<'a> {
    /// Two tiles a step, those of rows 0 to 15 and of rows 16 to 31.
    left: &'a [Tile],
    /// The same of columns.
    right: &'a [Tile],
    /// [`EDGE`] rows, `stride` apart.
    out: &'a mut [f32],
    stride: usize,
    /// Whether the product is added to what `out` holds.
    adds: bool,
}

impl<'a> Block<'a> {
    /// # Panics
    /// When sizes do not fit, which is a bug in the caller.
    fn new(
        left: &'a [Tile],
        right: &'a [Tile],
        out: &'a mut [f32],
        stride: usize,
        adds: bool,
    ) -> Self {
        assert!(
            !left.is_empty()
                && left.len().is_multiple_of(2)
                && left.len() == right.len()
                && stride >= EDGE
                && out.len() >= (EDGE - 1) * stride + EDGE,
            "a block that does not fit: {} and {} tiles into {} numbers, {stride} apart",
            left.len(),
            right.len(),
            out.len()
        );

        Block { left, right, out, stride, adds }
    }
}

/// The product of two operands, row after row. `finish` gets the number of a row, its columns, and
/// their sums, which it may overwrite; it writes the same columns of the result, whose rows have a
/// number for each index of `right`.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn product<E: Number, O: Send>(
    engine: Engine,
    left: Operand<'_, E>,
    right: &Packed,
    out: &mut [O],
    finish: impl Fn(usize, Range<usize>, &mut [f32], &mut [O]) + Sync,
) {
    let columns = right.count();
    let panel_tiles = left.panel_tiles();
    assert!(
        panel_tiles == 2 * right.steps() && out.len() == left.count() * columns,
        "matrices that do not fit: {} rows of {} steps, and {columns} columns of {} steps, into {}",
        left.count(),
        panel_tiles / 2,
        right.steps(),
        out.len()
    );

    let rows = task_rows(left.count(), panel_tiles);
    out.par_chunks_mut(rows * columns).enumerate().for_each(|(task, out)| {
        let running = engine.start();
        let first = task * rows;
        let count = out.len() / columns;
        let mut panels = vec![Tile::ZERO; count.div_ceil(EDGE) * panel_tiles];
        left.indices(first, count).pack(Side::Left, &mut panels);

        let mut sums = vec![0.0; EDGE * stretch_columns(right)];
        for stretch in stretches(right) {
            let width = stretch.len() * EDGE;
            let places = stretch.start * EDGE..(stretch.end * EDGE).min(columns);

            for (panel, (left, out)) in
                panels.chunks_exact(panel_tiles).zip(out.chunks_mut(EDGE * columns)).enumerate()
            {
                let sums = &mut sums[..EDGE * width];
                panel_product(&running, left, right, stretch.clone(), sums);

                let rows = sums.chunks_exact_mut(width).zip(out.chunks_exact_mut(columns));
                for (row, (sums, out)) in rows.enumerate() {
                    let row = first + panel * EDGE + row;
                    let sums = &mut sums[..places.len()];
                    finish(row, places.clone(), sums, &mut out[places.clone()]);
                }
            }
        }
    });
}

/// The products of one panel of the left operand with some panels of the right one, in rows of
/// `sums`.
fn panel_product(
    running: &Running,
    left: &[Tile],
    right: &Packed,
    panels: Range<usize>,
    sums: &mut [f32],
) {
    let stride = panels.len() * EDGE;
    for first in (0..left.len()).step_by(2 * CACHED_STEPS) {
        let tiles = first..(first + 2 * CACHED_STEPS).min(left.len());
        for (place, panel) in panels.clone().enumerate() {
            let right = &right.panel(panel)[tiles.clone()];
            let out = &mut sums[place * EDGE..];
            running.multiply(Block::new(&left[tiles.clone()], right, out, stride, first > 0));
        }
    }
}

/// Panels of the right operand that stay in the second cache while those of the left one pass.
fn stretches(right: &Packed) -> impl Iterator<Item = Range<usize>> {
    let panels = right.count().div_ceil(EDGE);
    let size = stretch_columns(right) / EDGE;
    (0..panels).step_by(size).map(move |first| first..(first + size).min(panels))
}

fn stretch_columns(right: &Packed) -> usize {
    let panels = right.count().div_ceil(EDGE);
    let most = (CACHED_TILES / (2 * right.steps())).clamp(1, panels);
    // Of equal size.
    panels.div_ceil(panels.div_ceil(most)) * EDGE
}

/// Rows that a task computes: many enough to use what is in the second cache often, few enough for
/// all threads to have some.
fn task_rows(rows: usize, panel_tiles: usize) -> usize {
    let shared = rows.div_ceil(4 * rayon::current_num_threads());
    let most = (TASK_TILES / panel_tiles * EDGE).clamp(EDGE, TASK_ROWS);
    shared.next_multiple_of(EDGE).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn numbers(count: usize, seed: u32) -> Vec<bf16> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bf16::from_f32((state >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect()
    }

    fn multiply(engine: Engine, a: Operand<'_, bf16>, b: Operand<'_, bf16>) -> Vec<f32> {
        let right = Packed::right(b);
        let mut out = vec![f32::NAN; a.count() * right.count()];
        product(engine, a, &right, &mut out, |_, _, sums, out| out.copy_from_slice(sums));
        out
    }

    #[test]
    fn speed() {
        for (m, k, n) in [(2048, 384, 1536), (2048, 768, 3072), (2048, 1536, 384), (2048,3072,768)] {
            let a = numbers(m * k, 1);
            let b = numbers(n * k, 2);
            let right = Packed::right(Operand::of_rows(&b, n, k, k));
            let mut out = vec![bf16::ZERO; m * n];
            for engine in [Engine::Amx] {
                for threads in [1, 2] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut best = f64::MAX;
                    for _ in 0..15 {
                        let t = std::time::Instant::now();
                        pool.install(|| {
                            product(engine, Operand::of_rows(&a, m, k, k), &right, &mut out, |_, _, s, o| {
                                Number::round(s, o)
                            })
                        });
                        best = best.min(t.elapsed().as_secs_f64());
                    }
                    println!("{m} {k} {n} {engine:?} {threads}: {} GFLOP/s", 2e-9 * (m * k * n) as f64 / best);
                }
            }
            let t = std::time::Instant::now();
            let _ = Packed::right(Operand::of_rows(&b, n, k, k));
            println!("pack rows {} us", t.elapsed().as_secs_f64()*1e6);
            let t = std::time::Instant::now();
            let _ = Packed::right(Operand::of_columns(&b, k, n, k));
            println!("pack columns {} us", t.elapsed().as_secs_f64()*1e6);
        }
    }

    #[test]
    fn law_amx_is_emulated_bit_for_bit() {
        for (m, k, n) in [(1, 1, 1), (7, 33, 40), (64, 96, 32), (100, 530, 70), (33, 31, 129)] {
            let a = numbers(m * k, 1);
            let b = numbers(n * k, 2);
            let rows = Operand::of_rows(&b, n, k, k);
            let left = Operand::of_rows(&a, m, k, k);
            let x = multiply(Engine::Amx, left, rows);
            let y = multiply(Engine::Emulated, left, rows);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|t| f64::from(a[i * k + t].to_f32()) * f64::from(b[j * k + t].to_f32())).sum();
                    assert!((sum - f64::from(x[i * n + j])).abs() < 1e-3, "{i} {j} {sum} {}", x[i*n+j]);
                }
            }
            assert_eq!(x, y);
            // transposed copies
            let at: Vec<bf16> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
            let bt: Vec<bf16> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
            let z = multiply(Engine::Amx, Operand::of_columns(&at, m, k, m), Operand::of_columns(&bt, n, k, n));
            assert_eq!(x, z);
        }
    }
}
