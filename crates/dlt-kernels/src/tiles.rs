//! Products of bf16 matrices with sums of f32: on the tile registers of AMX, with the instructions
//! of AVX512-BF16, or in f32.
//!
//! Both operands are packed first, in panels of [`EDGE`] rows or columns. A block is the product of
//! two panels. Its sums are in registers while a stretch of the depth is added, so an element has
//! one order of additions, whatever the number of threads.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod dots;
mod emulated;
mod engine;
mod pack;
pub(crate) mod three;
mod weight;

use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

use crate::number::Number;
pub(crate) use engine::{Engine, Running};
pub use engine::{product_engine, set_product_engine};
use pack::Panels;
pub(crate) use pack::{Operand, Packed, Side};
pub use weight::{Packs, Weight};

/// Rows and columns of a block.
pub(crate) const EDGE: usize = 32;
/// Rows of a tile, and words of its rows.
const TILE: usize = 16;
/// Numbers along the depth that one tile holds.
const STEP: usize = 32;

/// Steps whose tiles of the right operand stay in the first cache: 32 KiB.
const CACHED_STEPS: usize = 16;
/// Panels of the right operand whose sums are in the second cache, with [`TASK_ROWS`] rows: 512 KiB.
const CACHED_PANELS: usize = 16;
/// Columns of a product that are finished at once, from a multiple of this on.
pub(crate) const STRETCH: usize = CACHED_PANELS * EDGE;
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
/// row's places in `out`. A row's columns come in rising order, [`STRETCH`] at a time.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn product<'a, E: Number, O: Send>(
    left: impl Into<Left<'a, E>>,
    right: &Packed,
    places: (&mut [O], usize),
    finish: impl Fn(usize, Range<usize>, &mut [f32], &mut [O]) + Sync,
) {
    product_by(Engine::chosen(), left.into(), right, places, finish);
}

fn product_by<E: Number, O: Send>(
    engine: Engine,
    left: Left<'_, E>,
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
        let mut scratch = SCRATCH.take();
        let Scratch { packed, sums } = &mut scratch;

        let count = out.len() / width;
        let panels = match left {
            Left::Packed(left) => left.indices(first, count),
            Left::Plain(left) => {
                packed.fill(Side::Left, left.indices(first, count));
                packed.indices(0, count)
            }
        };
        sums.resize(padded(count) * CACHED_PANELS.min(right.panels()) * EDGE, 0.0);

        for start in (0..right.panels()).step_by(CACHED_PANELS) {
            let stretch = start..(start + CACHED_PANELS).min(right.panels());
            let stride = stretch.len() * EDGE;
            let columns = stretch.start * EDGE..(stretch.end * EDGE).min(right.count());
            running.multiply_panels(panels, right, stretch, (&mut *sums, stride), false);

            let rows = sums.chunks_exact_mut(stride).zip(out.chunks_exact_mut(width));
            for (row, (sums, out)) in rows.enumerate() {
                finish(first + row, columns.clone(), &mut sums[..columns.len()], out);
            }
        }

        SCRATCH.set(scratch);
    });
}

/// The left operand of a product.
pub(crate) enum Left<'a, E> {
    /// Each task packs its rows.
    Plain(Operand<'a, E>),
    /// It serves several products.
    Packed(&'a Packed),
}

impl<'a, E> From<Operand<'a, E>> for Left<'a, E> {
    fn from(operand: Operand<'a, E>) -> Self {
        Left::Plain(operand)
    }
}

impl<E: Number> Left<'_, E> {
    fn count(&self) -> usize {
        match self {
            Left::Plain(operand) => operand.count(),
            Left::Packed(packed) => packed.count(),
        }
    }

    fn panel_tiles(&self) -> usize {
        match self {
            Left::Plain(operand) => operand.panel_tiles(),
            Left::Packed(packed) => packed.panel_tiles(),
        }
    }
}

