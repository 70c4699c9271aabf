//! Operands in the order in which the products read them. Numbers are in pairs along the depth, a
//! word each, and words are in tiles of 16 x 16. The left operand's tiles have an index in each row,
//! the right operand's a pair.

use half::bf16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{EDGE, STEP, TILE, Tile};
use crate::lanes::dispatch;
use crate::number::{Number, widened};

/// Panels that one task packs: enough to read whole stretches of memory.
const TASK_PANELS: usize = 4;

/// An operand: numbers by their index, which is a row of the left matrix or a column of the right
/// one, and by their place along the depth, over which products are summed.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, E> {
    data: &'a [E],
    /// Indices.
    count: usize,
    depth: usize,
    stride: usize,
    along: Along,
    terms: Terms,
}

/// What stands for the product of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terms {
    /// The product of the nearest bf16.
    One,
    /// Three products of a head and a rest.
    Three,
}

/// What a bf16 holds of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The nearest bf16.
    Head,
    /// The nearest bf16 of what the head leaves.
    Rest,
}

impl Terms {
    /// The part in each term.
    fn parts(self, side: Side) -> &'static [Part] {
        match (self, side) {
            (Terms::One, _) => &[Part::Head],
            (Terms::Three, Side::Left) => &[Part::Head, Part::Head, Part::Rest],
            (Terms::Three, Side::Right) => &[Part::Head, Part::Rest, Part::Head],
        }
    }

    fn count(self) -> usize {
        match self {
            Terms::One => 1,
            Terms::Three => 3,
        }
    }
}

/// What is adjacent in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    /// The numbers of an index.
    Depth,
    /// The numbers at one place of the depth.
    Indices,
}

impl<'a, E: Number> Operand<'a, E> {
    /// `count` indices with `depth` adjacent numbers each, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, which is a bug in the caller.
    pub(crate) fn of_rows(data: &'a [E], count: usize, depth: usize, stride: usize) -> Self {
        assert!(fits(data.len(), count, depth, stride), "an operand ends behind its buffer");
        Operand { data, count, depth, stride, along: Along::Depth, terms: Terms::One }
    }

    /// `depth` rows with a number of each of `count` indices, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, which is a bug in the caller.
    pub(crate) fn of_columns(data: &'a [E], count: usize, depth: usize, stride: usize) -> Self {
        assert!(fits(data.len(), depth, count, stride), "an operand ends behind its buffer");
        Operand { data, count, depth, stride, along: Along::Indices, terms: Terms::One }
    }

    /// The same numbers, split for three products.
    pub(super) fn in_three(self) -> Self {
        Operand { terms: Terms::Three, ..self }
    }

    pub(super) fn count(self) -> usize {
        self.count
    }

    /// Tiles of one panel.
    pub(super) fn panel_tiles(self) -> usize {
        2 * steps(self.depth) * self.terms.count()
    }

    /// Some of the number's indices.
    pub(super) fn indices(self, first: usize, count: usize) -> Self {
        let skipped = if self.along == Along::Depth { first * self.stride } else { first };
        Operand { data: &self.data[skipped..], count, ..self }
    }

    /// Writes panels of [`EDGE`] indices, from the first index on. Zeros fill the last panel, and
    /// the end of the depth.
    pub(super) fn pack(self, side: Side, into: &mut [Tile]) {
        let turns = (side == Side::Left) != (self.along == Along::Depth);
        dispatch(Pack { operand: self, parts: self.terms.parts(side), turns, into });
    }
}

fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    let end = (rows.max(1) - 1).checked_mul(stride).and_then(|last| last.checked_add(columns));
    rows > 0 && columns > 0 && stride >= columns && end.is_some_and(|end| end <= length)
}

/// Steps of [`STEP`] numbers along a depth.
pub(super) fn steps(depth: usize) -> usize {
    depth.div_ceil(STEP)
}

/// Which operand of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A packed operand.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    tiles: Vec<Tile>,
    count: usize,
    panel_tiles: usize,
}

impl Packed {
    /// Packs an operand on the calling thread.
    pub(crate) fn new<E: Number>(side: Side, operand: Operand<'_, E>) -> Self {
        let mut packed = Packed::default();
        packed.fill(side, operand);
        packed
    }

