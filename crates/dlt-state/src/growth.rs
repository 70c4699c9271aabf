//! Growth: which group is best split, and where (DEVIATIONS row 45).
//!
//! A network that begins with all layers tied and splits one group at a time trains few layers for
//! long. [`State::split_largest`] splits without looking at anything. [`Disagreement`] splits where
//! the layers' gradients point in different directions.

use alloc::vec::Vec;

use crate::{State, StateError};

/// Values that differ by less than this count as equal. That is far more than rounding and far less
/// than a difference that matters, so ties are broken by the rule and not by the last bits.
pub const TIE: f64 = 1e-9;

/// Greatest number of members for which every bipartition is tried; 16 members have 32,767.
const MOST_EXACT: usize = 16;

/// Disagreement of the gradients of layers. That of two parts A and B is `|A||B| / (|A| + |B|)` times the squared
/// distance of the means of their layers' gradients. Each gradient is scaled to unit norm; one of
/// norm 0 stays 0. This is the part of the gradients' squared deviation from their common mean that
/// is between the parts and not within them (Ward's criterion).
///
/// ```
/// use dlt_state::State;
/// use dlt_state::growth::Disagreement;
///
/// // Gradients of three layers that share weights: two agree, the third is opposite.
/// let gradients = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0_f64]];
/// let dot = |one: [f64; 2], other: [f64; 2]| one[0] * other[0] + one[1] * other[1];
/// let cosine = |index: usize| {
///     let (one, other) = (gradients[index / 3], gradients[index % 3]);
///     dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
/// };
///
/// let disagreement = Disagreement::of_cosines(3, (0..9).map(cosine).collect())?;
/// let state = State::all_tied(3);
/// let division = disagreement.greatest(&state).unwrap();
/// assert_eq!(state.split(division.owner, &division.part)?, State::new(vec![0, 0, 2])?);
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Disagreement {
    n_layers: usize,
    /// (L, L) inner products of the scaled gradients, row by row.
    cosines: Vec<f64>,
}

/// Where one group is to be split: the arguments of [`State::split`].
#[derive(Clone, Debug, PartialEq)]
pub struct Division {
    /// The group's owner.
    pub owner: usize,
    /// The part without the owner, rising; it becomes a group.
    pub part: Vec<usize>,
    /// Disagreement of the two parts, at least 0 but for rounding.
    pub disagreement: f64,
}

impl State {
    /// Splits the largest group in its middle; of equally large groups the one with the lowest
    /// owner. With an odd number of layers the lower half has one more. `None` if all layers are
    /// independent.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let state = State::all_tied(5).split_largest().unwrap();
    /// assert_eq!(state.owners(), [0, 0, 0, 3, 3]);
    /// assert_eq!(state.split_largest().unwrap().owners(), [0, 0, 2, 3, 3]);
    /// assert_eq!(State::independent(5).split_largest(), None);
    /// ```
    #[must_use]
    pub fn split_largest(&self) -> Option<Self> {
        // Of equal keys `min_by_key` returns the first, and groups come in rising order of owners.
        let groups = self.groups();
        let largest = groups.iter().min_by_key(|group| core::cmp::Reverse(group.members.len()))?;
        let part = &largest.members[largest.members.len().div_ceil(2)..];

        (!part.is_empty()).then(|| self.split_off(largest.owner, part))
    }
}

impl Disagreement {
    /// From the cosines between the gradients of any two of `n_layers` layers: L x L numbers, row
    /// by row, entry `i * L + j` that of layers `i` and `j`. Each gradient is that of the loss with
    /// respect to the weights at one position. For a gradient of norm 0 all entries are 0.
    ///
    /// # Errors
    ///
    /// [`StateError::ValueCount`] for another number of cosines than L x L.
    ///
    /// ```
    /// use dlt_state::growth::Disagreement;
    ///
    /// assert!(Disagreement::of_cosines(2, vec![1.0, 0.5, 0.5, 1.0]).is_ok());
    /// assert!(Disagreement::of_cosines(2, vec![1.0, 0.5]).is_err());
    /// ```
    pub fn of_cosines(n_layers: usize, cosines: Vec<f64>) -> Result<Self, StateError> {
        let expected = n_layers.saturating_mul(n_layers);
        if cosines.len() == expected {
            Ok(Self { n_layers, cosines })
        } else {
            Err(StateError::ValueCount { expected, got: cosines.len() })
        }
    }

    /// The disagreement of two parts, neither of them empty.
    ///
    /// # Panics
    ///
    /// If a layer does not exist.
    ///
    /// ```
    /// use dlt_state::growth::Disagreement;
    ///
    /// let opposite = Disagreement::of_cosines(2, vec![1.0, -1.0, -1.0, 1.0])?;
    /// assert_eq!(opposite.of(&[0], &[1]), 2.0);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn of(&self, one: &[usize], other: &[usize]) -> f64 {
        let [within_one, within_other] = [self.sum(one, one), self.sum(other, other)];
        let n_one = one.len() as f64;
        let n_other = other.len() as f64;
        let between = self.sum(one, other);

        // |mean A - mean B|^2, expanded into inner products: the gradients themselves are not known
        // here.
        let distance = within_one / (n_one * n_one) + within_other / (n_other * n_other)
            - 2.0 * between / (n_one * n_other);

        n_one * n_other / (n_one + n_other) * distance
    }

    /// The group and its bipartition that disagree most. Of equals it is the lowest owner, then the
    /// part that is first in lexicographic order of its layers. `None` if no group has two members.
    ///
    /// Up to 16 members every bipartition is tried. Above that the result is the best that single
    /// moves reach from any cut of the members into two runs.
    ///
    /// # Panics
    ///
    /// If the state has more layers than there are cosines for.
    #[must_use]
    pub fn greatest(&self, state: &State) -> Option<Division> {
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