/// Buffers of a task, which the next task of the thread uses again: new ones would be zeroed first.
#[derive(Default)]
struct Scratch {
    packed: Packed,
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
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
        out: (&mut [f32], usize),
        adds: bool,
    ) {
        self.multiply_panels(left.indices(0, left.count()), right, panels, out, adds);
    }

    fn multiply_panels(
        &self,
        left: Panels<'_>,
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
                for (panel, left) in left.iter().enumerate() {
                    let left = &left[tiles.clone()];
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
    use crate::sequence::narrow as numbers;
    use half::bf16;

    /// Rows, depth and columns: single ones, whole blocks, several tasks, stretches of the depth and
    /// of the columns, and remainders of each.
    const SIZES: [[usize; 3]; 7] = [
        [1, 1, 1],
        [7, 33, 40],
        [64, 96, 32],
        [100, 530, 70],
        [33, 31, 129],
        [300, 64, 600],
        [32, 1100, 33],
    ];

    fn multiplied<E: Number>(engine: Engine, a: Operand<'_, E>, b: Operand<'_, E>) -> Vec<f32> {
        let right = Packed::right(b);
        let columns = right.count();
        let mut out = vec![f32::NAN; a.count() * columns];
        product_by(engine, a.into(), &right, (&mut out, columns), |_, places, sums, out| {
            out[places].copy_from_slice(sums);
        });
        out
    }

    fn usable() -> impl Iterator<Item = Engine> {
        [Engine::Amx, Engine::Dots, Engine::Emulated].into_iter().filter(|e| e.is_usable())
    }

    #[test]
    fn law_every_engine_is_within_its_bound_of_the_exact_product() {
        for [m, k, n] in SIZES {
            let a = numbers(m * k, 1);
            let b = numbers(n * k, 2);
            for engine in usable() {
                let got = multiplied(
                    engine,
                    Operand::of_rows(&a, m, k, k),
                    Operand::of_rows(&b, n, k, k),
                );

                for (at, &got) in got.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let terms = a[i * k..][..k].iter().zip(&b[j * k..][..k]);
                    let terms = terms.map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let (sum, size) =
                        terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));

                    // Each of k additions rounds a partial sum, none of which is above `size`.
                    let bound = size * k as f64 * f64::from(f32::EPSILON) / 2.0;
                    assert!(
                        (f64::from(got) - sum).abs() <= bound,
                        "{engine:?} {m} {k} {n} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn law_amx_has_the_bits_of_its_definition() {
        for [m, k, n] in SIZES {
            let a = numbers(m * k, 3);
            let b = numbers(n * k, 4);
            let [a, b] = [Operand::of_rows(&a, m, k, k), Operand::of_rows(&b, n, k, k)];
            if Engine::Amx.is_usable() {
                assert_eq!(multiplied(Engine::Amx, a, b), multiplied(Engine::Emulated, a, b));
            }
        }
    }

    #[test]
    fn law_amx_reads_and_writes_denormal_numbers_as_zero() {
        if !Engine::Amx.is_usable() {
            return;
        }

        let one = [bf16::ONE; 32];
        let least = [bf16::from_bits(1); 32];
        let small = [bf16::from_bits(0x0080); 32];
        let product = |a: &[bf16], b: &[bf16]| {
            multiplied(Engine::Amx, Operand::of_rows(a, 1, 32, 32), Operand::of_rows(b, 1, 32, 32))
        };

        assert_eq!(product(&least, &one), [0.0]);
        assert_eq!(product(&small, &one), [32.0 * f32::MIN_POSITIVE]);
        let half = [bf16::from_f32(1.0 / 64.0); 32];
        assert_eq!(product(&small, &half), [0.0]);
    }

    #[test]
    fn law_operands_in_every_order_have_one_product() {
        for [m, k, n] in SIZES {
            let a = numbers(m * k, 5);
            let b = numbers(n * k, 6);
            // Rows further apart than they are wide.
            let spread = |x: &[bf16], width: usize| -> Vec<bf16> {
                x.chunks(width).flat_map(|row| [row, &[bf16::NAN; 3]].concat()).collect()
            };
            let turned = |x: &[bf16], count: usize| -> Vec<bf16> {
                (0..k * count).map(|i| x[i % count * k + i / count]).collect()
            };
            let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
            let (at, bt) = (turned(&a, m), turned(&b, n));
            let (s, st) = (spread(&a, k), spread(&bt, n));
            let (aw, bw) = (wide(&a), wide(&bt));

            for engine in usable() {
                let expected = multiplied(
                    engine,
                    Operand::of_rows(&a, m, k, k),
                    Operand::of_rows(&b, n, k, k),
                );
                let columns =
                    [Operand::of_columns(&at, m, k, m), Operand::of_columns(&bt, n, k, n)];
                assert_eq!(multiplied(engine, columns[0], columns[1]), expected);

                let apart =
                    [Operand::of_rows(&s, m, k, k + 3), Operand::of_columns(&st, n, k, n + 3)];
                assert_eq!(multiplied(engine, apart[0], apart[1]), expected);

                let [a, b] = [Operand::of_rows(&aw, m, k, k), Operand::of_columns(&bw, n, k, n)];
                assert_eq!(multiplied(engine, a, b), expected);
            }
        }
    }

    #[test]
    fn law_the_number_of_threads_changes_no_bit() {
        let [m, k, n] = [300, 200, 150];
        let a = numbers(m * k, 7);
        let b = numbers(n * k, 8);
        for engine in usable() {
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let [a, b] = [Operand::of_rows(&a, m, k, k), Operand::of_rows(&b, n, k, k)];
                    multiplied(engine, a, b)
                })
            };
            assert_eq!(on(1), on(3));
        }
    }
}
