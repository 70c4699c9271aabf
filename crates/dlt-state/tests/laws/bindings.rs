//! Bindings: the moves of every reading of the method.

use std::collections::{BTreeMap, BTreeSet};

use dlt_state::binding::{
    Binding, Change, FirstTie, Gradient, Merge, Move, Retied, Rules, Tie, Untie,
};
use dlt_state::{Action, State, StateError};
use proptest::prelude::*;

use crate::brute_force::all_states;

const GRADIENTS: [Gradient; 2] = [Gradient::Sum, Gradient::Owner];

/// Two actions of one depth.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    (1usize..8).prop_flat_map(|n_layers| {
        let action = (0..n_layers).map(|layer| 0..=layer).collect::<Vec<_>>();
        prop::collection::vec(
            action.prop_map(|values| Action::new(values).expect("in range")),
            1..6,
        )
    })
}

proptest! {
    /// Under `copy` and `follow` storage is grouped as the state says, after any earlier decisions.
    #[test]
    fn law_joint_decisions_reproduce_the_state(actions in actions()) {
        let n_layers = actions[0].n_layers();
        let mut binding = Binding::frozen(n_layers);
        let mut from = State::all_tied(n_layers);

        for action in &actions {
            let to = State::from_action(action);
            let change = Change { from: &from, to: &to, action, visited: None };
            binding.apply(&Rules::PAPER, &change).expect("equal depths");
            prop_assert_eq!(binding.partition(), to.owners());
            prop_assert_eq!(binding.n_training_alone(), to.n_independent());
            prop_assert!((0..n_layers).all(|layer| !binding.is_frozen(layer)));
            from = to;
        }
    }

    /// In a bank of labels that follows the moves, an untied layer holds what it used before the
    /// decision, and a tied layer what its owner holds after it. Only storages in use are left.
    #[test]
    fn law_moves_carry_what_each_layer_used(actions in actions()) {
        let n_layers = actions[0].n_layers();
        let mut binding = Binding::of_state(&State::independent(n_layers));
        let mut from = State::independent(n_layers);
        let mut bank: BTreeMap<_, String> =
            (0..n_layers).map(|layer| (binding.storage(layer), layer.to_string())).collect();

        for action in &actions {
            let to = State::from_action(action);
            let holds = |bank: &BTreeMap<_, String>, binding: &Binding| -> Vec<String> {
                (0..n_layers).map(|layer| bank[&binding.storage(layer)].clone()).collect()
            };
            let used = holds(&bank, &binding);
            let change = Change { from: &from, to: &to, action, visited: None };
            let settlement = binding.apply(&Rules::PAPER, &change).expect("equal depths");

            let keeps_function = settlement.keeps_function;
            for step in settlement.moves {
                match step {
                    Move::Materialise(id) => { bank.insert(id, "initial".to_owned()); }
                    Move::Copy { from, to } => { bank.insert(to, bank[&from].clone()); }
                    Move::Blend { .. } => panic!("nothing is averaged under the paper's rules"),
                    Move::Release(id) => { bank.remove(&id); }
                }
            }

            for layer in 0..n_layers {
                prop_assert_eq!(&bank[&binding.storage(layer)], &used[to.owner(layer)]);
            }

            // Equal labels are equal weights, so no decision that changes one keeps the function.
            prop_assert!(!keeps_function || holds(&bank, &binding) == used);
            let moved = (0..n_layers).any(|layer| {
                let owner = to.owner(layer);
                owner != layer && from.owner(layer) != from.owner(owner)
            });
            prop_assert_eq!(keeps_function, !moved);
            prop_assert_eq!(bank.len(), to.n_independent());
            from = to;
        }
    }

    /// Under `average` a block becomes the mean of what its layers used before, if those blocks are
    /// released. A layer that used a block which stays counts for its owner's block. The moments
    /// are averaged in the same way.
    #[test]
    fn law_averaged_blocks_are_the_mean_of_what_their_layers_used(actions in actions()) {
        let n_layers = actions[0].n_layers();
        let mut binding = Binding::of_state(&State::independent(n_layers));
        let mut from = State::independent(n_layers);
        let mut bank: BTreeMap<_, f64> =
            (0..n_layers).map(|layer| (binding.storage(layer), (layer * layer) as f64)).collect();
        let rules = Rules { merge: Merge::Average, ..Rules::PAPER };

        for action in &actions {
            let to = State::from_action(action);
            let before = binding.clone();
            let used: Vec<_> = (0..n_layers).map(|layer| bank[&before.storage(layer)]).collect();
            let mut moments = used.clone();
            let change = Change { from: &from, to: &to, action, visited: None };
            let settlement = binding.apply(&rules, &change).expect("equal depths");

            for step in settlement.moves {
                match step {
                    Move::Materialise(id) => panic!("{id:?}: no layer is frozen"),
                    Move::Copy { from, to } => { let copy = bank[&from]; bank.insert(to, copy); }
                    Move::Blend { from, into, share } => {
                        prop_assert!(share > 0.0 && share < 1.0);
                        let blended = (1.0 - share) * bank[&into] + share * bank[&from];
                        bank.insert(into, blended);
                    }
                    Move::Release(id) => { bank.remove(&id); }
                }
            }

            // Layers that untie inherit their moments before any moments are averaged.
            for &(layer, owner) in &settlement.untied {
                moments[layer] = used[owner.expect("no layer is frozen")];
            }

            for merged in &settlement.merged {
                prop_assert!(before.trains_alone(merged.from) && binding.trains_alone(merged.into));
                let share = merged.share;
                moments[merged.into] =
                    (1.0 - share) * moments[merged.into] + share * used[merged.from];
            }

            let stays = |layer: usize| {
                (0..n_layers).any(|other| binding.storage(other) == before.storage(layer))
            };
            for group in to.groups() {
                let voices = group.members.iter().map(|&layer| {
                    used[if stays(layer) { group.owner } else { layer }]
                });
                let mean = voices.sum::<f64>() / group.members.len() as f64;
                prop_assert!((bank[&binding.storage(group.owner)] - mean).abs() < 1e-9);
                prop_assert!((moments[group.owner] - mean).abs() < 1e-9);
            }

            prop_assert_eq!(bank.len(), to.n_independent());
            from = to;
        }
    }

    /// An independent position has its own slot. A tied one has that of its group (`sum`) or none
    /// (`owner`).
    #[test]
    fn law_slots_follow_the_groups(actions in actions()) {
        let n_layers = actions[0].n_layers();
        let from = State::all_tied(n_layers);

        for action in &actions {
            let to = State::from_action(action);
            let mut binding = Binding::frozen(n_layers);
            let change = Change { from: &from, to: &to, action, visited: None };
            binding.apply(&Rules::PAPER, &change).expect("equal depths");

            for layer in 0..n_layers {
                prop_assert_eq!(binding.slot(layer, Gradient::Sum), Some(to.owner(layer)));
                let own = to.is_independent(layer).then_some(layer);
                prop_assert_eq!(binding.slot(layer, Gradient::Owner), own);
            }
        }
    }

    /// Under every reading of the method each storage in use exists after the moves, and a layer
    /// that trains has a block.
    #[test]
    fn law_every_reading_keeps_its_blocks(
        actions in actions(),
        replicate in any::<bool>(),
        alias in any::<bool>(),
        keep in any::<bool>(),
        literal in any::<bool>(),
        one_by_one in any::<bool>(),
    ) {
        let rules = Rules {
            tie: if replicate { Tie::Replicate } else { Tie::Share },
            gradient: Gradient::Sum,
            untie: if alias { Untie::Alias } else { Untie::Copy },
            retied: if keep { Retied::Keep } else { Retied::Follow },
            first_tie: if literal { FirstTie::Literal } else { FirstTie::Replicate },
            merge: Merge::Overwrite,
        };

        let n_layers = actions[0].n_layers();
        let mut binding = Binding::frozen(n_layers);
        let mut whole = Action::all_zero(n_layers);
        let mut blocks = BTreeSet::from([binding.storage(0)]);

        for action in &actions {
            let visits: Vec<_> =
                if one_by_one { (1..n_layers).map(Some).collect() } else { vec![None] };
            for visited in visits {
                let from = State::from_action(&whole);
                match visited {
                    Some(layer) => whole.replace(layer, action.values()[layer]).expect("in range"),
                    None => whole = action.clone(),
                }

                let to = State::from_action(&whole);
                let change = Change { from: &from, to: &to, action: &whole, visited };
                for step in binding.apply(&rules, &change).expect("equal depths").moves {
                    match step {
                        Move::Materialise(id) => { blocks.insert(id); }
                        Move::Copy { from, to } => {
                            prop_assert!(blocks.contains(&from));
                            blocks.insert(to);
                        }
                        Move::Blend { .. } => panic!("nothing is averaged under `overwrite`"),
                        Move::Release(id) => { blocks.remove(&id); }
                    }
                }

                for layer in 0..n_layers {
                    let held = blocks.contains(&binding.storage(layer));
                    prop_assert!(held || binding.is_frozen(layer));

                    for gradient in GRADIENTS {
                        prop_assert!(held || binding.slot(layer, gradient).is_none());
                    }
                }
            }
        }
    }
}

