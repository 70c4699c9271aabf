//! Random values for the property tests.

use dlt_state::{Action, Recording, State};
use proptest::prelude::*;

/// The depth of the paper's deepest model.
pub(crate) const MAX_DEPTH: usize = 48;

pub(crate) fn action_of(n_layers: usize) -> impl Strategy<Value = Action> {
    let entries: Vec<_> = (0..n_layers).map(|layer| 0..=layer).collect();
    entries.prop_map(|values| Action::new(values).unwrap())
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    (1..=MAX_DEPTH).prop_flat_map(action_of)
}

pub(crate) fn state_of(n_layers: usize) -> impl Strategy<Value = State> {
    action_of(n_layers).prop_map(|action| State::from_action(&action))
}

pub(crate) fn permutation_of(n_layers: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..n_layers).collect::<Vec<_>>()).prop_shuffle()
}

/// A recording with up to 20 decisions, some of one layer, some at the same step as the one before.
/// In version 2, some are refused.
pub(crate) fn recording() -> impl Strategy<Value = Recording> {
    (1..=12_usize).prop_flat_map(|n_layers| {
        let layer = proptest::option::of(0..n_layers);
        let row = (0..20_usize, action_of(n_layers), layer, any::<bool>());
        let rows = proptest::collection::vec(row, 0..20);

        (state_of(n_layers), any::<bool>(), any::<bool>(), rows).prop_map(
            move |(initial, tied, gated, rows)| {
                let initial = if tied { State::all_tied(n_layers) } else { initial };
                let mut recording = if gated {
                    Recording::gated(initial)
                } else {
                    Recording::starting_from(initial)
                };

                let mut step = 0;
                for (pause, action, layer, refused) in rows {
                    step += pause;
                    if gated && refused {
                        recording.push_refused(step, action, layer).unwrap();
                    } else {
                        recording.push(step, action, layer).unwrap();
                    }
                }

                recording
            },
        )
    })
}
