//! The decisions of a run, in order.

mod row;
mod text;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub use row::Row;

use crate::{Action, EventCounts, State, StateError, Transition};

/// The decisions of a training run in order, each with its step, action and state.
///
/// The **step** of a decision is the number of training steps before it. Training steps are
/// numbered from 0, so the training step with the same number is the first one with the new state.
/// Several decisions may have the same step; the last of them counts.
///
/// # Text form
///
/// [`to_text`](Self::to_text) and [`parse`](Self::parse) use JSON Lines: a header, then a line for
/// each decision.
///
/// ```text
/// {"format":"dlt-states","version":1,"n_layers":3}
/// {"step":15,"action":[0,1,1],"state":[0,1,1]}
/// {"step":30,"layer":2,"action":[0,1,0],"state":[0,1,0]}
/// ```
///
/// The header has `"initial":[...]`, the owners before the first decision, unless these are all 0.
/// A decision has `"layer"` where it was about that layer alone. `"state"` is always Equation 1 of
/// `"action"`, and steps never decrease.
///
/// Version 2 is for runs that measure a decision and undo it where it harms. The line of an undone
/// decision has the action and the state that stay in force, and `"refused":[...]`, the requested
/// action. Only the header has the version, so a file has it before its first decision. Version 1
/// has no refused decisions.
///
/// ```text
/// {"format":"dlt-states","version":2,"n_layers":3}
/// {"step":15,"action":[0,1,1],"state":[0,1,1]}
/// {"step":30,"action":[0,1,1],"state":[0,1,1],"refused":[0,0,1]}
/// ```
///
/// The reader is strict. Keys may be in any order, and blanks may surround values. Unknown,
/// repeated and missing keys, blank lines, numbers other than plain whole ones, escapes in strings,
/// and more than 65,536 layers are errors. Each error has the number of its line.
///
/// ```
/// use dlt_state::{Action, Recording, State};
///
/// let mut recording = Recording::new(3);
/// recording.push(15, Action::new(vec![0, 1, 1])?, None)?;
/// recording.push(30, Action::new(vec![0, 1, 0])?, Some(2))?;
///
/// assert_eq!(recording.state_at(14), &State::all_tied(3));
/// assert_eq!(recording.state_at(29).owners(), [0, 1, 1]);
/// assert_eq!(recording.steps_independent(40), [40, 25, 0]);
/// assert_eq!(recording.event_counts().total(), 3);
///
/// assert_eq!(Recording::parse(&recording.to_text())?, recording);
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        try_from = "crate::serialised::RecordingForm",
        into = "crate::serialised::RecordingForm"
    )
)]
pub struct Recording {
    initial: State,
    /// Whether decisions may be refused: version 2.
    gated: bool,
    rows: Vec<Row>,
}

impl Recording {
    /// Name of the text form, in its header.
    ///
    /// ```
    /// assert_eq!(dlt_state::Recording::FORMAT, "dlt-states");
    /// ```
    pub const FORMAT: &'static str = "dlt-states";

    /// Version, in the header, of the text form without refused decisions.
    ///
    /// ```
    /// assert_eq!(dlt_state::Recording::VERSION, 1);
    /// ```
    pub const VERSION: usize = 1;

    /// Version, in the header, of the text form that may have refused decisions.
    ///
    /// ```
    /// assert_eq!(dlt_state::Recording::GATED_VERSION, 2);
    /// ```
    pub const GATED_VERSION: usize = 2;

    /// A recording without decisions, at depth `n_layers`. All layers are tied until the first
    /// decision.
    ///
    /// # Panics
    ///
    /// If `n_layers` is 0.
    ///
    /// ```
    /// use dlt_state::{Recording, State};
    ///
    /// assert_eq!(Recording::new(3).state_at(0), &State::all_tied(3));
    /// ```
    #[must_use]
    pub fn new(n_layers: usize) -> Self {
        Self::starting_from(State::all_tied(n_layers))
    }

