//! Gradients on their way to the processes that own them, and weights on their way back.
//!
//! A gradient is cut into R pieces. All versions of piece r go to process r, which sums them in a
//! binary tree over the ranks. After its AdamW step the owner sends the new weights of its piece to
//! all. A process thus sends 2 (R - 1) / R times the bytes of the gradients in a step, as in a ring
//! all-reduce, and no library chooses the order of a sum.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use candle_core::{Device, Tensor};
use dlt_kernels::optimizer::squared_pieces;
use dlt_models::backward::{Gradients, Holder};
use dlt_models::batch::Input;
use dlt_models::memory::UNDER_WAY;
use dlt_models::parameters::{Layout, Parameters};
use dlt_models::{Batch, Model, ModelError};

use super::share::part;
use super::{Exchange, Share, words};
use crate::Result;

/// Whose gradients or weights are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Of the parameters outside of blocks.
    Shared,
    /// In blocks.
    Block(Holder),
}

/// The rows of one shared parameter that each process's windows touch. No other row of its gradient
/// has been written, so only these are sent.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    /// Number of the parameter in the layout of those that train.
    parameter: usize,
    /// Numbers of a row.
    width: usize,
    /// Rising row numbers, by rank.
    rows: Vec<Vec<usize>>,
}

impl Touched {
    /// The rows of the token table that a batch touches; `None` if the table's whole gradient is
    /// written, because it is the output's table too, or if it does not train.
    pub(crate) fn of(model: &Model, batch: &Batch<'_>, share: Share) -> Option<Self> {
        let Input::Tokens(tokens) = batch.input else { return None };
        let table = model.token_table()?;
        let layout = model.trained_shared().layout();
        let parameter = layout.entries().iter().position(|entry| entry.name == table)?;
        let &[_, width] = layout.entries()[parameter].shape.as_slice() else { return None };

        let per_window = tokens.ids.len() / batch.windows.max(1);
        let rows = (0..share.size).map(|rank| {
            let windows = share.of(rank).items(batch.windows);
            let ids = &tokens.ids[windows.start * per_window..windows.end * per_window];
            ids.iter().map(|&id| id as usize).collect::<BTreeSet<_>>().into_iter().collect()
        });
        Some(Self { parameter, width, rows: rows.collect() })
    }

    /// The elements of a piece that lie in the rows of a process; `None` if the whole piece takes
    /// no more words.
    fn spans(&self, rank: usize, piece: &Range<usize>) -> Option<Vec<Range<usize>>> {
        let spans = self.rows[rank].iter().map(|row| {
            let row = row * self.width..(row + 1) * self.width;
            row.start.max(piece.start)..row.end.min(piece.end)
        });
        let spans: Vec<_> = spans.filter(|span| span.start < span.end).collect();
        let words: usize = spans.iter().map(ExactSizeIterator::len).sum();
        (words < piece.len()).then_some(spans)
    }
}

/// One exchange that is under way.
pub(super) struct Flight {
    key: Key,
    /// This process's version of its piece: all tensors of the layout, one after the other.
    own: Vec<f32>,
    /// Elements of each tensor in the piece.
    piece: Vec<Range<usize>>,
    touched: Option<Touched>,
    /// Where the gradients are; `None` if there are none.
    device: Option<Device>,
}