    /// [`Packed::new`] in the memory of this one.
    pub(super) fn fill<E: Number>(&mut self, side: Side, operand: Operand<'_, E>) {
        self.resize(operand);
        operand.pack(side, &mut self.tiles);
    }

    /// Packs the right operand of a product on all threads.
    pub(crate) fn right<E: Number>(operand: Operand<'_, E>) -> Self {
        Packed::on_all_threads(Side::Right, operand)
    }

    /// [`Packed::new`] on all threads.
    pub(crate) fn on_all_threads<E: Number>(side: Side, operand: Operand<'_, E>) -> Self {
        let mut packed = Packed::default();
        packed.resize(operand);
        let tasks = packed.tiles.par_chunks_mut(TASK_PANELS * packed.panel_tiles);

        tasks.enumerate().for_each(|(task, tiles)| {
            let first = task * TASK_PANELS * EDGE;
            let count = (TASK_PANELS * EDGE).min(operand.count - first);
            operand.indices(first, count).pack(side, tiles);
        });

        packed
    }

    fn resize<E: Number>(&mut self, operand: Operand<'_, E>) {
        self.count = operand.count;
        self.panel_tiles = operand.panel_tiles();
        self.tiles.resize(self.panels() * self.panel_tiles, Tile::ZERO);
    }

    /// The panels of some indices, from the first one of a panel on.
    pub(super) fn indices(&self, first: usize, count: usize) -> Panels<'_> {
        let panels = first / EDGE..(first + count).div_ceil(EDGE);
        let tiles = &self.tiles[panels.start * self.panel_tiles..panels.end * self.panel_tiles];
        Panels { tiles, panel_tiles: self.panel_tiles }
    }

    /// Indices.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Panels of [`EDGE`] indices.
    pub(super) fn panels(&self) -> usize {
        self.count.div_ceil(EDGE)
    }

    /// Tiles of a panel, two for each step along the depth.
    pub(super) fn panel_tiles(&self) -> usize {
        self.panel_tiles
    }

    pub(super) fn panel(&self, panel: usize) -> &[Tile] {
        &self.tiles[panel * self.panel_tiles..][..self.panel_tiles]
    }
}

/// Some panels of a packed operand.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    tiles: &'a [Tile],
    panel_tiles: usize,
}

impl<'a> Panels<'a> {
    pub(super) fn panel_tiles(self) -> usize {
        self.panel_tiles
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'a [Tile]> {
        self.tiles.chunks_exact(self.panel_tiles)
    }
}

/// Fills panels, compiled for each instruction set.
struct Pack<'a, 'b, E> {
    operand: Operand<'a, E>,
    /// What each term of a step holds.
    parts: &'static [Part],
    /// Whether a tile as it is read has its words at exchanged places.
    turns: bool,
    into: &'b mut [Tile],
}

impl<E: Number> WithSimd for Pack<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let panel_tiles = self.operand.panel_tiles();
        let panels = self.into.len() / panel_tiles;

        // In the order of memory: the numbers of an index first, or those at one place of the depth.
        match self.operand.along {
            Along::Depth => {
                for panel in 0..panels {
                    for number in 0..panel_tiles {
                        self.fill(panel, number);
                    }
                }
            }
            Along::Indices => {
                for step in 0..panel_tiles / 2 {
                    for panel in 0..panels {
                        self.fill(panel, 2 * step);
                        self.fill(panel, 2 * step + 1);
                    }
                }
            }
        }
    }
}

impl<E: Number> Pack<'_, '_, E> {
    /// Fills a tile of a panel.
    #[inline(always)]
    fn fill(&mut self, panel: usize, number: usize) {
        let operand = self.operand;
        let tile = &mut self.into[panel * operand.panel_tiles() + number];
        let index = panel * EDGE + number % 2 * TILE;
        let term = number / 2;
        let place = term / self.parts.len() * STEP;

        match self.parts[term % self.parts.len()] {
            Part::Head => operand.read(index, place, E::to_bf16, tile),
            Part::Rest => operand.read(index, place, rest, tile),
        }
        if self.turns {
            turn(tile);
        }
    }
}