    /// A recording without decisions. The layers are in state `initial` until the first decision.
    ///
    /// ```
    /// use dlt_state::{Recording, State};
    ///
    /// let recording = Recording::starting_from(State::independent(3));
    /// assert_eq!(recording.steps_independent(10), [10, 10, 10]);
    /// ```
    #[must_use]
    pub fn starting_from(initial: State) -> Self {
        Self { initial, gated: false, rows: Vec::new() }
    }

    /// A recording without decisions, of version 2, for a run that may refuse decisions. The layers
    /// are in state `initial` until the first decision.
    ///
    /// ```
    /// use dlt_state::{Recording, State};
    ///
    /// let recording = Recording::gated(State::all_tied(3));
    /// assert_eq!(recording.version(), 2);
    /// assert_eq!(recording.header_line(), r#"{"format":"dlt-states","version":2,"n_layers":3}"#);
    /// ```
    #[must_use]
    pub fn gated(initial: State) -> Self {
        Self { initial, gated: true, rows: Vec::new() }
    }

    /// Version of the text form: 2 where decisions may be refused.
    ///
    /// ```
    /// assert_eq!(dlt_state::Recording::new(3).version(), 1);
    /// ```
    #[must_use]
    pub fn version(&self) -> usize {
        if self.gated { Self::GATED_VERSION } else { Self::VERSION }
    }

    /// Adds the decision made after `step` training steps. `layer` is the layer that was visited,
    /// where the decision was about that one alone. The state is Equation 1 of the action. After an
    /// error the recording is unchanged.
    ///
    /// # Errors
    ///
    /// [`StateError::DepthMismatch`] where the action has another depth,
    /// [`StateError::LayerOutOfRange`] where there is no such layer, and
    /// [`StateError::StepDecreased`] where the step is below that of the decision before.
    ///
    /// ```
    /// use dlt_state::{Action, Recording, StateError};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::all_zero(2), None)?;
    /// let error = recording.push(14, Action::all_zero(2), None).unwrap_err();
    /// assert_eq!(error, StateError::StepDecreased { previous: 15, step: 14 });
    /// # Ok::<(), StateError>(())
    /// ```
    pub fn push(
        &mut self,
        step: usize,
        action: Action,
        layer: Option<usize>,
    ) -> Result<&Row, StateError> {
        self.check_row(step, &action, layer)?;
        let state = State::from_action(&action);
        Ok(self.add(Row { step, layer, action, state, refused: None }))
    }

