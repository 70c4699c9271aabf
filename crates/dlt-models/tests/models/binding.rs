//! Bindings compared with recordings of the authors' code.

use dlt_models::binding::{Binding, Change, Gradient, Rules};
use dlt_state::{Action, State};

use crate::fixtures::{json, numbers};

/// All 51 traces: raw state, storage partition and gradient flags after every row.
#[test]
fn matches_reference_action_traces() {
    let traces = json("reference/action_traces.json");
    let mut rows = 0;

    for trace in traces["traces"].as_array().expect("traces") {
        let n_layers = trace["n_layers"].as_u64().expect("a depth") as usize;
        let mut binding = Binding::frozen(n_layers);
        let mut action = Action::all_zero(n_layers);

        for row in trace["rows"].as_array().expect("rows") {
            if let Some(layer) = row["layer"].as_u64() {
                let layer = layer as usize;
                let choice = row["action"].as_i64().expect("an action");
                let choice = usize::try_from(choice).map_or(layer, |choice| choice.min(layer));
                let from = State::from_action(&action);

                action.replace(layer, choice).expect("a choice of this layer");
                let change = Change {
                    from: &from,
                    to: &State::from_action(&action),
                    action: &action,
                    visited: Some(layer),
                };

                binding.apply(&Rules::REFERENCE, &change).expect("equal depths");
            }

            assert_eq!(action.values(), numbers(&row["state"]));
            assert_eq!(
                binding.partition(),
                numbers(&row["storage"]),
                "trace of {n_layers} layers, row {rows}"
            );

            let flags: Vec<bool> = (0..n_layers)
                .map(|layer| binding.slot(layer, Gradient::Owner) == Some(layer))
                .collect();
            let expected: Vec<bool> = row["gradient"]
                .as_array()
                .expect("flags")
                .iter()
                .map(|flag| flag == true)
                .collect();
            assert_eq!(flags, expected);
            rows += 1;
        }
    }

    assert_eq!(rows, 769);
}
