//! Replication without tying (DEVIATIONS row 32): every layer that is not frozen has its own
//! weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::backward::TrainingPass;
use dlt_models::binding::{Binding, Change, Move, Rules, Settlement, StorageId};
use dlt_models::file::ModelFile;
use dlt_models::{Batch, Model};
use dlt_spec::spec::{Checkpointing, FirstTie, Gradient, Tie};
use dlt_state::{Action, State};
use proptest::prelude::*;

use crate::fixtures::{PAPER, distance, drawn, small, states};

const REPLICATE: Rules = Rules { tie: Tie::Replicate, ..PAPER };

/// What each layer should hold, worked out independently of the binding: a text that grows with
/// each decision that is trained.
struct Ledger {
    holds: Vec<String>,
    frozen: Vec<bool>,
}

impl Ledger {
    fn of(binding: &Binding) -> Self {
        let n_layers = binding.n_layers();
        Self {
            holds: (0..n_layers).map(|layer| format!("initial {layer}")).collect(),
            frozen: (0..n_layers).map(|layer| binding.is_frozen(layer)).collect(),
        }
    }

    /// The layers that a decision replicates and those that it thaws.
    fn decide(&mut self, change: &Change<'_>, first_tie: FirstTie) -> (Vec<usize>, Vec<usize>) {
        let mut replicated = Vec::new();
        let mut thawed = Vec::new();

        for layer in 0..self.holds.len() {
            let was = change.from.owner(layer);
            let owner = change.to.owner(layer);
            let is_visited = change.visited.is_none_or(|visited| visited == layer);
            let first = self.frozen[layer] && is_visited && first_tie == FirstTie::Replicate;

            if was == owner && !first {
                continue;
            }

            if owner != layer {
                self.holds[layer] = self.holds[owner].clone();
                replicated.push(layer);
            } else if self.frozen[layer] {
                thawed.push(layer);
            }

            self.frozen[layer] = false;
        }

        (replicated, thawed)
    }

    fn train(&mut self, decision: usize) {
        for layer in (0..self.holds.len()).filter(|&layer| !self.frozen[layer]) {
            self.holds[layer] = format!("{}, {layer} trained {decision}", self.holds[layer]);
        }
    }
}

/// Applies the moves to blocks that are texts. There are never more blocks than layers.
fn carry_out(bank: &mut BTreeMap<StorageId, String>, settlement: &Settlement, n_layers: usize) {
    for step in &settlement.moves {
        match *step {
            Move::Materialise(id) => drop(bank.insert(id, format!("initial {}", id.0))),
            Move::Copy { from, to } => drop(bank.insert(to, bank[&from].clone())),
            Move::Blend { .. } => panic!("copies are never averaged"),
            Move::Release(id) => drop(bank.remove(&id)),
        }

        assert!(bank.len() <= n_layers, "{step:?}: {bank:?}");
    }
}

fn check_binding(binding: &Binding, ledger: &Ledger) {
    let layers = 0..binding.n_layers();
    assert_eq!(binding.partition(), layers.clone().collect::<Vec<_>>(), "no two layers share");

    for layer in layers {
        let own = (!ledger.frozen[layer]).then_some(layer);
        assert_eq!(binding.is_frozen(layer), own.is_none());
        assert_eq!(binding.trains_alone(layer), own.is_some());

        for gradient in [Gradient::Sum, Gradient::Owner] {
            assert_eq!(binding.slot(layer, gradient), own);
        }
    }
}

proptest! {
    /// Any decisions, joint or one layer at a time, from either start.
    #[test]
    fn law_a_replicated_layer_holds_what_its_owner_holds_and_shares_it_with_nobody(
        actions in (1usize..8).prop_flat_map(|n_layers| {
            let action = (0..n_layers).map(|layer| 0..=layer).collect::<Vec<_>>();
            prop::collection::vec(action, 1..8)
        }),
        starts_frozen in any::<bool>(),
        literal in any::<bool>(),
        one_by_one in any::<bool>(),
    ) {
        let n_layers = actions[0].len();
        let first_tie = if literal { FirstTie::Literal } else { FirstTie::Replicate };
        let rules = Rules { first_tie, ..REPLICATE };
        let (mut binding, mut whole) = if starts_frozen {
            (Binding::frozen(n_layers), Action::all_zero(n_layers))
        } else {
            let state = State::independent(n_layers);
            (Binding::of_state(&state), state.as_action().clone())
        };
        let mut ledger = Ledger::of(&binding);
        let mut bank: BTreeMap<_, _> = (0..n_layers)
            .filter(|&layer| !binding.is_frozen(layer))
            .map(|layer| (binding.storage(layer), format!("initial {layer}")))
            .collect();
        for (decision, values) in actions.iter().enumerate() {
            let visited = one_by_one.then_some(decision % n_layers);
            let from = State::from_action(&whole);

            match visited {
                Some(layer) => whole.replace(layer, values[layer]).expect("in range"),
                None => whole = Action::new(values.clone()).expect("in range"),
            }

            let to = State::from_action(&whole);
            let change = Change { from: &from, to: &to, action: &whole, visited };
            let settlement = binding.apply(&rules, &change).expect("equal depths");
            let (replicated, thawed) = ledger.decide(&change, first_tie);

            carry_out(&mut bank, &settlement, n_layers);
            check_binding(&binding, &ledger);

            for layer in (0..n_layers).filter(|&layer| !ledger.frozen[layer]) {
                prop_assert_eq!(&bank[&binding.storage(layer)], &ledger.holds[layer]);
            }

            // A block for each layer that trains, and no other.
            prop_assert_eq!(bank.len(), binding.n_training_alone());
            prop_assert_eq!(settlement.replicated, replicated);
            let thawed: Vec<_> = thawed.into_iter().map(|layer| (layer, None)).collect();
            prop_assert_eq!(settlement.untied, thawed);
            prop_assert!(settlement.tied.is_empty());
            ledger.train(decision);

            for layer in (0..n_layers).filter(|&layer| !ledger.frozen[layer]) {
                bank.insert(binding.storage(layer), ledger.holds[layer].clone());
            }
        }
    }
}

