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
mod weight;

use rayon::prelude::*;
use std::ops::Range;

use crate::number::Number;
pub use engine::product_engine;
pub(crate) use engine::{Engine, Running};
pub(crate) use pack::{Operand, Packed, Side};
pub use weight::{Packs, Weight};

/// Rows and columns of a block.
const EDGE: usize = 32;
/// Rows of a tile, and words of its rows.
const TILE: usize = 16;
/// Numbers along the depth that one tile holds.
const STEP: usize = 32;

/// Steps whose tiles of the right operand stay in the first cache: 32 KiB.
const CACHED_STEPS: usize = 16;
/// Panels of the right operand whose sums are in the second cache, with [`TASK_ROWS`] rows: 512 KiB.
const CACHED_PANELS: usize = 16;
/// Rows of a task, at most.
const TASK_ROWS: usize = 256;

/// 16 x 16 words, each a pair of bf16 numbers along the depth; the first is in the low half.
#[derive(Clone, Debug)]
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

/// The product of two operands, row after row. `out` has `width` places for each row. `finish` gets
/// the number of a row, some of its columns, and their sums, which it may overwrite; it changes the
/// row's places in `out`. A row's columns come in rising order.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn product<E: Number, O: Send>(
    left: Operand<'_, E>,
    right: &Packed,
    places: (&mut [O], usize),
    finish: impl Fn(usize, Range<usize>, &mut [f32], &mut [O]) + Sync,
) {
    product_by(Engine::chosen(), left, right, places, finish);
}

fn product_by<E: Number, O: Send>(
    engine: Engine,
    left: Operand<'_, E>,
    right: &Packed,
    (out, width): (&mut [O], usize),
    finish: impl Fn(usize, Range<usize>, &mut [f32], &mut [O]) + Sync,
) {
    let panel_tiles = left.panel_tiles();
    assert!(
        panel_tiles == right.panel_tiles() && out.len() == left.count() * width,
        "matrices that do not fit: {} rows of {panel_tiles} tiles, {} tiles, {} places of {width}",
        left.count(),
        right.panel_tiles(),
        out.len()
    );

    let rows = task_rows(left.count());
    out.par_chunks_mut(rows * width).enumerate().for_each(|(task, out)| {
        let running = engine.start();
        let first = task * rows;
        let panels = Packed::new(Side::Left, left.indices(first, out.len() / width));
        let mut sums = vec![0.0; padded(panels.count()) * CACHED_PANELS.min(right.panels()) * EDGE];

        for start in (0..right.panels()).step_by(CACHED_PANELS) {
            let stretch = start..(start + CACHED_PANELS).min(right.panels());
            let stride = stretch.len() * EDGE;
            let columns = stretch.start * EDGE..(stretch.end * EDGE).min(right.count());
            running.multiply_into(&panels, right, stretch, (&mut sums, stride), false);

            let rows = sums.chunks_exact_mut(stride).zip(out.chunks_exact_mut(width));
            for (row, (sums, out)) in rows.enumerate() {
                finish(first + row, columns.clone(), &mut sums[..columns.len()], out);
            }
        }
    });
}

/// A size with what fills its last panel.
pub(crate) fn padded(size: usize) -> usize {
    size.next_multiple_of(EDGE)
}

/// Panels of a size.
pub(crate) fn panels_of(size: usize) -> usize {
    size.div_ceil(EDGE)
}

impl Running {
    /// The products of the left operand with some panels of the right one, in rows of `out` that
    /// are `stride` apart; `out` has room for whole panels. The depth is that of `left`; that of
    /// `right` may be larger.
    pub(crate) fn multiply_into(
        &self,
        left: &Packed,
        right: &Packed,
        panels: Range<usize>,
        (out, stride): (&mut [f32], usize),
        adds: bool,
    ) {
        for first in (0..left.panel_tiles()).step_by(2 * CACHED_STEPS) {
            let tiles = first..(first + 2 * CACHED_STEPS).min(left.panel_tiles());
            let adds = adds || first > 0;

            // The tiles of a panel of the right operand stay in the first cache.
            for (place, panel) in panels.clone().enumerate() {
                let right = &right.panel(panel)[tiles.clone()];
                for panel in 0..left.panels() {
                    let left = &left.panel(panel)[tiles.clone()];
                    let out = &mut out[panel * EDGE * stride + place * EDGE..];
                    self.multiply(Block::new(left, right, out, stride, adds));
                }
            }
        }
    }
}

/// Rows that a task computes: many enough to use what is in the second cache often, few enough for
/// all threads to have some.
fn task_rows(rows: usize) -> usize {
    let shared = rows.div_ceil(4 * rayon::current_num_threads());
    shared.next_multiple_of(EDGE).min(TASK_ROWS)
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
        product_by(engine, a, &right, (&mut out, right.count()), |_, c, sums, out| {
            out[c].copy_from_slice(sums)
        });
        out
    }

    #[test]
    fn speed() {
        for (m, k, n) in
            [(2048, 384, 1536), (2048, 768, 3072), (2048, 1536, 384), (2048, 3072, 768)]
        {
            let a = numbers(m * k, 1);
            let b = numbers(n * k, 2);
            let right = Packed::right(Operand::of_rows(&b, n, k, k));
            let mut out = vec![bf16::ZERO; m * n];
            for engine in [Engine::Amx] {
                for threads in [1, 2] {
                    let pool =
                        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut best = f64::MAX;
                    for _ in 0..15 {
                        let t = std::time::Instant::now();
                        pool.install(|| {
                            product_by(
                                engine,
                                Operand::of_rows(&a, m, k, k),
                                &right,
                                (&mut out, n),
                                |_, c, s, o| Number::round(s, &mut o[c]),
                            )
                        });
                        best = best.min(t.elapsed().as_secs_f64());
                    }
                    println!(
                        "{m} {k} {n} {engine:?} {threads}: {} GFLOP/s",
                        2e-9 * (m * k * n) as f64 / best
                    );
                }
            }
            let t = std::time::Instant::now();
            let _ = Packed::right(Operand::of_rows(&b, n, k, k));
            println!("pack rows {} us", t.elapsed().as_secs_f64() * 1e6);
            let t = std::time::Instant::now();
            let _ = Packed::right(Operand::of_columns(&b, k, n, k));
            println!("pack columns {} us", t.elapsed().as_secs_f64() * 1e6);
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
                    let sum: f64 = (0..k)
                        .map(|t| {
                            f64::from(a[i * k + t].to_f32()) * f64::from(b[j * k + t].to_f32())
                        })
                        .sum();
                    assert!(
                        (sum - f64::from(x[i * n + j])).abs() < 1e-3,
                        "{i} {j} {sum} {}",
                        x[i * n + j]
                    );
                }
            }
            assert_eq!(x, y);
            // transposed copies
            let at: Vec<bf16> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
            let bt: Vec<bf16> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
            let z = multiply(
                Engine::Amx,
                Operand::of_columns(&at, m, k, m),
                Operand::of_columns(&bt, n, k, n),
            );
            assert_eq!(x, z);
        }
    }
}
