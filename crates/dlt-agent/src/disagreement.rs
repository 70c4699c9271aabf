//! How much the gradients of layers that share weights disagree, and where a group is best divided.

use crate::occasion::Evidence;
use dlt_state::State;

/// Values that are closer than this count as equal: so much more than rounding, and so much less
/// than what could matter, that ties are broken as they should be.
pub(crate) const TIE: f64 = 1e-9;

/// Members up to which every bipartition is tried; 16 have 32,767.
const MOST_EXACT: usize = 16;

/// Disagreement of gradients. That of two parts A and B is `|A||B| / (|A| + |B|)` times the squared
/// distance of the means of their layers' gradients, each scaled to unit norm; one of norm 0 stays
/// 0. It is the part of the gradients' squared deviation from their common mean that lies between
/// the parts and not within them.
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    n_layers: usize,
    /// Inner products of the scaled gradients, row by row.
    cosines: Vec<f64>,
}

/// Where one group is to be divided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Division {
    /// The group's owner.
    pub(crate) owner: usize,
    /// The half without the owner.
    pub(crate) part: Vec<usize>,
    /// Disagreement of the two halves.
    pub(crate) disagreement: f64,
}

impl Disagreement {
    /// Of the gradients whose products are in `evidence`.
    pub(crate) fn new(evidence: &Evidence) -> Self {
        let n_layers = evidence.n_layers;
        let product = |one: usize, other: usize| evidence.products[one * n_layers + other];
        let scale = |layer: usize| match product(layer, layer) {
            square if square > 0.0 => square.sqrt().recip(),
            _ => 0.0,
        };

        let scales: Vec<f64> = (0..n_layers).map(scale).collect();
        let entry = |index: usize| {
            let one = index / n_layers;
            let other = index % n_layers;
            product(one, other) * scales[one] * scales[other]
        };

        Self { n_layers, cosines: (0..n_layers * n_layers).map(entry).collect() }
    }

    /// Of two parts, neither of them empty.
    pub(crate) fn of(&self, one: &[usize], other: &[usize]) -> f64 {
        let [within_one, within_other] = [self.sum(one, one), self.sum(other, other)];
        let n_one = one.len() as f64;
        let n_other = other.len() as f64;
        let between = self.sum(one, other);
        let distance = within_one / n_one.powi(2) + within_other / n_other.powi(2)
            - 2.0 * between / (n_one * n_other);

        n_one * n_other / (n_one + n_other) * distance
    }

    /// The group and its bipartition that disagree most: of equals the lowest owner, then the part
    /// that comes first in the order of words, its layers being the letters. `None` where no group
    /// has two members.
    pub(crate) fn greatest(&self, state: &State) -> Option<Division> {
        let mut best: Option<Division> = None;
        for group in state.groups().into_iter().filter(|group| group.members.len() > 1) {
            let (disagreement, part) = self.best_part(&group.members);
            if best.as_ref().is_none_or(|best| disagreement > best.disagreement + TIE) {
                best = Some(Division { owner: group.owner, part, disagreement });
            }
        }

        best
    }

    fn best_part(&self, members: &[usize]) -> (f64, Vec<usize>) {
        let group = GroupSums::new(self, members);
        if members.len() <= MOST_EXACT { group.exact() } else { group.by_moves() }
    }

    fn cosine(&self, one: usize, other: usize) -> f64 {
        self.cosines[one * self.n_layers + other]
    }

    fn sum(&self, one: &[usize], other: &[usize]) -> f64 {
        one.iter().map(|&i| other.iter().map(|&j| self.cosine(i, j)).sum::<f64>()).sum()
    }
}

/// One group, with the sums that give any bipartition's disagreement at once.
struct GroupSums<'a> {
    of: &'a Disagreement,
    members: &'a [usize],
    /// For each member, the sum of its products with all members.
    reaches: Vec<f64>,
    total: f64,
}

/// A part of a group and its sums.
#[derive(Clone, Default)]
struct Part {
    layers: Vec<usize>,
    /// Sum of the products of its layers with each other.
    within: f64,
    /// Sum of the products of its layers with all members.
    reach: f64,
}