impl Exchange {
    /// Begins to send gradients of a layout to their owners. If many exchanges are under way, it
    /// first waits for the oldest one, whose sums go to `arrived`.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn send_gradients(
        &mut self,
        key: Key,
        layout: &Layout,
        gradients: Vec<Tensor>,
        touched: Option<&Touched>,
        arrived: &mut Gradients,
    ) -> Result<()> {
        while self.flights.len() >= UNDER_WAY {
            self.land(arrived)?;
        }

        let share = self.share();
        let piece_of = |rank: usize| share.of(rank).ranges(layout);
        let piece = piece_of(share.rank);
        let mut outgoing = Vec::with_capacity(share.size);

        for rank in 0..share.size {
            if rank == share.rank {
                outgoing.push(Vec::new());
                continue;
            }

            // Of the rows that this process has touched, those that the other one owns.
            outgoing.push(words::of_f32(gathered(
                &gradients,
                &piece_of(rank),
                |tensor, range| spans(touched, tensor, share.rank, range),
            )?));
        }

        let expected = (0..share.size).map(|rank| {
            let of = |(tensor, range): (usize, &Range<usize>)| -> usize {
                spans(touched, tensor, rank, range).iter().map(ExactSizeIterator::len).sum()
            };
            piece.iter().enumerate().map(of).sum()
        });
        let expected = expected.collect();

        let own = gathered(&gradients, &piece, |_, range| vec![range.clone()])?;
        let device = gradients.first().map(|first| first.device().clone());
        // Freed before the exchange needs memory.
        drop(gradients);

        self.begin("gradients", outgoing, expected)?;
        self.flights.push_back(Flight { key, own, piece, touched: touched.cloned(), device });
        Ok(())
    }

    /// Waits for all gradients that are under way.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn land_all(&mut self, arrived: &mut Gradients) -> Result<()> {
        while !self.flights.is_empty() {
            self.land(arrived)?;
        }
        Ok(())
    }

    /// Waits for the oldest gradients under way, and sums the versions of this process's piece.
    fn land(&mut self, arrived: &mut Gradients) -> Result<()> {
        let received = self.finish()?;
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        let Flight { key, own, piece, touched, device } = flight;
        let rank = self.world.rank;
        let mut own = Some(own);

        let versions = received.into_iter().enumerate().map(|(from, words)| {
            if from == rank {
                return own.take().unwrap_or_default();
            }
            spread_out(words::to_f32(words), &piece, |tensor, range| {
                spans(touched.as_ref(), tensor, from, range)
            })
        });

        let sum = tree_sum(versions.collect());
        let mut start = 0;
        let tensors = piece.iter().zip(device.iter().cycle()).map(|(range, device)| {
            let numbers = &sum[start..start + range.len()];
            start += range.len();
            Tensor::from_slice(numbers, range.len(), device)
        });
        let tensors = tensors.collect::<candle_core::Result<_>>().map_err(ModelError::from)?;

        match key {
            Key::Shared => arrived.shared = tensors,
            Key::Block(Holder::Slot(slot)) => drop(arrived.slots.insert(slot, tensors)),
            Key::Block(Holder::Layer(layer)) => drop(arrived.kept.insert(layer, tensors)),
        }
        Ok(())
    }

    /// Sums the sketches of all processes in a binary tree over the ranks.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn sketches(&mut self, gradients: &mut Gradients) -> Result<()> {
        if let Some(own) = gradients.sketches.take() {
            let rows = self.numbers("sketches of gradients", own.rows())?;
            gradients.sketches = Some(own.with_rows(tree_sum(rows)));
        }
        Ok(())
    }

    /// Euclidean norm of all gradients together, of which each process has its pieces. The partial
    /// sums are added in the order in which one process adds them.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn norm(&mut self, gradients: &Gradients) -> Result<f64> {
        let share = self.share();
        if share.is_whole() {
            return Ok(gradients.norm()?);
        }

        let mut own = Vec::new();
        let pieces = gradients.all();
        let mut counts = Vec::new();
        for &piece in &pieces {
            let sums = squared_pieces(piece).map_err(ModelError::from)?;
            counts.push(sums.len() as f64);
            own.extend(sums);
        }

        let counts = self.numbers("norms of gradients", &counts)?;
        let sums = self.numbers("norms of gradients", &own)?;
        let mut sums: Vec<_> = sums.iter().map(|sums| sums.iter()).collect();
        let mut total = Vec::new();

        for tensor in 0..pieces.len() {
            // All pieces of a tensor in their order, as if it were whole.
            let partial = counts.iter().zip(&mut sums).flat_map(|(counts, sums)| {
                sums.take(counts.get(tensor).copied().unwrap_or_default() as usize)
            });
            total.push(partial.sum::<f64>());
        }

        Ok(total.iter().sum::<f64>().sqrt())
    }

    /// Name of the first gradient that is not finite, over all processes.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn first_non_finite(
        &mut self,
        model: &Model,
        gradients: &Gradients,
    ) -> Result<Option<String>> {
        let own = model.first_non_finite(gradients)?.map_or(f64::INFINITY, |number| number as f64);
        let first = self.numbers("gradients", &[own])?.concat();
        let first = first.into_iter().fold(f64::INFINITY, f64::min);
        Ok(first.is_finite().then(|| model.gradient_name(first as usize)).flatten())
    }

    /// Sends the weights of this process's pieces to all others, after a step of every slot, and
    /// writes theirs into the model.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn spread_weights(&mut self, model: &Model) -> Result<()> {
        if self.share().is_whole() {
            return Ok(());
        }

        // Several slots can share one storage, whose weights are sent once.
        let storages: BTreeMap<_, usize> =
            model.slots().into_iter().map(|slot| (model.binding().storage(slot), slot)).collect();
        let blocks = storages.values().map(|&slot| model.slot_parameters(slot));
        let mut sent = VecDeque::new();

        let kept = model.keepers().map(|layer| model.bank().kept(layer));
        for parameters in std::iter::once(model.trained_shared()).chain(blocks).chain(kept) {
            if sent.len() >= UNDER_WAY
                && let Some(oldest) = sent.pop_front()
            {
                self.take_weights(oldest)?;
            }
            self.send_weights(parameters)?;
            sent.push_back(parameters);
        }

        sent.into_iter().try_for_each(|parameters| self.take_weights(parameters))
    }

    fn send_weights(&mut self, parameters: &Parameters) -> Result<()> {
        let share = self.share();
        let whole = |_: usize, range: &Range<usize>| vec![range.clone()];
        let own = share.ranges(parameters.layout());
        let own = words::of_f32(gathered(&parameters.tensors(), &own, whole)?);

        let expected = (0..share.size).map(|rank| {
            share.of(rank).ranges(parameters.layout()).iter().map(ExactSizeIterator::len).sum()
        });
        self.begin("weights", vec![own; share.size], expected.collect())
    }

    fn take_weights(&mut self, parameters: &Parameters) -> Result<()> {
        let share = self.share();
        for (rank, words) in self.finish()?.into_iter().enumerate() {
            if rank == share.rank {
                continue;
            }

            let numbers = words::to_f32(words);
            let mut start = 0;
            let ranges = share.of(rank).ranges(parameters.layout());
            for (weight, range) in parameters.tensors().iter().zip(ranges) {
                let numbers = &numbers[start..start + range.len()];
                start += range.len();
                if range.is_empty() {
                    continue;
                }

                // A flat view of a contiguous weight shares its memory.
                let write = || -> candle_core::Result<()> {
                    let numbers = Tensor::from_slice(numbers, range.len(), weight.device())?;
                    weight.flatten_all()?.slice_set(&numbers, 0, range.start)
                };
                write().map_err(ModelError::from)?;
            }
        }
        Ok(())
    }

    /// Joins a tensor of which each process has the piece `own`, in process 0; the others get
    /// `None`. `number` is its number in the layout.
    ///
    /// # Errors
    /// As [`Exchange`].
    pub(crate) fn whole(
        &mut self,
        layout: &Layout,
        number: usize,
        own: Vec<f32>,
    ) -> Result<Option<Vec<f32>>> {
        let share = self.share();
        let pieces: Vec<_> =
            (0..share.size).map(|rank| share.of(rank).ranges(layout)[number].clone()).collect();
        let mut outgoing = vec![Vec::new(); share.size];
        let mut expected = vec![0; share.size];

        if !self.writes() {
            outgoing[0] = words::of_f32(own);
            self.begin("moments", outgoing, expected)?;
            self.finish()?;
            return Ok(None);
        }

        expected = pieces.iter().map(ExactSizeIterator::len).collect();
        self.begin("moments", outgoing, expected)?;
        let mut whole = vec![0.0; pieces.iter().map(ExactSizeIterator::len).sum()];
        for ((rank, words), range) in self.finish()?.into_iter().enumerate().zip(pieces) {
            match rank {
                0 => whole[range].copy_from_slice(&own),
                _ => whole[range].copy_from_slice(&words::to_f32(words)),
            }
        }
        Ok(Some(whole))
    }
}

