//! Which layer each layer is asked to copy.

use alloc::vec;
use alloc::vec::Vec;

use crate::StateError;

/// Which layer each layer is asked to copy. Entry `i` is at most `i`; with `i` itself, the layer
/// keeps its own weights.
///
/// An action is a wish. Equation 1 turns it into the [`State`](crate::State) that results.
///
/// ```
/// use dlt_state::{Action, StateError};
///
/// let action = Action::new(vec![0, 1, 0, 2])?;
/// assert_eq!(action.values(), [0, 1, 0, 2]);
///
/// // Layer 1 cannot copy layer 2, which comes after it.
/// let error = Action::new(vec![0, 2, 0]).unwrap_err();
/// assert_eq!(error, StateError::EntryTooLarge { index: 1, value: 2, bound: 1 });
/// # Ok::<(), StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<usize>", into = "Vec<usize>")
)]
pub struct Action {
    values: Vec<usize>,
}

impl Action {
    /// Checks that there is a layer and that no entry is greater than its index.
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`] and [`StateError::EntryTooLarge`].
    ///
    /// ```
    /// use dlt_state::{Action, StateError};
    ///
    /// assert!(Action::new(vec![0, 0, 2]).is_ok());
    /// assert_eq!(Action::new(vec![]), Err(StateError::Empty));
    /// ```
    pub fn new(values: Vec<usize>) -> Result<Self, StateError> {
        if values.is_empty() {
            return Err(StateError::Empty);
        }

        for (index, &value) in values.iter().enumerate() {
            check_entry(index, value)?;
        }

        Ok(Self { values })
    }

    /// Every layer is asked to copy layer 0. Where layers are visited one by one, this is the
    /// action before the first visit.
    ///
    /// # Panics
    ///
    /// If `n_layers` is 0.
    ///
    /// ```
    /// assert_eq!(dlt_state::Action::all_zero(3).values(), [0, 0, 0]);
    /// ```
    #[must_use]
    pub fn all_zero(n_layers: usize) -> Self {
        assert!(n_layers > 0, "expected at least one layer, got none");
        Self { values: vec![0; n_layers] }
    }

    /// Number of layers, L.
    ///
    /// ```
    /// assert_eq!(dlt_state::Action::all_zero(12).n_layers(), 12);
    /// ```
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.values.len()
    }

    /// For each layer, the layer that it is asked to copy.
    ///
    /// ```
    /// assert_eq!(dlt_state::Action::new(vec![0, 1, 1])?.values(), [0, 1, 1]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn values(&self) -> &[usize] {
        &self.values
    }

    /// For each layer, the layer that it is asked to copy, by value.
    ///
    /// ```
    /// assert_eq!(dlt_state::Action::all_zero(2).into_values(), vec![0, 0]);
    /// ```
    #[must_use]
    pub fn into_values(self) -> Vec<usize> {
        self.values
    }

    /// How many layers are asked to keep their own weights. The state of this action has the same
    /// number of independent layers.
    ///
    /// ```
    /// use dlt_state::{Action, State};
    ///
    /// let action = Action::new(vec![0, 1, 1, 2])?;
    /// assert_eq!(action.n_independent(), 2);
    /// assert_eq!(State::from_action(&action).n_independent(), 2);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn n_independent(&self) -> usize {
        self.values.iter().enumerate().filter(|&(layer, &asked)| layer == asked).count()
    }

    /// Asks `layer` to copy layer `value` from now on. After an error the action is unchanged.
    ///
    /// # Errors
    ///
    /// [`StateError::LayerOutOfRange`] and [`StateError::EntryTooLarge`].
    ///
    /// ```
    /// use dlt_state::{Action, StateError};
    ///
    /// let mut action = Action::all_zero(3);
    /// action.replace(2, 1)?;
    /// assert_eq!(action.values(), [0, 0, 1]);
    /// assert_eq!(action.replace(1, 2), Err(StateError::EntryTooLarge { index: 1, value: 2, bound: 1 }));
    /// assert_eq!(action.replace(3, 0), Err(StateError::LayerOutOfRange { layer: 3, n_layers: 3 }));
    /// # Ok::<(), StateError>(())
    /// ```
    pub fn replace(&mut self, layer: usize, value: usize) -> Result<(), StateError> {
        let n_layers = self.n_layers();
        let entry =
            self.values.get_mut(layer).ok_or(StateError::LayerOutOfRange { layer, n_layers })?;
        check_entry(layer, value)?;
        *entry = value;

        Ok(())
    }

    /// An action whose values are known to be valid.
    pub(crate) fn from_valid(values: Vec<usize>) -> Self {
        debug_assert!(
            !values.is_empty() && values.iter().enumerate().all(|(index, &value)| value <= index)
        );
        Self { values }
    }

    /// The values, for a caller that leaves them valid.
    pub(crate) fn values_mut(&mut self) -> &mut Vec<usize> {
        &mut self.values
    }
}

fn check_entry(index: usize, value: usize) -> Result<(), StateError> {
    if value > index {
        return Err(StateError::EntryTooLarge { index, value, bound: index });
    }
    Ok(())
}

/// ```
/// assert!(dlt_state::Action::try_from(vec![0, 2]).is_err());
/// ```
impl TryFrom<Vec<usize>> for Action {
    type Error = StateError;

    fn try_from(values: Vec<usize>) -> Result<Self, StateError> {
        Self::new(values)
    }
}

/// ```
/// assert_eq!(Vec::from(dlt_state::Action::all_zero(2)), vec![0, 0]);
/// ```
impl From<Action> for Vec<usize> {
    fn from(action: Action) -> Self {
        action.into_values()
    }
}
