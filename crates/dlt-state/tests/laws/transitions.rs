//! Transitions, applied to a bank of weights.

use dlt_state::{Event, State, StateError, Transition};
use proptest::prelude::*;

use crate::brute_force::all_states;
use crate::strategies;

/// A toy model: each layer uses one block, and a block holds a label in place of weights.
#[derive(Clone)]
struct Bank {
    blocks: Vec<u64>,
    block_of_layer: Vec<usize>,
}

impl Bank {
    /// One block for each independent layer.
    fn new(state: &State, labels: impl Fn(usize) -> u64) -> Self {
        let owners: Vec<_> = state.groups().iter().map(|group| group.owner).collect();
        let block = |layer| owners.iter().position(|&owner| owner == state.owner(layer)).unwrap();
        Self {
            blocks: owners.iter().map(|&owner| labels(owner)).collect(),
            block_of_layer: (0..state.n_layers()).map(block).collect(),
        }
    }

    /// Applies the events. Blocks are never overwritten, so even a late copy has the weights that
    /// the layer used before.
    fn apply(&mut self, transition: &Transition) {
        for &event in transition.events() {
            match event {
                Event::Tied { layer, to, .. } => {
                    self.block_of_layer[layer] = self.block_of_layer[to]
                }
                Event::Untied { layer, .. } => {
                    self.blocks.push(self.weights(layer));
                    self.block_of_layer[layer] = self.blocks.len() - 1;
                }
            }
        }
    }

    fn weights(&self, layer: usize) -> u64 {
        self.blocks[self.block_of_layer[layer]]
    }
}

/// Checks that after the events, layers share a block exactly as in the target, and each owner has
/// kept the weights it used.
fn check_bank(from: &State, to: &State) {
    let transition = from.transition_to(to).unwrap();
    // Labels repeat, so that they do not show the grouping.
    let before = Bank::new(from, |owner| 100 + (owner as u64 % 3));
    let mut bank = before.clone();
    bank.apply(&transition);

    for layer in 0..to.n_layers() {
        assert_eq!(
            bank.weights(layer),
            before.weights(to.owner(layer)),
            "layer {layer} of {from:?} to {to:?}"
        );

        for other in 0..to.n_layers() {
            assert_eq!(
                bank.block_of_layer[layer] == bank.block_of_layer[other],
                to.owner(layer) == to.owner(other),
                "layers {layer} and {other} of {from:?} to {to:?}"
            );
        }
    }
}

/// Checks that there is one event for each layer whose owner differs, in rising order and of the
/// right kind.
fn check_events(from: &State, to: &State) {
    let transition = from.transition_to(to).unwrap();
    let mut owners = from.owners().to_vec();
    for event in transition.events() {
        assert_eq!(event.former_owner(), owners[event.layer()]);
        owners[event.layer()] = event.new_owner();
        assert_ne!(event.former_owner(), event.new_owner());
        assert_eq!(matches!(event, Event::Untied { .. }), event.new_owner() == event.layer());
    }

    assert_eq!(owners, to.owners());
    assert!(transition.events().is_sorted_by(|left, right| left.layer() < right.layer()));

    let untied = to.independent_layers().filter(|&layer| !from.is_independent(layer)).count();
    let changed = (0..to.n_layers()).filter(|&layer| from.owner(layer) != to.owner(layer)).count();
    let counts = transition.event_counts();

    assert_eq!((counts.untied, counts.total()), (untied, changed));
    assert_eq!((transition.from(), transition.to()), (from, to));
}

#[test]
fn law_events_reproduce_every_target() {
    for n_layers in 1..=5 {
        let states: Vec<_> =
            all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()).collect();
        for from in &states {
            for to in &states {
                check_events(from, to);
                check_bank(from, to);
                assert_eq!(from.transition_to(to).unwrap().is_empty(), from == to);
            }
        }
    }
}

/// Layer 1 gives up its weights in the very decision in which layer 2, which used them, is untied.
#[test]
fn law_untied_layer_keeps_what_its_former_owner_gives_up() {
    let from = State::new(vec![0, 1, 1]).unwrap();
    let to = State::new(vec![0, 0, 2]).unwrap();
    let mut bank = Bank::new(&from, |owner| owner as u64);
    bank.apply(&from.transition_to(&to).unwrap());
    assert_eq!([bank.weights(0), bank.weights(1), bank.weights(2)], [0, 0, 1]);
}

#[test]
fn rejects_transition_to_another_depth() {
    let error = State::all_tied(3).transition_to(&State::all_tied(4));
    assert_eq!(error, Err(StateError::DepthMismatch { expected: 3, got: 4 }));
}

proptest! {
    #[test]
    fn law_events_reproduce_the_target_at_any_depth(
        (from, to) in (1..=strategies::MAX_DEPTH)
            .prop_flat_map(|n_layers| (strategies::state_of(n_layers), strategies::state_of(n_layers)))
    ) {
        check_events(&from, &to);
        check_bank(&from, &to);
    }

    #[test]
    fn law_a_transition_then_its_target_is_empty(
        (from, to) in (1..=strategies::MAX_DEPTH)
            .prop_flat_map(|n_layers| (strategies::state_of(n_layers), strategies::state_of(n_layers)))
    ) {
        let transition = from.transition_to(&to).unwrap();
        prop_assert!(transition.to().transition_to(&to).unwrap().is_empty());
        let back = to.transition_to(&from).unwrap();
        prop_assert_eq!(back.events().len(), transition.events().len());
    }
}
