//! Values of choices: the greedy action, Eq. 3 and Eq. 4.

use alloc::vec;
use core::iter::Sum;

use super::ActionSpace;
use crate::{Action, StateError};

impl ActionSpace {
    /// The action of greatest value (the greedy case of Eq. 2): for each layer its
    /// [best choice](Self::best_choice). `values` is a row in the order of
    /// [`slice`](Self::slice).
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`] without a layer, [`StateError::ValueCount`] for a row of another
    /// length.
    ///
    /// ```
    /// use dlt_state::ActionSpace;
    ///
    /// // Layer 1: copy 0 or stay. Layer 2: copy 0, copy 1 or stay.
    /// let values = [0.1, 0.3, 0.2, 0.9, 0.5];
    /// let space = ActionSpace::new(3);
    /// let greedy = space.greedy(&values)?;
    /// assert_eq!(greedy.values(), [0, 1, 1]);
    /// assert_eq!(space.q_value(&values, &greedy)?, space.max_q_value(&values)?);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn greedy<V: Copy + PartialOrd>(self, values: &[V]) -> Result<Action, StateError> {
        if self.n_layers() == 0 {
            return Err(StateError::Empty);
        }

        self.check_values(values)?;
        let mut choices = vec![0; self.n_layers()];
        for layer in self.deciding_layers() {
            choices[layer] = self.best_choice(values, layer);
        }

        Ok(Action::from_valid(choices))
    }

    /// Eq. 3: `Q(s, a)`, the sum over the layers of the value of each one's choice. `values` holds
    /// `Q(s)`.
    ///
    /// # Errors
    ///
    /// [`StateError::ValueCount`] for a row of another length, [`StateError::DepthMismatch`] for an
    /// action of another depth.
    ///
    /// ```
    /// use dlt_state::{Action, ActionSpace};
    ///
    /// let values = [0.1, 0.3, 0.2, 0.9, 0.5];
    /// assert_eq!(ActionSpace::new(3).q_value(&values, &Action::all_zero(3))?, 0.1 + 0.2);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn q_value<V: Copy + Sum<V>>(self, values: &[V], action: &Action) -> Result<V, StateError> {
        self.check_values(values)?;
        if action.n_layers() != self.n_layers() {
            let (expected, got) = (self.n_layers(), action.n_layers());
            return Err(StateError::DepthMismatch { expected, got });
        }

        Ok(self.q_value_over(values, action.values(), self.deciding_layers()))
    }

    /// Eq. 4: the greatest `Q(s, a)` of all actions. Q is a sum of independent terms, so this is
    /// the sum of the layers' greatest values.
    ///
    /// # Errors
    ///
    /// [`StateError::ValueCount`] for a row of another length.
    ///
    /// ```
    /// let values = [0.1, 0.3, 0.2, 0.9, 0.5];
    /// assert_eq!(dlt_state::ActionSpace::new(3).max_q_value(&values)?, 0.3 + 0.9);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn max_q_value<V: Copy + PartialOrd + Sum<V>>(self, values: &[V]) -> Result<V, StateError> {
        self.check_values(values)?;
        Ok(self.max_q_value_over(values, self.deciding_layers()))
    }

    /// Eq. 3 over some layers, for a decision that covers only these (DEVIATIONS row 13).
    /// `choices` has one entry for each layer; the entries of other layers do not count.
    ///
    /// # Panics
    ///
    /// If one of the layers has no choice or no entry, or if there is no value for its choice.
    ///
    /// ```
    /// let values = [0.1, 0.3, 0.2, 0.9, 0.5];
    /// assert_eq!(dlt_state::ActionSpace::new(3).q_value_over(&values, &[0, 1, 2], [2]), 0.5);
    /// ```
    #[must_use]
    pub fn q_value_over<V: Copy + Sum<V>>(
        self,
        values: &[V],
        choices: &[usize],
        layers: impl IntoIterator<Item = usize>,
    ) -> V {
        layers.into_iter().map(|layer| values[self.slice(layer)][choices[layer]]).sum()
    }

    /// Eq. 4 over some layers, for a decision that covers only these (DEVIATIONS row 13).
    ///
    /// # Panics
    ///
    /// If one of the layers has no choice, or if a value is missing.
    ///
    /// ```
    /// let values = [0.1, 0.3, 0.2, 0.9, 0.5];
    /// assert_eq!(dlt_state::ActionSpace::new(3).max_q_value_over(&values, [1]), 0.3);
    /// ```
    #[must_use]
    pub fn max_q_value_over<V: Copy + PartialOrd + Sum<V>>(
        self,
        values: &[V],
        layers: impl IntoIterator<Item = usize>,
    ) -> V {
        let best = |layer| values[self.slice(layer)][self.best_choice(values, layer)];
        layers.into_iter().map(best).sum()
    }

    /// The choice of `layer` with the greatest value; of equal values the lowest layer. A value
    /// that is not a number is never greater than another. Layer 0 can only choose itself.
    ///
    /// # Panics
    ///
    /// If there is no such layer, or if a value of its choices is missing.
    ///
    /// ```
    /// let space = dlt_state::ActionSpace::new(3);
    /// assert_eq!(space.best_choice(&[0.1, 0.3, 0.9, 0.9, 0.5], 2), 0);
    /// ```
    #[must_use]
    pub fn best_choice<V: Copy + PartialOrd>(self, values: &[V], layer: usize) -> usize {
        let values = &values[self.slice(layer)];
        (0..values.len())
            .fold(0, |best, next| if values[next] > values[best] { next } else { best })
    }

    fn check_values<V>(self, values: &[V]) -> Result<(), StateError> {
        let expected = self.n_q_values();
        if values.len() == expected {
            Ok(())
        } else {
            Err(StateError::ValueCount { expected, got: values.len() })
        }
    }
}
