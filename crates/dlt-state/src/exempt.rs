//! Layers that no tie may touch.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Action, State, StateError};

/// Layers that no tie may touch: they neither follow another layer nor are followed.
///
/// One rule maps every action, state and pattern: **exempt layers leave their groups, and the other
/// layers of a group stay together under the lowest of them**. So an action that asks for a tie with
/// an exempt layer asks for a tie with the lowest other layer of the same group instead.
///
/// ```
/// use dlt_state::{Exempt, State};
///
/// let exempt = Exempt::new(5, &[0, 4])?;
/// assert_eq!(exempt.spare_state(&State::all_tied(5)).owners(), [0, 1, 1, 1, 4]);
/// assert_eq!(exempt.free(), [1, 2, 3]);
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    is_exempt: Vec<bool>,
}

impl Exempt {
    /// No layer is exempt.
    #[must_use]
    pub fn none(n_layers: usize) -> Self {
        Self { is_exempt: vec![false; n_layers] }
    }

    /// These layers are exempt.
    ///
    /// # Errors
    ///
    /// [`StateError::LayerOutOfRange`] for a layer that does not exist.
    ///
    /// ```
    /// assert!(dlt_state::Exempt::new(3, &[3]).is_err());
    /// ```
    pub fn new(n_layers: usize, layers: &[usize]) -> Result<Self, StateError> {
        let mut exempt = Self::none(n_layers);
        for &layer in layers {
            let place = exempt.is_exempt.get_mut(layer);
            *place.ok_or(StateError::LayerOutOfRange { layer, n_layers })? = true;
        }

        Ok(exempt)
    }

    /// Number of layers, L.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.is_exempt.len()
    }

    /// Whether any layer is exempt.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.is_exempt.contains(&true)
    }

    /// Whether a layer is exempt.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    #[must_use]
    pub fn has(&self, layer: usize) -> bool {
        self.is_exempt[layer]
    }

    /// The layers that are not exempt, rising.
    #[must_use]
    pub fn free(&self) -> Vec<usize> {
        (0..self.n_layers()).filter(|&layer| !self.has(layer)).collect()
    }

    /// The layers with a choice, rising: those that are not exempt, but for the lowest of them.
    ///
    /// ```
    /// assert_eq!(dlt_state::Exempt::none(3).deciding(), [1, 2]);
    /// ```
    #[must_use]
    pub fn deciding(&self) -> Vec<usize> {
        self.free().into_iter().skip(1).collect()
    }

    /// The layers that a layer may be asked to copy, rising; an exempt layer only itself.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    #[must_use]
    pub fn choices(&self, layer: usize) -> Vec<usize> {
        if self.has(layer) {
            return vec![layer];
        }
        (0..=layer).filter(|&other| !self.has(other)).collect()
    }

    /// The action that asks for the same, as far as no exempt layer is touched. An action that names
    /// no exempt layer is not changed by this.
    ///
    /// # Panics
    ///
    /// If the action has another depth.
    ///
    /// ```
    /// use dlt_state::{Action, Exempt};
    ///
    /// // Layers 2 and 3 asked for layer 0, the lowest of its group. They stay together.
    /// let exempt = Exempt::new(4, &[0])?;
    /// let spared = exempt.spare(&Action::new(vec![0, 1, 0, 2])?);
    /// assert_eq!(spared.values(), [0, 1, 2, 2]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn spare(&self, action: &Action) -> Action {
        let state = State::from_action(action);
        let lowest = |layer: usize| {
            let is_together = |other: &usize| state.owner(*other) == state.owner(layer);
            (0..layer).filter(is_together).find(|&other| !self.has(other)).unwrap_or(layer)
        };

        let spared = action.values().iter().enumerate().map(|(layer, &asked)| {
            match (self.has(layer), self.has(asked)) {
                (true, _) => layer,
                (false, true) => lowest(layer),
                (false, false) => asked,
            }
        });
        Action::from_valid(spared.collect())
    }

    /// The state with the exempt layers taken out of their groups.
    ///
    /// # Panics
    ///
    /// If the state has another depth.
    #[must_use]
    pub fn spare_state(&self, state: &State) -> State {
        State::from_action(&self.spare(state.as_action()))
    }

    /// The state of the layers that are not exempt, as that of a network which has only these. Their
    /// groups must have no exempt layers.
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`] if all layers are exempt, [`StateError::NotAMember`] for a layer in the
    /// group of an exempt one.
    ///
    /// ```
    /// use dlt_state::{Exempt, State};
    ///
    /// let exempt = Exempt::new(4, &[0])?;
    /// let reduced = exempt.reduced(&State::new(vec![0, 1, 2, 1])?)?;
    /// assert_eq!(reduced.owners(), [0, 1, 0]);
    /// assert_eq!(exempt.expanded(&State::all_tied(3)).owners(), [0, 1, 1, 1]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn reduced(&self, state: &State) -> Result<State, StateError> {
        let free = self.free();
        let number = |&layer: &usize| {
            let owner = state.owner(layer);
            free.binary_search(&owner).map_err(|_| StateError::NotAMember { layer, owner })
        };
        State::new(free.iter().map(number).collect::<Result<_, _>>()?)
    }

    /// The state of all layers, from one of those that are not exempt.
    ///
    /// # Panics
    ///
    /// If the state has another depth than there are such layers.
    #[must_use]
    pub fn expanded(&self, reduced: &State) -> State {
        let free = self.free();
        let mut owners: Vec<usize> = (0..self.n_layers()).collect();
        for (&layer, &owner) in free.iter().zip(reduced.owners()) {
            owners[layer] = free[owner];
        }

        State::from_action(&Action::from_valid(owners))
    }
}
