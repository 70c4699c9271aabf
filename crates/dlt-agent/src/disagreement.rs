//! How much the gradients of layers that share weights disagree, and where a group is best split
//! (DEVIATIONS row 45).

use crate::occasion::Evidence;
use dlt_state::State;

/// Values that differ by less than this count as equal. That is far more than rounding and far less
/// than a difference that matters, so ties are broken by the rule and not by the last bits.
pub(crate) const TIE: f64 = 1e-9;

/// Greatest number of members for which every bipartition is tried; 16 members have 32,767.
const MOST_EXACT: usize = 16;

/// Disagreement of gradients. That of two parts A and B is `|A||B| / (|A| + |B|)` times the squared
/// distance of the means of their layers' gradients. Each gradient is scaled to unit norm; one of
/// norm 0 stays 0. This is the part of the gradients' squared deviation from their common mean that
/// is between the parts and not within them (Ward's criterion).
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    n_layers: usize,
    /// (L, L) inner products of the scaled gradients, row by row.
    cosines: Vec<f64>,
}

/// Where one group is to be split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Division {
    /// The group's owner.
    pub(crate) owner: usize,
    /// The part without the owner; it becomes a group.
    pub(crate) part: Vec<usize>,
    /// Disagreement of the two parts.
    pub(crate) disagreement: f64,
}

impl Disagreement {
    /// The disagreement of the gradients whose products are in `evidence`.
    pub(crate) fn new(evidence: &Evidence) -> Self {
        let n_layers = evidence.n_layers;
        let product = |one: usize, other: usize| evidence.products[one * n_layers + other];
        let scale = |layer: usize| match product(layer, layer) {
            // A gradient of norm 0 has no direction. It stays 0 and must not become NaN.
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

    /// The disagreement of two parts, neither of them empty.
    pub(crate) fn of(&self, one: &[usize], other: &[usize]) -> f64 {
        let [within_one, within_other] = [self.sum(one, one), self.sum(other, other)];
        let n_one = one.len() as f64;
        let n_other = other.len() as f64;
        let between = self.sum(one, other);

        // |mean A - mean B|^2, expanded into inner products: the gradients themselves are not known
        // here.
        let distance = within_one / n_one.powi(2) + within_other / n_other.powi(2)
            - 2.0 * between / (n_one * n_other);

        n_one * n_other / (n_one + n_other) * distance
    }

    /// The group and its bipartition that disagree most. Of equals it is the lowest owner, then the
    /// part that is first in lexicographic order of its layers. `None` if no group has two members.
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

    /// The bipartition of one group with the greatest disagreement: its value, and the part without
    /// the first member.
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

/// One group, with the sums that give the disagreement of any bipartition without a walk through
/// both parts.
struct GroupSums<'a> {
    of: &'a Disagreement,
    members: &'a [usize],
    /// For each member, the sum of its products with all members, itself included.
    reaches: Vec<f64>,
    /// Sum of the products of all members with all members.
    total: f64,
}

/// One part of a group, and its sums.
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

    /// The disagreement of a part of `size` layers and the other members. It is the deviation of
    /// the whole group minus that within both parts, and needs only the part's sums.
    fn value(&self, size: usize, within: f64, reach: f64) -> f64 {
        let n_all = self.members.len() as f64;
        let n_part = size as f64;
        // `reach` counts the products within the part too, so subtracting it twice takes `within`
        // once too often.
        let within_rest = self.total - 2.0 * reach + within;
        within / n_part + within_rest / (n_all - n_part) - self.total / n_all
    }

    /// The best of all bipartitions. The first member is never in the part, so no bipartition is
    /// tried twice.
    fn exact(&self) -> (f64, Vec<usize>) {
        let mut best = (f64::NEG_INFINITY, Vec::new());
        self.extend(&mut Part::default(), 1, &mut best);
        best
    }

    /// Tries `part` with each of the members from index `from` on, in lexicographic order. So of
    /// equal parts the first one is kept.
    fn extend(&self, part: &mut Part, from: usize, best: &mut (f64, Vec<usize>)) {
        for (index, &layer) in self.members.iter().enumerate().skip(from) {
            // Restored below by these copies: subtracting again would leave rounding behind, which
            // would grow over thousands of parts.
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
            part.within = within;
            part.reach = reach;
        }
    }

    /// The best bipartition that single moves reach from any cut of the members into two runs. For
    /// groups too large to try every bipartition.
    fn by_moves(&self) -> (f64, Vec<usize>) {
        let mut best = (f64::NEG_INFINITY, Vec::new());
        for cut in 1..self.members.len() {
            let mut sides: Vec<bool> = (0..self.members.len()).map(|index| index >= cut).collect();
            let value = self.climb(&mut sides);

            // The part is the side without the first member, as in `exact`.
            let chosen = self.members.iter().zip(&sides).filter(|(_, side)| **side != sides[0]);
            let part: Vec<usize> = chosen.map(|(&layer, _)| layer).collect();
            let ties = value > best.0 - TIE && part < best.1;

            if value > best.0 + TIE || ties {
                best = (value, part);
            }
        }

        best
    }

    /// Moves single members to the other side, always the one that improves most, until no move
    /// improves. Returns the disagreement reached.
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

            // Summed again in each round, so that rounding does not build up over the moves.
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

                // A layer that leaves is in `part`, so `2 * to_part` holds its own product twice
                // where once is due. A layer that joins is not in it. So both add `own`.
                let (size, within, reach) = if sides[index] {
                    (part.len() - 1, within - 2.0 * to_part + own, reach - self.reaches[index])
                } else {
                    (part.len() + 1, within + 2.0 * to_part + own, reach + self.reaches[index])
                };

                // Both parts keep a member: a group without layers is no group.
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
