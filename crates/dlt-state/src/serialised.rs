//! What serde reads and writes for values that have a rule between their fields; reading goes through the constructors.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Action, Recording, State, StateError, Transition};

/// A transition without its events, which follow from its states.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransitionForm {
    from: State,
    to: State,
}

/// A recording without its states, which follow from the actions.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordingForm {
    initial: State,
    rows: Vec<RowForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowForm {
    step: usize,
    layer: Option<usize>,
    action: Action,
}

impl From<Transition> for TransitionForm {
    fn from(transition: Transition) -> Self {
        Self { from: transition.from().clone(), to: transition.to().clone() }
    }
}

impl TryFrom<TransitionForm> for Transition {
    type Error = StateError;

    fn try_from(form: TransitionForm) -> Result<Self, StateError> {
        Self::between(form.from, form.to)
    }
}

impl From<Recording> for RecordingForm {
    fn from(recording: Recording) -> Self {
        let row =
            |row: &crate::Row| RowForm { step: row.step(), layer: row.layer(), action: row.action().clone() };
        Self { initial: recording.initial().clone(), rows: recording.rows().iter().map(row).collect() }
    }
}

impl TryFrom<RecordingForm> for Recording {
    type Error = StateError;

    fn try_from(form: RecordingForm) -> Result<Self, StateError> {
        let mut recording = Self::starting_from(form.initial);
        for row in form.rows {
            recording.push(row.step, row.action, row.layer)?;
        }
        Ok(recording)
    }
}
