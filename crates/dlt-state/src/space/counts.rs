//! How many states and actions there are: Bell and Stirling numbers.

use alloc::vec;
use alloc::vec::Vec;

use super::ActionSpace;

impl ActionSpace {
    /// Number of states, the Bell number of `L`: a state is a partition of the layers. It fits for
    /// up to 42 layers; above that, `None`.
    ///
    /// ```
    /// use dlt_state::ActionSpace;
    ///
    /// assert_eq!(ActionSpace::new(12).n_states(), Some(4_213_597));
    /// assert!(ActionSpace::new(42).n_states().is_some());
    /// assert_eq!(ActionSpace::new(43).n_states(), None);
    /// ```
    #[doc(alias = "bell")]
    #[must_use]
    pub fn n_states(self) -> Option<u128> {
        // Bell's triangle: a row begins with the last number of the row above, and each further
        // number is the sum of the one before it and the one above that.
        let mut row = vec![1_u128];
        for _ in 1..self.n_layers() {
            let mut next = vec![row[row.len() - 1]];
            for above in row {
                next.push(next[next.len() - 1].checked_add(above)?);
            }
            row = next;
        }

        row.last().copied()
    }

    /// Number of states with `n_groups` groups: the Stirling number of the second kind, `S(L,
    /// n_groups)`. `None` where it does not fit.
    ///
    /// ```
    /// let space = dlt_state::ActionSpace::new(5);
    /// let counts: Vec<_> = (0..=6).map(|groups| space.n_states_with(groups).unwrap()).collect();
    /// assert_eq!(counts, [0, 1, 15, 25, 10, 1, 0]);
    /// ```
    #[doc(alias = "stirling")]
    #[must_use]
    pub fn n_states_with(self, n_groups: usize) -> Option<u128> {
        // The last layer joins one of the groups, or is a new one.
        self.recurrence(n_groups, |_, groups| groups)
    }

    /// Number of actions with `n_independent` layers that keep their own weights: the unsigned
    /// Stirling number of the first kind, `c(L, n_independent)`. `None` where it does not fit.
    ///
    /// ```
    /// let space = dlt_state::ActionSpace::new(4);
    /// let counts: Vec<_> = (0..=4).map(|layers| space.n_actions_with(layers).unwrap()).collect();
    /// assert_eq!(counts, [0, 6, 11, 6, 1]);
    /// ```
    #[doc(alias = "stirling")]
    #[must_use]
    pub fn n_actions_with(self, n_independent: usize) -> Option<u128> {
        // The last layer copies one of those below it, or keeps its own weights.
        self.recurrence(n_independent, |below, _| below)
    }

    /// `f(L, k)` with `f(n + 1, k) = factor(n, k) f(n, k) + f(n, k - 1)` and `f(0, 0) = 1`.
    fn recurrence(self, k: usize, factor: impl Fn(usize, usize) -> usize) -> Option<u128> {
        if k > self.n_layers() {
            return Some(0);
        }

        // An entry that does not fit is `None`, and so is each entry that it is part of.
        let mut row: Vec<Option<u128>> = vec![Some(0); k + 1];
        row[0] = Some(1);

        for n in 0..self.n_layers() {
            for k in (0..=k).rev() {
                let same = row[k].and_then(|same| same.checked_mul(factor(n, k) as u128));
                let one_less = if k == 0 { Some(0) } else { row[k - 1] };
                row[k] = same.zip(one_less).and_then(|(same, less)| same.checked_add(less));
            }
        }

        row[k]
    }
}