/// The weights that each layer computes with.
fn weights(model: &Model) -> Vec<Vec<Tensor>> {
    let binding = model.binding();
    let of = |layer| model.bank().weights(binding.storage(layer)).expect("memory");

    // Deep copies: variables change in place.
    (0..binding.n_layers())
        .map(|layer| of(layer).iter().map(|tensor| tensor.copy().expect("memory")).collect())
        .collect()
}

fn are_equal(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| distance(a, b) == 0.0)
}

/// A conventional model with the weights that a model's layers have now.
fn conventional(model: &Model) -> Model {
    let named = model.named_tensors().expect("memory");
    let lookup = |name: &str| Ok(named.get(name).cloned());
    let binding = Binding::of_state(&State::independent(4));

    Model::from_weights(
        Arc::new(small()),
        binding,
        PAPER,
        Kernels::Fused,
        &lookup,
        None,
        &Device::Cpu,
    )
    .expect("every layer has its own weights")
}

/// Real weights and their gradients, through all 15 states and back, from either start.
#[test]
fn law_replicated_layers_train_as_a_conventional_model_does() {
    let ids: Vec<u32> = (0..19).map(|i| (i * i * 7 + i * 3 + 5) % 31).collect();
    let batch = Batch::next_token(&ids[..18], &ids[1..], 2);
    let scale = 1.0 / 18.0;
    let pass =
        TrainingPass { checkpointing: Checkpointing::None, dropout: None, scale, sketch: None };

    for (binding, mut from) in [
        (Binding::frozen(4), State::all_tied(4)),
        (Binding::of_state(&State::independent(4)), State::independent(4)),
    ] {
        let mut model = drawn(binding, REPLICATE, Kernels::Fused);
        for to in states().into_iter().chain(states().into_iter().rev()) {
            let before = weights(&model);
            let change = Change { from: &from, to: &to, action: to.as_action(), visited: None };
            let replicated = model.apply(&change).expect("applied").replicated;
            let after = weights(&model);

            for (layer, after) in after.iter().enumerate() {
                let owner = if replicated.contains(&layer) { to.owner(layer) } else { layer };
                assert!(are_equal(after, &before[owner]), "layer {layer} from {from:?} to {to:?}");
            }

            assert_eq!(model.bank().blocks().len(), 4);
            let conventional = conventional(&model);
            assert_eq!(model.n_trainable_parameters(), conventional.n_trainable_parameters());

            let [(loss, ours), (expected, theirs)] = [&model, &conventional]
                .map(|model| model.gradients(&batch, &pass).expect("a pass"));
            assert_eq!(loss, expected);
            assert_eq!(ours.slots.len(), 4);

            for (slot, gradients) in &ours.slots {
                assert!(are_equal(gradients, &theirs.slots[slot]), "layer {slot} in {to:?}");
                for (variable, gradient) in
                    model.slot_parameters(*slot).variables().iter().zip(gradients)
                {
                    let moved = (gradient * -0.1).and_then(|step| variable.as_tensor() + step);
                    variable.set(&moved.expect("equal shapes")).expect("a variable can be set");
                }
            }

            let trained = weights(&model);
            let a = &trained[to.owner(3)];
            let b = &trained[3];

            assert!(
                to.is_independent(3) || !are_equal(a, b),
                "a layer and its owner differ after training in {to:?}"
            );
            from = to;
        }
    }
}

#[test]
fn law_a_saved_model_of_replicated_layers_computes_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let mut model = drawn(Binding::frozen(4), REPLICATE, Kernels::Fused);
    let ids: Vec<u32> = (0..9).collect();
    let mut from = State::all_tied(4);

    for owners in [[0, 1, 0, 1], [0, 0, 2, 0]] {
        let to = State::new(owners.to_vec()).expect("a state");
        let change = Change { from: &from, to: &to, action: to.as_action(), visited: None };
        model.apply(&change).expect("applied");
        from = to;
    }

    model.save(&path, &BTreeMap::new()).expect("saved");
    let file = ModelFile::open(&path).expect("opened");
    let read =
        file.model(Arc::new(small()), REPLICATE, Kernels::Fused, &Device::Cpu).expect("read");

    assert_eq!(read.binding().partition(), [0, 1, 2, 3]);
    assert_eq!(read.binding().n_training_alone(), 4);

    let logits = |model: &Model| model.next_logits(&ids).expect("logits");
    assert_eq!(logits(&model), logits(&read));
}