/// From every state to every other one, of up to five layers: each layer then holds what its owner
/// used, the storage is grouped as the state says, and no block is copied that could be kept.
#[test]
fn law_any_state_leads_to_any_other() {
    for n_layers in 1..=5 {
        let states: Vec<_> =
            all_states(n_layers).into_iter().map(|owners| State::new(owners).unwrap()).collect();

        for (from, to) in states.iter().flat_map(|from| states.iter().map(move |to| (from, to))) {
            let mut binding = Binding::of_state(from);
            let mut bank: BTreeMap<_, usize> =
                from.independent_layers().map(|layer| (binding.storage(layer), layer)).collect();
            let settlement = binding.apply(&Rules::PAPER, &Change::joint(from, to)).unwrap();

            let mut copies = 0;
            for step in settlement.moves {
                match step {
                    Move::Copy { from, to } => {
                        let copied = bank[&from];
                        assert_eq!(bank.insert(to, copied), None, "a copy is a new block");
                        copies += 1;
                    }
                    Move::Release(id) => assert!(bank.remove(&id).is_some(), "released once"),
                    other => panic!("no layer is frozen and nothing is averaged: {other:?}"),
                }
            }

            for layer in 0..n_layers {
                assert_eq!(bank[&binding.storage(layer)], from.owner(to.owner(layer)));
            }

            let kept: BTreeSet<_> =
                to.independent_layers().map(|layer| from.owner(layer)).collect();
            assert_eq!(copies, to.n_independent() - kept.len(), "{from} to {to}");
            assert_eq!(bank.len(), to.n_independent());
            assert_eq!(binding.partition(), to.owners());
        }
    }
}