/// The elements of a piece that process `rank` sends: the whole of a tensor's range, or only the
/// rows that it has touched.
fn spans(
    touched: Option<&Touched>,
    tensor: usize,
    rank: usize,
    range: &Range<usize>,
) -> Vec<Range<usize>> {
    touched
        .filter(|touched| touched.parameter == tensor)
        .and_then(|touched| touched.spans(rank, range))
        .unwrap_or_else(|| vec![range.clone()])
}

/// The numbers of spans of each tensor's piece, one after the other.
fn gathered(
    tensors: &[Tensor],
    piece: &[Range<usize>],
    spans: impl Fn(usize, &Range<usize>) -> Vec<Range<usize>>,
) -> Result<Vec<f32>> {
    let mut numbers = Vec::new();
    for (number, (tensor, range)) in tensors.iter().zip(piece).enumerate() {
        for span in spans(number, range) {
            let values = part(tensor, &span)?.to_vec1::<f32>().map_err(ModelError::from)?;
            numbers.extend(values);
        }
    }
    Ok(numbers)
}

/// A whole piece from the numbers of [`gathered`], with zeros between the spans.
fn spread_out(
    numbers: Vec<f32>,
    piece: &[Range<usize>],
    spans: impl Fn(usize, &Range<usize>) -> Vec<Range<usize>>,
) -> Vec<f32> {
    let length = piece.iter().map(ExactSizeIterator::len).sum();
    if numbers.len() == length {
        return numbers;
    }

    let mut whole = vec![0.0; length];
    let (mut from, mut start) = (0, 0);
    for (number, range) in piece.iter().enumerate() {
        for span in spans(number, range) {
            let into = start + span.start - range.start;
            whole[into..into + span.len()].copy_from_slice(&numbers[from..from + span.len()]);
            from += span.len();
        }
        start += range.len();
    }
    whole
}