    /// Adds a decision that was undone within the step. `asked` is the requested action; the action
    /// before stays in force. After an error the recording is unchanged.
    ///
    /// # Errors
    ///
    /// [`StateError::NotGated`] where the recording has version 1, and the errors of
    /// [`push`](Self::push).
    ///
    /// ```
    /// use dlt_state::{Action, Recording, State};
    ///
    /// let mut recording = Recording::gated(State::independent(2));
    /// let row = recording.push_refused(15, Action::all_zero(2), None)?;
    /// assert_eq!(row.state(), &State::independent(2));
    /// assert_eq!(row.refused(), Some(&Action::all_zero(2)));
    /// assert_eq!(row.to_line(), r#"{"step":15,"action":[0,1],"state":[0,1],"refused":[0,0]}"#);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn push_refused(
        &mut self,
        step: usize,
        asked: Action,
        layer: Option<usize>,
    ) -> Result<&Row, StateError> {
        if !self.gated {
            return Err(StateError::NotGated);
        }

        self.check_row(step, &asked, layer)?;
        let (action, state) = match self.rows.last() {
            Some(row) => (row.action.clone(), row.state.clone()),
            None => (self.initial.as_action().clone(), self.initial.clone()),
        };

        Ok(self.add(Row { step, layer, action, state, refused: Some(asked) }))
    }

    fn check_row(
        &self,
        step: usize,
        action: &Action,
        layer: Option<usize>,
    ) -> Result<(), StateError> {
        let n_layers = self.n_layers();
        if action.n_layers() != n_layers {
            return Err(StateError::DepthMismatch { expected: n_layers, got: action.n_layers() });
        }
        if let Some(layer) = layer.filter(|&layer| layer >= n_layers) {
            return Err(StateError::LayerOutOfRange { layer, n_layers });
        }

        match self.rows.last().map(Row::step).filter(|&previous| step < previous) {
            Some(previous) => Err(StateError::StepDecreased { previous, step }),
            None => Ok(()),
        }
    }

    fn add(&mut self, row: Row) -> &Row {
        self.rows.push(row);
        &self.rows[self.rows.len() - 1]
    }

    /// Number of layers, L.
    ///
    /// ```
    /// assert_eq!(dlt_state::Recording::new(12).n_layers(), 12);
    /// ```
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.initial.n_layers()
    }

    /// The state before the first decision.
    ///
    /// ```
    /// use dlt_state::{Recording, State};
    ///
    /// assert_eq!(Recording::new(2).initial(), &State::all_tied(2));
    /// ```
    #[must_use]
    pub fn initial(&self) -> &State {
        &self.initial
    }

    /// The decisions, in order.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::all_zero(2), None)?;
    /// assert_eq!(recording.rows().len(), 1);
    /// assert_eq!(recording.rows()[0].step(), 15);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Step and state of each decision, in order, which is all that a replay needs.
    ///
    /// ```
    /// use dlt_state::{Action, Recording, State};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::new(vec![0, 1])?, None)?;
    /// let replay: Vec<_> = recording.iter().collect();
    /// assert_eq!(replay, [(15, &State::independent(2))]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (usize, &State)> + '_ {
        self.rows.iter().map(|row| (row.step, &row.state))
    }

    /// The state in training step `step`: that of the last decision at or before it.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::new(vec![0, 1])?, None)?;
    /// assert_eq!(recording.state_at(14).owners(), [0, 0]);
    /// assert_eq!(recording.state_at(15).owners(), [0, 1]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn state_at(&self, step: usize) -> &State {
        // Steps never decrease, so the rows are sorted.
        let made = self.rows.partition_point(|row| row.step <= step);
        self.rows[..made].last().map_or(&self.initial, Row::state)
    }

    /// Step of each decision, and what it changed. A decision that changed nothing has an empty
    /// transition.
    ///
    /// ```
    /// use dlt_state::{Action, Event, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::new(vec![0, 1])?, None)?;
    /// recording.push(30, Action::new(vec![0, 1])?, None)?;
    /// let changes: Vec<_> = recording.transitions().collect();
    /// assert_eq!(changes[0].1.events(), [Event::Untied { layer: 1, from: 0 }]);
    /// assert_eq!(changes[1].0, 30);
    /// assert!(changes[1].1.is_empty());
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn transitions(&self) -> impl Iterator<Item = (usize, Transition)> + '_ {
        let before = core::iter::once(&self.initial).chain(self.rows.iter().map(Row::state));
        before.zip(&self.rows).map(|(before, row)| {
            let transition =
                before.transition_to(&row.state).expect("`push` refuses another depth");
            (row.step, transition)
        })
    }

    /// How many layers were tied and untied, over all decisions.
    ///
    /// ```
    /// use dlt_state::{Action, EventCounts, Recording};
    ///
    /// let mut recording = Recording::new(3);
    /// recording.push(15, Action::new(vec![0, 1, 1])?, None)?;
    /// assert_eq!(recording.event_counts(), EventCounts { tied: 1, untied: 1 });
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn event_counts(&self) -> EventCounts {
        let mut counts = EventCounts::default();
        for (_, transition) in self.transitions() {
            counts += transition.event_counts();
        }
        counts
    }

    /// For each layer, during how many of the training steps `0..until_step` it was independent.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::new(vec![0, 1])?, None)?;
    /// recording.push(20, Action::new(vec![0, 0])?, None)?;
    /// assert_eq!(recording.steps_independent(100), [100, 5]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn steps_independent(&self, until_step: usize) -> Vec<usize> {
        let mut steps = vec![0; self.n_layers()];
        let begins = core::iter::once((0, &self.initial)).chain(self.iter());
        let ends = self.rows.iter().map(Row::step).chain([until_step]);

        // Each state holds from its decision to the next one, but no further than `until_step`.
        for ((begin, state), end) in begins.zip(ends) {
            let length = end.min(until_step).saturating_sub(begin);
            for layer in state.independent_layers() {
                steps[layer] += length;
            }
        }

        steps
    }

    /// The header of the text form, without an end of line.
    ///
    /// ```
    /// let line = dlt_state::Recording::new(3).header_line();
    /// assert_eq!(line, r#"{"format":"dlt-states","version":1,"n_layers":3}"#);
    /// ```
    #[must_use]
    pub fn header_line(&self) -> String {
        text::header_line(self.version(), &self.initial)
    }

    /// The text form: the header and a line for each decision, each with its end of line.
    ///
    /// ```
    /// use dlt_state::{Action, Recording};
    ///
    /// let mut recording = Recording::new(2);
    /// recording.push(15, Action::all_zero(2), None)?;
    /// let text = recording.to_text();
    /// assert_eq!(text.lines().nth(1), Some(r#"{"step":15,"action":[0,0],"state":[0,0]}"#));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.header_line();
        text.push('\n');

        for row in &self.rows {
            text.push_str(&row.to_line());
            text.push('\n');
        }

        text
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`StateError::Line`], with the number of the first invalid line and the reason.
    ///
    /// ```
    /// use dlt_state::Recording;
    ///
    /// let header = r#"{"format":"dlt-states","version":1,"n_layers":2}"#;
    /// assert_eq!(Recording::parse(header)?, Recording::new(2));
    ///
    /// let text = format!("{header}\n{}", r#"{"step":5,"action":[0,2],"state":[0,1]}"#);
    /// let error = Recording::parse(&text).unwrap_err();
    /// assert_eq!(error.to_string(), "line 2: entry 1 is 2: expected at most 1");
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, StateError> {
        let mut lines = text.lines();
        // A text without lines lacks its header, so the error is that of an empty one.
        let header = lines.next().unwrap_or_default();
        let (version, initial) = text::parse_header(header).map_err(|error| error.at_line(1))?;
        let mut recording =
            Self { initial, gated: version == Self::GATED_VERSION, rows: Vec::new() };

        for (index, line) in lines.enumerate() {
            recording.push_line(line).map_err(|error| error.at_line(index + 2))?;
        }

        Ok(recording)
    }

    fn push_line(&mut self, line: &str) -> Result<(), StateError> {
        let text::ReadRow { step, layer, action, owners, refused } =
            text::parse_row(line, self.version())?;
        let row = match refused {
            None => self.push(step, action, layer)?,
            Some(asked) => {
                let row = self.push_refused(step, asked, layer)?;
                check_in_force(row.action(), &action)?;
                row
            }
        };

        // The state follows from the action, so the recorded owners are only checked.
        let expected = row.state.owners();
        if owners.len() != expected.len() {
            return Err(StateError::DepthMismatch { expected: expected.len(), got: owners.len() });
        }

        match first_difference(expected, &owners) {
            Some((layer, expected, got)) => Err(StateError::StateMismatch { layer, expected, got }),
            None => Ok(()),
        }
    }
}

/// Refuses the line of an undone decision whose action is not the one in force.
pub(crate) fn check_in_force(in_force: &Action, got: &Action) -> Result<(), StateError> {
    if got.n_layers() != in_force.n_layers() {
        return Err(StateError::DepthMismatch {
            expected: in_force.n_layers(),
            got: got.n_layers(),
        });
    }

    match first_difference(in_force.values(), got.values()) {
        Some((layer, expected, got)) => Err(StateError::RefusedChanges { layer, expected, got }),
        None => Ok(()),
    }
}

/// The first entry that differs, with both values.
fn first_difference(expected: &[usize], got: &[usize]) -> Option<(usize, usize, usize)> {
    let mut entries = expected.iter().zip(got).enumerate();
    entries
        .find(|(_, (expected, got))| expected != got)
        .map(|(layer, (&expected, &got))| (layer, expected, got))
}