/// In every reading without averages and from every start, a binding that is foreseen names for each
/// layer a storage that is there, with the values that the moves bring.
#[test]
fn law_what_is_foreseen_is_what_each_layer_will_hold() {
    let readings = [Tie::Share, Tie::Replicate].into_iter().flat_map(|tie| {
        [FirstTie::Replicate, FirstTie::Literal].map(|first_tie| Rules {
            tie,
            first_tie,
            ..Rules::PAPER
        })
    });

    for rules in readings.chain([Rules::REFERENCE]) {
        for n_layers in 1..=4 {
            let states: Vec<_> = all_states(n_layers)
                .into_iter()
                .map(|owners| State::new(owners).unwrap())
                .collect();

            for (from, to) in states.iter().flat_map(|from| states.iter().map(move |to| (from, to)))
            {
                let tied = State::all_tied(n_layers);
                let frozen = Binding::frozen(n_layers);
                let starts = [(&tied, frozen), (from, Binding::of_state(from))];

                // Replicated layers never share storage.
                let is_start =
                    |start: &Binding| rules.tie == Tie::Share || start.n_distinct() == n_layers;
                for (from, start) in starts.into_iter().filter(|(_, start)| is_start(start)) {
                    let change = Change::joint(from, to);
                    let foreseen = start.foreseen(&rules, &change).unwrap();
                    let mut entered = start.clone();
                    let settlement = entered.apply(&rules, &change).unwrap();

                    // Every storage begins with its own number as its value.
                    let mut bank: BTreeMap<_, usize> = (0..n_layers)
                        .map(|layer| (start.storage(layer), start.storage(layer).0))
                        .collect();
                    for step in settlement.moves {
                        if let Move::Copy { from, to } = step {
                            let copied = bank[&from];
                            bank.insert(to, copied);
                        }
                    }

                    for layer in 0..n_layers {
                        let id = foreseen.storage(layer);
                        assert!((0..n_layers).any(|other| start.storage(other) == id));
                        assert_eq!(
                            bank[&entered.storage(layer)],
                            id.0,
                            "{from} to {to}: {rules:?}"
                        );
                        assert_eq!(foreseen.is_frozen(layer), entered.is_frozen(layer));
                    }
                }
            }
        }
    }
}