/// The sum of versions of the same numbers, in a binary tree: neighbours first.
fn tree_sum<T: Copy + std::ops::AddAssign>(mut versions: Vec<Vec<T>>) -> Vec<T> {
    while versions.len() > 1 {
        let mut pairs = versions.into_iter();
        let mut sums = Vec::new();
        while let Some(mut left) = pairs.next() {
            if let Some(right) = pairs.next() {
                left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
            }
            sums.push(left);
        }
        versions = sums;
    }

    versions.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_a_tree_adds_neighbours_first() {
        let versions = |n: usize| -> Vec<Vec<f32>> {
            (0..n).map(|i| vec![0.1 + i as f32 * 1e-7, 1e8 * (i as f32 - 1.5)]).collect()
        };
        let [a, b, c, d] = &versions(4)[..] else { panic!("four") };
        let expected: Vec<_> = (0..2).map(|i| (a[i] + b[i]) + (c[i] + d[i])).collect();
        assert_eq!(tree_sum(versions(4)), expected);
        assert_eq!(tree_sum(versions(1)), versions(1)[0]);
    }

    #[test]
    fn law_touched_rows_arrive_in_their_places_and_the_rest_is_zero() {
        // A table of 6 rows of 4, of which a piece has elements 6 to 22.
        let table: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let rows = vec![vec![0, 1, 5], vec![2]];
        let touched = Touched { parameter: 1, width: 4, rows };
        let other = Tensor::from_slice(&[7f32, 8.0], 2, &Device::Cpu).expect("a tensor");
        let tensors =
            [other, Tensor::from_vec(table.clone(), (6, 4), &Device::Cpu).expect("a tensor")];
        let piece = [0..1, 6..22];

        for rank in [0, 1] {
            let of =
                |tensor: usize, range: &Range<usize>| spans(Some(&touched), tensor, rank, range);
            let sent = gathered(&tensors, &piece, of).expect("they are read");
            // Of row 1 half is in the piece, of row 5 too; row 2 is whole in it.
            assert_eq!(sent.len(), 1 + 4);

            let whole = spread_out(sent, &piece, of);
            let rows = &touched.rows[rank];
            let expected = (6..22).map(|i| if rows.contains(&(i / 4)) { table[i] } else { 0.0 });
            assert_eq!(whole, std::iter::once(7.0).chain(expected).collect::<Vec<_>>());
        }
    }
}