impl<E: Number> Operand<'_, E> {
    /// A tile in the order of memory.
    #[inline(always)]
    fn read(self, index: usize, place: usize, part: impl Fn(E) -> bf16 + Copy, tile: &mut Tile) {
        match self.along {
            Along::Depth => self.read_rows(index, place, part, tile),
            Along::Indices => self.read_columns(index, place, part, tile),
        }
    }

    /// A tile with an index in each row.
    #[inline(always)]
    fn read_rows(
        self,
        index: usize,
        place: usize,
        part: impl Fn(E) -> bf16 + Copy,
        tile: &mut Tile,
    ) {
        let length = STEP.min(self.depth - place);
        for (i, words) in tile.0.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            let Some(row) = (index + i < self.count).then(|| (index + i) * self.stride + place)
            else {
                *words = [0; TILE];
                continue;
            };

            match self.data[row..][..length].first_chunk::<STEP>() {
                Some(whole) => fill_pairs(whole, part, words),
                None => {
                    let mut whole = [E::zero(); STEP];
                    whole[..length].copy_from_slice(&self.data[row..][..length]);
                    fill_pairs(&whole, part, words);
                }
            }
        }
    }

    /// A tile with a pair along the depth in each row.
    #[inline(always)]
    fn read_columns(
        self,
        index: usize,
        place: usize,
        part: impl Fn(E) -> bf16 + Copy,
        tile: &mut Tile,
    ) {
        let length = TILE.min(self.count.saturating_sub(index));
        for (pair, words) in tile.0.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            let place = place + 2 * pair;
            if length == TILE && place + 1 < self.depth {
                let low = &self.data[place * self.stride + index..][..TILE];
                let high = &self.data[(place + 1) * self.stride + index..][..TILE];
                for ((word, &low), &high) in words.iter_mut().zip(low).zip(high) {
                    *word = pair_of(part(low), part(high));
                }
                continue;
            }

            *words = [0; TILE];
            for (i, word) in words.iter_mut().enumerate().take(length) {
                let at = |place| {
                    if place < self.depth {
                        self.data[place * self.stride + index + i]
                    } else {
                        E::zero()
                    }
                };
                *word = pair_of(part(at(place)), part(at(place + 1)));
            }
        }
    }
}

#[inline(always)]
fn fill_pairs<E: Number>(numbers: &[E; STEP], part: impl Fn(E) -> bf16, words: &mut [u32; TILE]) {
    for (word, pair) in words.iter_mut().zip(numbers.as_chunks::<2>().0) {
        *word = pair_of(part(pair[0]), part(pair[1]));
    }
}

/// What its nearest bf16 leaves of a number.
#[inline(always)]
fn rest<E: Number>(number: E) -> bf16 {
    (number.to_f32() - widened(number.to_bf16())).to_bf16()
}

#[inline(always)]
fn pair_of(low: bf16, high: bf16) -> u32 {
    u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16
}

/// Exchanges rows and columns. Each of four rounds shuffles the first and the second half of all
/// rows into each other, like a deck of cards, which moves one bit of a word's row number to the
/// end of its column number.
#[inline(always)]
fn turn(tile: &mut Tile) {
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(simd) = Arch::new() {
        let low = pulp::cast(std::array::from_fn::<u32, TILE, _>(|i| shuffled(i, 0)));
        let high = pulp::cast(std::array::from_fn::<u32, TILE, _>(|i| shuffled(i, TILE / 2)));
        let mut rows: [_; TILE] = pulp::cast(tile.0);

        for _ in 0..4 {
            let from = rows;
            for i in 0..TILE / 2 {
                let (first, second) = (from[i], from[i + TILE / 2]);
                rows[2 * i] = simd.avx512f._mm512_permutex2var_epi32(first, low, second);
                rows[2 * i + 1] = simd.avx512f._mm512_permutex2var_epi32(first, high, second);
            }
        }

        tile.0 = pulp::cast(rows);
        return;
    }

    let from = tile.0;
    for (row, words) in tile.0.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        for (column, word) in words.iter_mut().enumerate() {
            *word = from[column * TILE + row];
        }
    }
}

/// Where word `i` of a shuffled row comes from: words of the second row have numbers from
/// [`TILE`] on.
fn shuffled(i: usize, first: usize) -> u32 {
    (first + i / 2 + i % 2 * TILE) as u32
}