fn joint(binding: &mut Binding, rules: &Rules, from: &State, action: &[usize]) -> State {
    let action = Action::new(action.to_vec()).expect("an action");
    let to = State::from_action(&action);
    binding
        .apply(rules, &Change { from, to: &to, action: &action, visited: None })
        .expect("equal depths");

    to
}

#[test]
fn literal_first_tie_leaves_layers_frozen_until_their_state_changes() {
    let literal = Rules { first_tie: FirstTie::Literal, ..Rules::PAPER };
    let mut binding = Binding::frozen(4);
    let state = joint(&mut binding, &literal, &State::all_tied(4), &[0, 0, 2, 0]);

    assert_eq!(binding.partition(), [0, 1, 2, 3]);
    assert!(binding.is_frozen(1) && binding.is_frozen(3) && !binding.is_frozen(2));
    assert_eq!((binding.n_training_alone(), binding.n_distinct()), (2, 4));
    joint(&mut binding, &literal, &state, &[0, 0, 2, 2]);
    assert_eq!(binding.partition(), [0, 1, 2, 2]);
    assert!(binding.is_frozen(1) && !binding.is_frozen(3));
}

#[test]
fn a_trainable_start_is_tied_by_the_first_decision_or_where_the_state_changes() {
    let start = || Binding::of_state(&State::independent(4));
    let mut binding = start();
    joint(&mut binding, &Rules::PAPER, &State::all_tied(4), &[0, 0, 2, 2]);
    assert_eq!((binding.partition(), binding.n_training_alone()), (vec![0, 0, 2, 2], 2));

    let literal = Rules { first_tie: FirstTie::Literal, ..Rules::PAPER };
    let mut binding = start();
    let state = joint(&mut binding, &literal, &State::all_tied(4), &[0, 0, 2, 0]);

    assert_eq!(
        (binding.partition(), binding.n_training_alone()),
        (vec![0, 1, 2, 3], 4),
        "all train their own"
    );
    let state = joint(&mut binding, &literal, &state, &[0, 0, 2, 2]);
    assert_eq!((binding.partition(), binding.n_training_alone()), (vec![0, 1, 2, 2], 3));

    let block = binding.storage(1);
    joint(&mut binding, &literal, &state, &[0, 1, 2, 2]);
    assert_eq!(
        (binding.storage(1), binding.n_training_alone()),
        (block, 3),
        "it trains what it had"
    );
}

#[test]
fn first_member_that_unties_takes_over_an_abandoned_block() {
    let mut binding = Binding::of_state(&State::new(vec![0, 1, 1, 1]).expect("a state"));
    let block = binding.storage(1);
    let from = State::new(vec![0, 1, 1, 1]).expect("a state");

    joint(&mut binding, &Rules::PAPER, &from, &[0, 0, 2, 2]);
    assert_eq!(binding.partition(), [0, 0, 2, 2]);
    assert_eq!(binding.storage(2), block, "no copy is made of a block that no other layer keeps");
}

#[test]
fn alias_shares_storage_while_the_state_says_independent() {
    let alias = Rules { untie: Untie::Alias, ..Rules::PAPER };
    let mut binding = Binding::frozen(3);
    let state = joint(&mut binding, &alias, &State::all_tied(3), &[0, 0, 0]);

    joint(&mut binding, &alias, &state, &[0, 1, 1]);
    assert_eq!(binding.partition(), [0, 0, 0]);
    assert_eq!((binding.n_training_alone(), binding.n_distinct()), (2, 1));
    assert_eq!(binding.slot(1, Gradient::Owner), Some(1));
}

#[test]
fn rejects_a_state_of_another_depth() {
    let from = State::all_tied(4);
    let action = Action::all_zero(4);
    let to = State::from_action(&action);
    let refused = Binding::frozen(3)
        .apply(&Rules::PAPER, &Change { from: &from, to: &to, action: &action, visited: None });

    assert_eq!(refused.expect_err("another depth").to_string(), "expected 3 layers, got 4");
}

#[test]
fn rejects_parts_that_contradict_themselves() {
    for (lowest, frozen, expected) in [
        (&[][..], &[][..], StateError::Empty),
        (&[0, 2, 2], &[], StateError::CannotShare { layer: 1, with: 2 }),
        (&[0, 0, 1], &[], StateError::CannotShare { layer: 2, with: 1 }),
        (&[0, 1], &[2], StateError::LayerOutOfRange { layer: 2, n_layers: 2 }),
    ] {
        assert_eq!(Binding::from_parts(lowest, frozen, &[]), Err(expected));
    }
}
