//! What serde reads and writes for values with a rule between their fields. Reading uses the
//! constructors, which check the rule.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::recording::check_in_force;
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
    /// Whether decisions may be refused. Older forms lack this field.
    #[serde(default, skip_serializing_if = "is_plain")]
    gated: bool,
    rows: Vec<RowForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowForm {
    step: usize,
    layer: Option<usize>,
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Action>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_plain(gated: &bool) -> bool {
    !gated
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
        let row = |row: &crate::Row| RowForm {
            step: row.step(),
            layer: row.layer(),
            action: row.action().clone(),
            refused: row.refused().cloned(),
        };

        Self {
            initial: recording.initial().clone(),
            gated: recording.version() == Recording::GATED_VERSION,
            rows: recording.rows().iter().map(row).collect(),
        }
    }
}

impl TryFrom<RecordingForm> for Recording {
    type Error = StateError;

    fn try_from(form: RecordingForm) -> Result<Self, StateError> {
        let mut recording =
            if form.gated { Self::gated(form.initial) } else { Self::starting_from(form.initial) };

        for RowForm { step, layer, action, refused } in form.rows {
            match refused {
                None => drop(recording.push(step, action, layer)?),
                Some(asked) => {
                    check_in_force(recording.push_refused(step, asked, layer)?.action(), &action)?;
                }
            }
        }

        Ok(recording)
    }
}
