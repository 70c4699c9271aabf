//! Rules of what layers share, and of layers that no tie may touch.

use super::{all_pass, each_breaks};
use crate::with;

#[test]
fn rejects_parts_of_a_block_that_do_not_exist() {
    for (wrong, says) in [
        ("tying.unit=half", "\"block\", \"attention\", \"feed-forward\""),
        ("tying.own=gains", "a list of \"norms\", \"scales\", \"biases\", each at most once"),
        ("tying.own=['norms', 'gains']", "a list of \"norms\", \"scales\", \"biases\""),
        ("tying.exempt=all", "\"ends\", or a list of layers"),
        ("tying.exempt=[-1]", "\"ends\", or a list of layers"),
    ] {
        let error = with(&[wrong]).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
    each_breaks(&[(&["tying.own=['norms', 'norms']"], "tying.own", "each at most once")]);
}

#[test]
fn rejects_exempt_layers_that_do_not_exist_or_leave_nothing_to_tie() {
    let layers = "model.layers=4";
    each_breaks(&[
        (&[layers, "tying.exempt=[0, 4]"], "tying.exempt", "layers from 0 to 3: model.layers is 4"),
        (&[layers, "tying.exempt=[0, 1, 2, 3]"], "tying.exempt", "two or more must be left"),
        (&[layers, "tying.exempt=[0, 1, 2]"], "tying.exempt", "two or more must be left"),
        (&["model.layers=2", "tying.exempt=ends"], "tying.exempt", "two or more must be left"),
    ]);
    all_pass(&[
        &[layers, "tying.exempt=ends"],
        &[layers, "tying.exempt=[1, 1]"],
        &[layers, "tying.exempt=[0, 3]", "tying.unit=attention", "tying.own=['scales', 'biases']"],
        &["model.layers=1", "agent.policy=none", "tying.initial=tied"],
    ]);

    // One group besides the exempt layers cannot be swapped.
    let swap = [layers, "agent.policy=conflict", "tying.decision=swap", "tying.initial=tied"];
    each_breaks(&[(&[&swap[..], &["tying.exempt=ends"]].concat(), "tying.initial", "swapped")]);
}

#[test]
fn exempt_layers_leave_every_grouping() {
    let owners = |set: &[&str]| {
        let spec = with(&[&["model.layers=6", "tying.exempt=ends"], set].concat()).unwrap();
        spec.check().unwrap().initial_state().into_owners()
    };
    assert_eq!(owners(&["tying.initial=frozen"]), [0, 1, 1, 1, 1, 5]);
    assert_eq!(owners(&["tying.initial=cycle"]), [0, 1, 2, 3, 1, 5]);
    assert_eq!(owners(&["tying.initial=[0, 0, 0, 3, 3, 0]"]), [0, 1, 1, 3, 3, 5]);

    // Exempt layers and the lowest of the others train from the start.
    let spec = with(&["model.layers=6", "tying.exempt=ends"]).unwrap().check().unwrap();
    let binding = spec.initial_binding();
    let frozen: Vec<_> = (0..6).filter(|&layer| binding.is_frozen(layer)).collect();
    assert_eq!(frozen, [2, 3, 4]);
    assert_eq!(binding.n_training_alone(), 3);

    let none = with(&["model.layers=6"]).unwrap().check().unwrap();
    assert_eq!(none.initial_binding(), dlt_state::binding::Binding::frozen(6));
}
