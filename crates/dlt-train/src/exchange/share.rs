//! Which part of the work, and of each tensor, belongs to which process.

use std::ops::Range;

use candle_core::Tensor;
use dlt_kernels::optimizer::PIECE;
use dlt_models::parameters::{Layout, Parameters};

use crate::Result;

/// The share of one process among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Number of processes, R.
    pub size: usize,
}

impl Share {
    /// Of a run of one process: everything.
    pub const WHOLE: Self = Self { rank: 0, size: 1 };

    /// Whether this process has everything.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.size == 1
    }

    /// The same share as another process has.
    #[must_use]
    pub fn of(self, rank: usize) -> Self {
        Self { rank, ..self }
    }

    /// Its part of `count` equal things in a row: a run of them, at most one longer than another
    /// process's.
    #[must_use]
    pub fn items(self, count: usize) -> Range<usize> {
        let start = |rank: usize| count * rank / self.size;
        start(self.rank)..start(self.rank + 1)
    }

    /// Its elements of each parameter of a layout. Layouts are cut as a whole, into runs of about
    /// the same length, at multiples of [`PIECE`] within each parameter. So the partial sums of a
    /// norm are those of the whole tensors.
    #[must_use]
    pub fn ranges(self, layout: &Layout) -> Vec<Range<usize>> {
        let counts = layout.entries().iter().map(|entry| entry.shape.iter().product());
        self.ranges_of(&counts.collect::<Vec<_>>())
    }

    fn ranges_of(self, counts: &[usize]) -> Vec<Range<usize>> {
        let all: usize = counts.iter().sum();
        let mut before = 0;

        let ranges = counts.iter().map(|&count| {
            let mut range: Option<Range<usize>> = None;
            for start in (0..count).step_by(PIECE) {
                let end = (start + PIECE).min(count);
                // By its middle, so that no process gets more than half a piece too much.
                let owner = (before + (start + end) / 2) * self.size / all;
                if owner == self.rank {
                    range = Some(range.map_or(start, |range| range.start)..end);
                }
            }

            before += count;
            range.unwrap_or(0..0)
        });
        ranges.collect()
    }

    /// Its elements of each parameter, as flat views of their memory; the parameters themselves if
    /// it has everything.
    ///
    /// # Errors
    /// Fails if a view cannot be made, which contiguous parameters exclude.
    pub(crate) fn views(self, parameters: &Parameters) -> Result<Vec<Tensor>> {
        self.parts(parameters.layout(), &parameters.tensors())
    }

    /// Its elements of tensors in the order of a layout, as flat views; the tensors themselves if it
    /// has everything.
    ///
    /// # Errors
    /// As [`views`](Self::views).
    pub(crate) fn parts(self, layout: &Layout, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.is_whole() {
            return Ok(tensors.to_vec());
        }

        let ranges = self.ranges(layout);
        tensors.iter().zip(ranges).map(|(tensor, range)| part(tensor, &range)).collect()
    }
}

/// A flat view of some elements of a contiguous tensor.
pub(super) fn part(tensor: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    let flat = tensor.flatten_all().and_then(|flat| flat.narrow(0, range.start, range.len()));
    Ok(flat.map_err(dlt_models::ModelError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_shares_cover_everything_once_and_are_cut_at_pieces() {
        let counts = [3 * PIECE + 5, 0, 7, PIECE, 11 * PIECE - 1, 1];
        for size in [1, 2, 4, 8] {
            let shares: Vec<_> =
                (0..size).map(|rank| Share { rank, size }.ranges_of(&counts)).collect();

            for (tensor, &count) in counts.iter().enumerate() {
                let mut next = 0;
                for range in shares.iter().map(|ranges| &ranges[tensor]) {
                    if !range.is_empty() {
                        assert_eq!(range.start, next);
                        assert!(range.end == count || range.end.is_multiple_of(PIECE));
                        next = range.end;
                    }
                }
                assert_eq!(next, count, "tensor {tensor} of {size} processes");
            }

            let all: usize = counts.iter().sum();
            for ranges in &shares {
                let own: usize = ranges.iter().map(ExactSizeIterator::len).sum();
                assert!(own.abs_diff(all / size) <= PIECE, "{own} of {all} for 1 of {size}");
            }
        }
    }

    #[test]
    fn items_are_shared_in_order() {
        let items = |count, size| -> Vec<_> {
            (0..size).map(|rank| Share { rank, size }.items(count)).collect()
        };
        assert_eq!(items(5, 2), [0..2, 2..5]);
        assert_eq!(items(1, 4), [0..0, 0..0, 0..0, 0..1]);
        assert_eq!(items(8, 4), [0..2, 2..4, 4..6, 6..8]);
        assert_eq!(items(3, 1), vec![0..3; 1]);
    }
}
