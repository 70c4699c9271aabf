//! One decision of a recording.

use alloc::string::String;

use super::text;
use crate::{Action, State};

/// One decision of a [`Recording`](crate::Recording).
///
/// ```
/// use dlt_state::{Action, Recording};
///
/// let mut recording = Recording::new(3);
/// let row = recording.push(15, Action::new(vec![0, 0, 1])?, None)?;
/// assert_eq!(row.state().owners(), [0, 0, 0]);
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub(super) step: usize,
    pub(super) layer: Option<usize>,
    pub(super) action: Action,
    pub(super) state: State,
    /// The action that was requested and undone.
    pub(super) refused: Option<Action>,
}

impl Row {
    /// Training steps done before the decision.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// assert_eq!(recording.push(15, Action::all_zero(2), None)?.step(), 15);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The layer that was visited, where the decision was about that layer alone.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// assert_eq!(recording.push(15, Action::all_zero(2), Some(1))?.layer(), Some(1));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        self.layer
    }

    /// The action of all layers in force since the decision: the requested one, unless it was
    /// refused.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// assert_eq!(recording.push(15, Action::all_zero(2), None)?.action(), &Action::all_zero(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The state in force since the decision, by Equation 1.
    ///
    /// ```
    /// use dlt_state::{Action, Recording, State};
    ///
    /// let mut recording = Recording::new(2);
    /// assert_eq!(recording.push(15, Action::all_zero(2), None)?.state(), &State::all_tied(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The requested action, where the decision was undone. [`action`](Self::action) and
    /// [`state`](Self::state) are then those that stay in force.
    ///
    /// ```
    /// use dlt_state::{Action, Recording, State};
    ///
    /// let mut recording = Recording::gated(State::independent(2));
    /// assert_eq!(recording.push(15, Action::new(vec![0, 1])?, None)?.refused(), None);
    /// let row = recording.push_refused(30, Action::all_zero(2), None)?;
    /// assert_eq!(row.refused(), Some(&Action::all_zero(2)));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn refused(&self) -> Option<&Action> {
        self.refused.as_ref()
    }

    /// The decision's line in the text form, without an end of line, for a run that appends to its
    /// file.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(3);
    /// let row = recording.push(30, Action::new(vec![0, 1, 1])?, Some(2))?;
    /// assert_eq!(row.to_line(), r#"{"step":30,"layer":2,"action":[0,1,1],"state":[0,1,1]}"#);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn to_line(&self) -> String {
        text::row_line(self)
    }
}