impl<'a> GroupSums<'a> {
    fn new(of: &'a Disagreement, members: &'a [usize]) -> Self {
        let reaches: Vec<f64> = members.iter().map(|&layer| of.sum(&[layer], members)).collect();
        let total = reaches.iter().sum();
        Self { of, members, reaches, total }
    }

    /// The disagreement of a part of `size` layers and the other members: the sum of squares within
    /// the parts subtracted from that of the whole, which takes no walk through the other part.
    fn value(&self, size: usize, within: f64, reach: f64) -> f64 {
        let n_all = self.members.len() as f64;
        let n_part = size as f64;
        let within_rest = self.total - 2.0 * reach + within;
        within / n_part + within_rest / (n_all - n_part) - self.total / n_all
    }

    /// The best of all bipartitions. The first member is never in the part.
    fn exact(&self) -> (f64, Vec<usize>) {
        let mut best = (f64::NEG_INFINITY, Vec::new());
        self.extend(&mut Part::default(), 1, &mut best);
        best
    }

    /// Tries `part` with each of the members from number `from` on, in the order of words.
    fn extend(&self, part: &mut Part, from: usize, best: &mut (f64, Vec<usize>)) {
        for (index, &layer) in self.members.iter().enumerate().skip(from) {
            let within = part.within;
            let reach = part.reach;
            part.within += 2.0 * self.of.sum(&part.layers, &[layer]) + self.of.cosine(layer, layer);
            part.reach += self.reaches[index];
            part.layers.push(layer);

            let value = self.value(part.layers.len(), part.within, part.reach);
            if value > best.0 + TIE {
                *best = (value, part.layers.clone());
            }

            self.extend(part, index + 1, best);
            part.layers.pop();
            (part.within, part.reach) = (within, reach);
        }
    }

    /// The best of what single moves make of every cut into two runs of members.
    fn by_moves(&self) -> (f64, Vec<usize>) {
        let mut best = (f64::NEG_INFINITY, Vec::new());
        for cut in 1..self.members.len() {
            let mut sides: Vec<bool> = (0..self.members.len()).map(|index| index >= cut).collect();
            let value = self.climb(&mut sides);

            // The part is the side without the first member.
            let chosen = self.members.iter().zip(&sides).filter(|(_, side)| **side != sides[0]);
            let part: Vec<usize> = chosen.map(|(&layer, _)| layer).collect();
            let ties = value > best.0 - TIE && part < best.1;

            if value > best.0 + TIE || ties {
                best = (value, part);
            }
        }

        best
    }

    /// Moves single members to the other side, the best one first, until that improves nothing.
    fn climb(&self, sides: &mut [bool]) -> f64 {
        let chosen = |sides: &[bool]| -> Vec<usize> {
            self.members
                .iter()
                .zip(sides)
                .filter(|(_, side)| **side)
                .map(|(&layer, _)| layer)
                .collect()
        };

        loop {
            let part = chosen(sides);
            let within = self.of.sum(&part, &part);
            let reach = sides
                .iter()
                .zip(&self.reaches)
                .filter(|(side, _)| **side)
                .map(|(_, reach)| reach)
                .sum();

            let present = self.value(part.len(), within, reach);
            let mut best = (present, None);

            for (index, &layer) in self.members.iter().enumerate() {
                let to_part = self.of.sum(&[layer], &part);
                let own = self.of.cosine(layer, layer);
                let (size, within, reach) = match sides[index] {
                    true => {
                        (part.len() - 1, within - 2.0 * to_part + own, reach - self.reaches[index])
                    }
                    false => {
                        (part.len() + 1, within + 2.0 * to_part + own, reach + self.reaches[index])
                    }
                };

                if size == 0 || size == self.members.len() {
                    continue;
                }

                let value = self.value(size, within, reach);
                if value > best.0 + TIE {
                    best = (value, Some(index));
                }
            }

            match best.1 {
                Some(index) => sides[index] = !sides[index],
                None => return present,
            }
        }
    }
}
