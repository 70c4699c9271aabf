//! Which layer's weights each layer uses.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Action, StateError, Transition};

/// Which layer's weights each layer uses: entry `i` is the **owner** of layer `i`, the lowest layer
/// of its group.
///
/// So `s[i] <= i`, and an owner owns itself: `s[s[i]] = s[i]`. A state is itself an action, one
/// that Equation 1 does not change.
///
/// ```
/// use dlt_state::{Action, State};
///
/// let state = State::from_action(&Action::new(vec![0, 1, 0, 2])?);
/// assert_eq!(state.owners(), [0, 1, 0, 0]);
/// assert_eq!(State::from_action(state.as_action()), state);
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<usize>", into = "Vec<usize>")
)]
pub struct State {
    /// A fixed point of Eq. 1.
    action: Action,
}

/// The layers that use one layer's weights.
///
/// ```
/// use dlt_state::{Group, State};
///
/// let state = State::new(vec![0, 1, 0])?;
/// assert_eq!(state.groups()[0], Group { owner: 0, members: vec![0, 2] });
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The layer that holds the weights, the first of the members.
    pub owner: usize,
    /// The layers that use them, in rising order.
    pub members: Vec<usize>,
}

impl State {
    /// Equation 1: for rising `i`, `s[i] = i` if `a[i] = i`, else `s[a[i]]`.
    ///
    /// ```
    /// use dlt_state::{Action, State};
    ///
    /// // 3 copies 2, which copies 1, which keeps its own weights.
    /// let action = Action::new(vec![0, 1, 1, 2])?;
    /// assert_eq!(State::from_action(&action).owners(), [0, 1, 1, 1]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn from_action(action: &Action) -> Self {
        let mut owners = Vec::new();
        Self::from_action_into(action, &mut owners);
        Self { action: Action::from_valid(owners) }
    }

    /// Equation 1 into a buffer, whose former content is dropped. It allocates only where the
    /// buffer is too small.
    ///
    /// ```
    /// use dlt_state::{Action, State};
    ///
    /// let mut owners = Vec::with_capacity(4);
    /// State::from_action_into(&Action::new(vec![0, 1, 0, 2])?, &mut owners);
    /// assert_eq!(owners, [0, 1, 0, 0]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn from_action_into(action: &Action, owners: &mut Vec<usize>) {
        owners.clear();
        owners.reserve(action.n_layers());

        // A layer copies itself or a lower one, whose owner is already known. So one pass is
        // enough.
        for (layer, &asked) in action.values().iter().enumerate() {
            owners.push(if asked == layer { layer } else { owners[asked] });
        }
    }

    /// Becomes the state of `action` without a new allocation: [`from_action`](Self::from_action)
    /// for a loop.
    ///
    /// ```
    /// use dlt_state::{Action, State};
    ///
    /// let mut state = State::independent(3);
    /// state.set_from_action(&Action::new(vec![0, 0, 1])?);
    /// assert_eq!(state.owners(), [0, 0, 0]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn set_from_action(&mut self, action: &Action) {
        Self::from_action_into(action, self.action.values_mut());
    }

    /// Checks that the owners are a state.
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`], [`StateError::EntryTooLarge`] and, where an owner is itself owned by
    /// another layer, [`StateError::NotFixedPoint`].
    ///
    /// ```
    /// use dlt_state::{State, StateError};
    ///
    /// assert!(State::new(vec![0, 1, 0, 1]).is_ok());
    /// assert_eq!(
    ///     State::new(vec![0, 1, 0, 2]),
    ///     Err(StateError::NotFixedPoint { index: 3, value: 2, owner: 0 })
    /// );
    /// ```
    pub fn new(owners: Vec<usize>) -> Result<Self, StateError> {
        let action = Action::new(owners)?;
        let owners = action.values();
        for (index, &value) in owners.iter().enumerate() {
            let owner = owners[value];
            if owner != value {
                return Err(StateError::NotFixedPoint { index, value, owner });
            }
        }

        Ok(Self { action })
    }

    /// All layers use the weights of layer 0.
    ///
    /// # Panics
    ///
    /// If `n_layers` is 0.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::all_tied(3).owners(), [0, 0, 0]);
    /// ```
    #[must_use]
    pub fn all_tied(n_layers: usize) -> Self {
        Self { action: Action::all_zero(n_layers) }
    }

    /// Every layer has its own weights.
    ///
    /// # Panics
    ///
    /// If `n_layers` is 0.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::independent(3).owners(), [0, 1, 2]);
    /// ```
    #[must_use]
    pub fn independent(n_layers: usize) -> Self {
        assert!(n_layers > 0, "expected at least one layer, got none");
        Self::from_valid((0..n_layers).collect())
    }

    /// Number of layers, L.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::all_tied(12).n_layers(), 12);
    /// ```
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.action.n_layers()
    }

    /// The owner of each layer.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::new(vec![0, 1, 0])?.owners(), [0, 1, 0]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn owners(&self) -> &[usize] {
        self.action.values()
    }

    /// The owner of each layer, by value.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::all_tied(2).into_owners(), vec![0, 0]);
    /// ```
    #[must_use]
    pub fn into_owners(self) -> Vec<usize> {
        self.action.into_values()
    }

    /// The owner of `layer`.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::new(vec![0, 1, 1])?.owner(2), 1);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn owner(&self, layer: usize) -> usize {
        self.owners()[layer]
    }

    /// Whether `layer` has its own weights.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    ///
    /// ```
    /// let state = dlt_state::State::new(vec![0, 1, 1])?;
    /// assert!(state.is_independent(1));
    /// assert!(!state.is_independent(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn is_independent(&self, layer: usize) -> bool {
        self.owner(layer) == layer
    }

    /// The layers with their own weights, in rising order.
    ///
    /// ```
    /// let state = dlt_state::State::new(vec![0, 1, 0, 3])?;
    /// assert_eq!(state.independent_layers().collect::<Vec<_>>(), [0, 1, 3]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn independent_layers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.n_layers()).filter(|&layer| self.is_independent(layer))
    }

    /// How many layers have their own weights: at least 1, because layer 0 always has.
    ///
    /// ```
    /// assert_eq!(dlt_state::State::new(vec![0, 1, 0, 3])?.n_independent(), 3);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn n_independent(&self) -> usize {
        self.action.n_independent()
    }

    /// The groups in rising order of their owners, each with its members.
    ///
    /// ```
    /// let groups = dlt_state::State::new(vec![0, 1, 0, 1, 4])?.groups();
    /// let members: Vec<_> = groups.iter().map(|group| group.members.as_slice()).collect();
    /// assert_eq!(members, [&[0, 2][..], &[1, 3], &[4]]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let members = |owner| {
            (owner..self.n_layers()).filter(|&layer| self.owner(layer) == owner).collect::<Vec<_>>()
        };
        self.independent_layers().map(|owner| Group { owner, members: members(owner) }).collect()
    }

    /// The state as the action that asks for it.
    ///
    /// ```
    /// let state = dlt_state::State::new(vec![0, 1, 0])?;
    /// assert_eq!(state.as_action().values(), [0, 1, 0]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn as_action(&self) -> &Action {
        &self.action
    }

    /// The changes from this state to `next`.
    ///
    /// # Errors
    ///
    /// [`StateError::DepthMismatch`] where the two have different numbers of layers.
    ///
    /// ```
    /// use dlt_state::{Event, State};
    ///
    /// let transition = State::all_tied(2).transition_to(&State::independent(2))?;
    /// assert_eq!(transition.events(), [Event::Untied { layer: 1, from: 0 }]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn transition_to(&self, next: &Self) -> Result<Transition, StateError> {
        Transition::between(self.clone(), next.clone())
    }

    /// Renames the layers: layer `i` becomes layer `permutation[i]`, and each group is named by its
    /// least member again. The sizes of the groups do not change. Relabelling by `p` and then by
    /// `q` is the same as relabelling by `i -> q[p[i]]`.
    ///
    /// # Errors
    ///
    /// [`StateError::DepthMismatch`] where the permutation has another length,
    /// [`StateError::NotPermutation`] where it names a layer twice or one that does not exist.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// // The group of 0 and 1 becomes the group of 3 and 2, and so on.
    /// let state = State::new(vec![0, 0, 2, 3])?;
    /// assert_eq!(state.relabel(&[3, 2, 1, 0])?.owners(), [0, 1, 2, 2]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn relabel(&self, permutation: &[usize]) -> Result<Self, StateError> {
        let n_layers = self.n_layers();
        check_permutation(permutation, n_layers)?;

        // For each old owner, the least new name of a member.
        let mut least = vec![n_layers; n_layers];
        for (layer, &owner) in self.owners().iter().enumerate() {
            least[owner] = least[owner].min(permutation[layer]);
        }

        let mut owners = vec![0; n_layers];
        for (layer, &owner) in self.owners().iter().enumerate() {
            owners[permutation[layer]] = least[owner];
        }

        Ok(Self::from_valid(owners))
    }

    /// Splits one group in two: `part`, and the group's other layers. Each half is named by its
    /// lowest layer, so a split by `part` is the same as one by the rest of the group. Afterwards
    /// there is one more independent layer.
    ///
    /// # Errors
    ///
    /// [`StateError::LayerOutOfRange`] and [`StateError::NotAnOwner`] where `owner` owns no group,
    /// [`StateError::EmptyPart`], [`StateError::NotRising`], [`StateError::NotAMember`] and
    /// [`StateError::WholeGroup`] where `part` is not some of its layers in rising order.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let state = State::all_tied(4).split(0, &[2, 3])?;
    /// assert_eq!(state.owners(), [0, 0, 2, 2]);
    /// assert_eq!(state.split(2, &[2])?.owners(), [0, 0, 2, 3]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn split(&self, owner: usize, part: &[usize]) -> Result<Self, StateError> {
        self.check_owner(owner)?;
        if part.is_empty() {
            return Err(StateError::EmptyPart { owner });
        }

        for (&previous, &layer) in part.iter().zip(&part[1..]) {
            if layer <= previous {
                return Err(StateError::NotRising { previous, layer });
            }
        }

        for &layer in part {
            self.check_layer(layer)?;
            if self.owner(layer) != owner {
                return Err(StateError::NotAMember { layer, owner });
            }
        }

        if self.owners().iter().filter(|&&other| other == owner).count() == part.len() {
            return Err(StateError::WholeGroup { owner });
        }

        Ok(self.split_off(owner, part))
    }

    /// [`split`](Self::split) at a part that is known to be some of the group's layers, not all.
    pub(crate) fn split_off(&self, owner: usize, part: &[usize]) -> Self {
        // The lowest layer of each half names it.
        let lowest = |inside: bool| {
            let is_first =
                |layer: &usize| self.owner(*layer) == owner && part.contains(layer) == inside;
            (owner..self.n_layers()).find(is_first).unwrap_or(owner)
        };

        let (rest, split) = (lowest(false), lowest(true));
        let named = |layer: usize| match self.owner(layer) {
            other if other != owner => other,
            _ if part.contains(&layer) => split,
            _ => rest,
        };

        Self::from_valid((0..self.n_layers()).map(named).collect())
    }

    /// Merges two groups into one, named by the lowest layer of both. Afterwards there is one
    /// independent layer less.
    ///
    /// # Errors
    ///
    /// [`StateError::LayerOutOfRange`] and [`StateError::NotAnOwner`] where one of the two owns no
    /// group, [`StateError::SameGroup`] where they are the same.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let state = State::new(vec![0, 1, 2, 1])?;
    /// assert_eq!(state.merge(2, 1)?.owners(), [0, 1, 1, 1]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn merge(&self, one: usize, other: usize) -> Result<Self, StateError> {
        self.check_owner(one)?;
        self.check_owner(other)?;

        if one == other {
            return Err(StateError::SameGroup { owner: one });
        }

        Ok(self.joined(one, other))
    }

    /// [`merge`](Self::merge) of two groups that are known to be two.
    pub(crate) fn joined(&self, one: usize, other: usize) -> Self {
        let kept = one.min(other);
        let gone = one.max(other);
        let named = |&owner: &usize| if owner == gone { kept } else { owner };
        Self::from_valid(self.owners().iter().map(named).collect())
    }

    fn check_layer(&self, layer: usize) -> Result<(), StateError> {
        let n_layers = self.n_layers();
        if layer < n_layers { Ok(()) } else { Err(StateError::LayerOutOfRange { layer, n_layers }) }
    }

    fn check_owner(&self, layer: usize) -> Result<(), StateError> {
        self.check_layer(layer)?;
        match self.owner(layer) {
            owner if owner == layer => Ok(()),
            owner => Err(StateError::NotAnOwner { layer, owner }),
        }
    }

    /// Parameters of a network in this state: `shared` outside of the layers, and `per_layer` for
    /// each independent one.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// assert_eq!(State::independent(12).parameter_count(1_000, 100), 2_200);
    /// assert_eq!(State::all_tied(12).parameter_count(1_000, 100), 1_100);
    /// ```
    #[must_use]
    pub fn parameter_count(&self, shared: usize, per_layer: usize) -> usize {
        shared + self.n_independent() * per_layer
    }

    /// A state whose owners are known to be valid.
    pub(crate) fn from_valid(owners: Vec<usize>) -> Self {
        debug_assert!(owners.iter().all(|&owner| owners[owner] == owner));
        Self { action: Action::from_valid(owners) }
    }
}

