//! Random actions, splits and merges, from any source of random numbers.

use alloc::vec::Vec;

use crate::{Action, ActionSpace, State};

/// A source of random choices. A closure that returns 64 random bits at a time is one.
///
/// ```
/// use dlt_state::Draw;
///
/// // SplitMix64, seeded with 1.
/// let mut seed = 1_u64;
/// let mut source = move || {
///     seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
///     let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
///     let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
///     z ^ (z >> 31)
/// };
/// assert!(source.below(6) < 6);
/// ```
pub trait Draw {
    /// A uniform number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize;

    /// True half of the time.
    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// # Panics
///
/// [`Draw::below`] panics for a bound of 0.
impl<F: FnMut() -> u64> Draw for F {
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        // The remainder of 2^64 by the bound. So many of the greatest numbers are drawn again;
        // with them, low results would be more likely.
        let excess = (u64::MAX % bound + 1) % bound;
        loop {
            let drawn = self();
            if drawn <= u64::MAX - excess {
                return (drawn % bound) as usize;
            }
        }
    }
}

impl Action {
    /// Draws each entry uniformly from `0..=layer`, so all actions are equally likely (the other
    /// case of Eq. 2). Layer 0 needs no draw.
    ///
    /// # Panics
    ///
    /// If `n_layers` is 0.
    ///
    /// ```
    /// use dlt_state::Action;
    ///
    /// let mut bits = 0_u64;
    /// let action = Action::random(4, &mut || { bits += 1; bits });
    /// assert_eq!(action.values(), [0, 1, 2, 3]); // 1 mod 2, 2 mod 3, 3 mod 4
    /// ```
    #[must_use]
    pub fn random(n_layers: usize, source: &mut impl Draw) -> Self {
        assert!(n_layers > 0, "expected at least one layer, got none");
        Self::from_valid((0..n_layers).map(|layer| draw_choice(layer, source)).collect())
    }
}

impl ActionSpace {
    /// A uniform layer among those with a choice, and a uniform choice of it. `None` if no layer
    /// has one.
    ///
    /// ```
    /// use dlt_state::ActionSpace;
    ///
    /// let (layer, choice) = ActionSpace::new(4).random_change(&mut || 4).unwrap();
    /// assert_eq!((layer, choice), (2, 1)); // 1 + 4 mod 3, 4 mod 3
    /// assert_eq!(ActionSpace::new(1).random_change(&mut || 4), None);
    /// ```
    #[must_use]
    pub fn random_change(self, source: &mut impl Draw) -> Option<(usize, usize)> {
        let layers = self.deciding_layers();
        if layers.is_empty() {
            return None;
        }

        let layer = layers.start + source.below(layers.len());
        Some((layer, draw_choice(layer, source)))
    }
}

impl State {
    /// The state after a uniform split: a uniform group among those with two layers or more, and a
    /// uniform bipartition of it. `None` if there is no such group.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let split = State::all_tied(2).random_split(&mut || 1);
    /// assert_eq!(split, Some(State::independent(2)));
    /// assert_eq!(State::independent(2).random_split(&mut || 1), None);
    /// ```
    #[must_use]
    pub fn random_split(&self, source: &mut impl Draw) -> Option<Self> {
        let mut groups = self.groups();
        groups.retain(|group| group.members.len() > 1);

        if groups.is_empty() {
            return None;
        }

        let group = &groups[source.below(groups.len())];
        // The owner stays in its group, so each bipartition is one non-empty set of the other
        // members. Drawing again when the set is empty keeps the others equally likely.
        let part = loop {
            let mut part = group.members[1..].to_vec();
            part.retain(|_| source.coin());

            if !part.is_empty() {
                break part;
            }
        };

        Some(self.split_off(group.owner, &part))
    }

    /// The state after a uniform merge: each pair of groups is equally likely. `None` if there is
    /// only one group.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let merged = State::independent(2).random_merge(&mut || 0);
    /// assert_eq!(merged, Some(State::all_tied(2)));
    /// assert_eq!(State::all_tied(2).random_merge(&mut || 0), None);
    /// ```
    #[must_use]
    pub fn random_merge(&self, source: &mut impl Draw) -> Option<Self> {
        let owners: Vec<usize> = self.independent_layers().collect();
        if owners.len() == 1 {
            return None;
        }

        let one = source.below(owners.len());
        // Drawn among the other groups: an index from `one` on means the group one further. So
        // every pair is equally likely, without a second try.
        let other = source.below(owners.len() - 1);
        let other = if other < one { other } else { other + 1 };

        Some(self.joined(owners[one], owners[other]))
    }
}

/// A uniform permutation of `n_layers` layers, for [`State::relabel`] (Fisher-Yates).
///
/// ```
/// let permutation = dlt_state::random_permutation(3, &mut || 0);
/// assert_eq!(permutation, [1, 2, 0]);
/// ```
#[must_use]
pub fn random_permutation(n_layers: usize, source: &mut impl Draw) -> Vec<usize> {
    let mut permutation: Vec<usize> = (0..n_layers).collect();
    for last in (1..n_layers).rev() {
        permutation.swap(last, source.below(last + 1));
    }

    permutation
}

/// A uniform choice of `layer`; layer 0 has only one.
fn draw_choice(layer: usize, source: &mut impl Draw) -> usize {
    if layer == 0 { 0 } else { source.below(layer + 1) }
}