fn check_permutation(permutation: &[usize], n_layers: usize) -> Result<(), StateError> {
    if permutation.len() != n_layers {
        return Err(StateError::DepthMismatch { expected: n_layers, got: permutation.len() });
    }

    let mut seen = vec![false; n_layers];
    for (index, &value) in permutation.iter().enumerate() {
        match seen.get_mut(value) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(StateError::NotPermutation { index, value, n_layers }),
        }
    }

    Ok(())
}

/// ```
/// use dlt_state::{Action, State};
///
/// assert_eq!(Action::from(State::all_tied(2)), Action::all_zero(2));
/// ```
impl From<State> for Action {
    fn from(state: State) -> Self {
        state.action
    }
}

/// ```
/// use dlt_state::{Action, State};
///
/// assert_eq!(State::from(&Action::all_zero(2)), State::all_tied(2));
/// ```
impl From<&Action> for State {
    fn from(action: &Action) -> Self {
        Self::from_action(action)
    }
}

/// ```
/// assert!(dlt_state::State::try_from(vec![0, 2]).is_err());
/// ```
impl TryFrom<Vec<usize>> for State {
    type Error = StateError;

    fn try_from(owners: Vec<usize>) -> Result<Self, StateError> {
        Self::new(owners)
    }
}

/// ```
/// assert_eq!(Vec::from(dlt_state::State::independent(2)), vec![0, 1]);
/// ```
impl From<State> for Vec<usize> {
    fn from(state: State) -> Self {
        state.into_owners()
    }
}
