//! Which parameters of a block layers can share: laws that hold for every family.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_models::architecture::Architecture;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change, Gradient, Rules};
use dlt_models::division::{Half, Keeps, is_scale};
use dlt_models::file::ModelFile;
use dlt_spec::spec::{Activations, Checkpointing, Own, Trains, Unit};
use dlt_state::State;

use crate::families::{Family, bits};
use crate::fixtures::{PAPER, states};

const PASS: TrainingPass =
    TrainingPass { checkpointing: Checkpointing::None, dropout: None, scale: 0.1, sketch: None };

/// What layers can keep: halves, each kind of small parameter alone, and several together.
fn all_keeps() -> Vec<Keeps> {
    let own = [
        vec![],
        vec![Own::Norms],
        vec![Own::Scales],
        vec![Own::Biases],
        vec![Own::Norms, Own::Scales, Own::Biases],
    ];
    let with = |unit| own.clone().map(|own| Keeps { unit, own });
    [Unit::Block, Unit::Attention, Unit::FeedForward].into_iter().flat_map(with).collect()
}

fn model(architecture: Arc<dyn Architecture>, state: &State, rules: Rules) -> Model {
    let binding = Binding::of_state(state);
    Model::new(architecture, binding, rules, Kernels::Fused, 7, &Device::Cpu).expect("it fits")
}

fn all_bits(gradients: &Gradients) -> Vec<Vec<u32>> {
    gradients.all().into_iter().map(bits).collect()
}

/// Gradients in blocks by layer and name.
fn by_name(model: &Model, gradients: &Gradients) -> BTreeMap<(usize, &'static str), Vec<u32>> {
    let division = model.bank().division();
    let of = |layout: &Arc<dlt_models::parameters::Layout>,
              gradients: &BTreeMap<usize, Vec<Tensor>>| {
        let each = gradients.iter().flat_map(|(&layer, tensors)| {
            let entries = layout.entries().iter().zip(tensors);
            entries.map(move |(entry, tensor)| ((layer, entry.name), bits(tensor)))
        });
        each.collect::<Vec<_>>()
    };
    let tied = of(division.tied(), &gradients.slots);
    tied.into_iter().chain(of(division.kept(), &gradients.kept)).collect()
}

#[test]
fn law_a_division_takes_each_parameter_once_and_follows_halves_and_kinds() {
    for family in Family::ALL {
        for keeps in all_keeps() {
            let architecture = family.keeping(keeps.clone());
            let division = architecture.division();
            let parts = architecture.block_parts();
            let plain = architecture.block_layout();
            let scales = 2 * usize::from(keeps.own.contains(&Own::Scales));

            assert_eq!(division.all().entries()[..plain.entries().len()], *plain.entries());
            assert_eq!(division.all().entries().len(), plain.entries().len() + scales);
            let joined = division.joined(division.tied().entries(), division.kept().entries());
            assert_eq!(joined, division.all().entries().iter().collect::<Vec<_>>());

            for entry in division.tied().entries() {
                assert!(!is_scale(entry.name));
                let other = match keeps.unit {
                    Unit::Block => None,
                    Unit::Attention => Some(Half::FeedForward),
                    Unit::FeedForward => Some(Half::Attention),
                };
                assert_ne!(Some(parts.half(entry.name)), other, "{family:?} {}", entry.name);
            }

            // Matrices of the shared part are tied, whatever small parameters are kept.
            for entry in division.kept().entries().iter().filter(|entry| entry.shape.len() > 1) {
                assert_ne!(keeps.unit, Unit::Block, "{family:?} {}", entry.name);
            }
            // Both halves have a matrix that ends their branch.
            for half in [Half::Attention, Half::FeedForward] {
                let ends = architecture.branch_ends();
                let is_end = |entry: &&dlt_models::parameters::Entry| {
                    ends.contains(&entry.name) && parts.half(entry.name) == half
                };
                assert!(plain.entries().iter().any(|entry| is_end(&entry)), "{family:?} {half:?}");
            }
        }
    }
}

/// Where no layer is tied, it makes no difference what could be shared.
#[test]
fn law_an_untied_model_has_the_same_bits_whatever_layers_keep() {
    for family in Family::ALL {
        let made = family.examples(3);
        let state = State::independent(4);
        let plain = model(family.keeping(Keeps::NOTHING), &state, PAPER);
        let (loss, gradients) = plain.gradients(&made.batch(), &PASS).expect("a pass");

        for keeps in all_keeps().into_iter().filter(|keeps| !keeps.own.contains(&Own::Scales)) {
            let other = model(family.keeping(keeps.clone()), &state, PAPER);
            let (same, others) = other.gradients(&made.batch(), &PASS).expect("a pass");

            assert_eq!(loss.to_bits(), same.to_bits(), "{family:?} {keeps:?}");
            assert!(all_bits(&gradients) == all_bits(&others), "{family:?} {keeps:?}");
            assert_eq!(
                gradients.norm().expect("a norm").to_bits(),
                others.norm().expect("a norm").to_bits()
            );
            assert_eq!(plain.n_trainable_parameters(), other.n_trainable_parameters());
            for number in 0..=gradients.all().len() {
                assert_eq!(plain.gradient_name(number), other.gradient_name(number));
            }
        }
    }
}

/// Scales of 1 change no bit of a loss.
#[test]
fn law_scales_of_one_change_nothing_in_any_state() {
    for family in Family::ALL {
        let made = family.examples(3);
        let scales = Keeps { unit: Unit::Block, own: vec![Own::Scales] };
        for state in states() {
            let loss = |keeps: &Keeps| {
                let model = model(family.keeping(keeps.clone()), &state, PAPER);
                model.gradients(&made.batch(), &PASS).expect("a pass").0.to_bits()
            };
            assert_eq!(loss(&Keeps::NOTHING), loss(&scales), "{family:?} {state:?}");
        }
    }
}

/// What a layer keeps has the same gradient in a tied model as in an untied one with equal weights,
/// under both readings and while tied parameters are frozen.
#[test]
fn law_kept_gradients_are_those_of_an_untied_copy() {
    for family in Family::ALL {
        let made = family.examples(3);
        for keeps in all_keeps() {
            for gradient in Gradient::ALL {
                let rules = Rules { gradient: *gradient, ..PAPER };
                let state = State::new(vec![0, 0, 2, 0]).expect("a state");
                let tied = model(family.keeping(keeps.clone()), &state, rules);

                let frozen = Binding::from_parts(&[0, 1, 2, 3], &[1, 3], &[0, 2]).expect("apart");
                let frozen = Model::new(
                    family.keeping(keeps.clone()),
                    frozen,
                    rules,
                    Kernels::Fused,
                    7,
                    &Device::Cpu,
                )
                .expect("it fits");

                for model in [tied, frozen] {
                    let (_, gradients) = model.gradients(&made.batch(), &PASS).expect("a pass");
                    let untied = untied(&model, family.keeping(keeps.clone()), rules);
                    let (_, expected) = untied.gradients(&made.batch(), &PASS).expect("a pass");
                    let ours = by_name(&model, &gradients);
                    let theirs = by_name(&untied, &expected);
                    let kept = model.bank().division().kept();

                    for layer in 0..4 {
                        for entry in kept.entries() {
                            let key = (layer, entry.name);
                            assert!(ours[&key] == theirs[&key], "{family:?} {keeps:?} {key:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A model with the same weights, in which every layer has its own.
fn untied(model: &Model, architecture: Arc<dyn Architecture>, rules: Rules) -> Model {
    let lookup = |name: &str| weight(model, name);
    let binding = Binding::of_state(&State::independent(4));
    let kernels = Kernels::Fused;
    Model::from_weights(architecture, binding, rules, kernels, &lookup, None, &Device::Cpu)
        .expect("every weight")
}

/// A weight of a layer by its full name, wherever it is.
fn weight(model: &Model, name: &str) -> dlt_models::Result<Option<Tensor>> {
    let architecture = model.architecture();
    for layer in 0..4 {
        if let Some(own) = name.strip_prefix(architecture.block_prefix(layer).as_str()) {
            let number = model.bank().division().all().number(own)?;
            return Ok(Some(model.weights(layer)?[number].copy()?));
        }
    }

    let own = name.strip_prefix(architecture.shared_prefix()).expect("the prefix");
    let number = model.shared().layout().number(own)?;
    Ok(Some(model.shared().variables()[number].as_detached_tensor().copy()?))
}

/// Decisions move tied parameters alone.
#[test]
fn law_decisions_leave_what_layers_keep() {
    for keeps in all_keeps() {
        let mut model = model(Family::Gpt2.keeping(keeps.clone()), &State::all_tied(4), PAPER);
        let kept = |model: &Model| -> Vec<_> {
            (0..4)
                .flat_map(|layer| model.bank().kept(layer).tensors())
                .map(|one| bits(&one))
                .collect()
        };
        let before = kept(&model);
        let mut from = State::all_tied(4);

        for to in states() {
            model.apply(&Change::joint(&from, &to)).expect("a change");
            assert_eq!(model.bank().blocks().len(), to.n_independent());
            assert_eq!(kept(&model), before, "{keeps:?}");
            let in_blocks = model.n_trainable_parameters() - model.n_shared_parameters();
            assert_eq!(in_blocks, model.n_parameters_in_blocks(to.n_independent()));
            from = to;
        }
    }
}

#[test]
fn law_a_model_file_holds_what_layers_keep() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in [Family::Gpt2, Family::BertMasked, Family::VitFirst, Family::Llama, Family::Qwen3]
    {
        for keeps in all_keeps() {
            let architecture = family.keeping(keeps.clone());
            let state = State::new(vec![0, 0, 2, 0]).expect("a state");
            let model = model(Arc::clone(&architecture), &state, PAPER);
            let path = folder.path().join("model.safetensors");
            model.save(&path, &BTreeMap::new()).expect("written");

            let file = ModelFile::open(&path).expect("a model file");
            let keeps_any = model.bank().division().keeps_any();
            let version = if keeps_any { "3" } else { "2" };
            assert_eq!(file.metadata()["dlt-model"], version, "{keeps:?}");
            assert_eq!(file.metadata().contains_key("kept"), keeps_any);

            let read = file.model(Arc::clone(&architecture), PAPER, Kernels::Fused, &Device::Cpu);
            let read = read.expect("the same architecture");
            for layer in 0..4 {
                let ours: Vec<_> = model.weights(layer).expect("memory").iter().map(bits).collect();
                let theirs: Vec<_> =
                    read.weights(layer).expect("memory").iter().map(bits).collect();
                assert!(ours == theirs, "{family:?} {keeps:?} layer {layer}");

                for entry in model.bank().division().all().entries() {
                    let name = format!("{}{}", architecture.block_prefix(layer), entry.name);
                    let found = file.lookup(&name, &*architecture, &Device::Cpu).expect("read");
                    let number = model.bank().division().all().number(entry.name).expect("there");
                    assert_eq!(bits(&found.expect("there")), ours[number], "{name}");
                }
            }

            // A file of whole blocks lacks what layers would keep, and the other way round.
            if keeps_any {
                let plain = family.keeping(Keeps::NOTHING);
                assert!(file.check(&*plain).is_err(), "{family:?} {keeps:?}");
            }
        }
    }
}

/// Products of bf16 share packed weights only where layers share weights: an untied copy, which packs
/// for each layer, computes the same.
#[test]
fn law_packed_weights_are_those_of_the_layer() {
    for keeps in all_keeps() {
        let made = Family::Gpt2.examples(3);
        let tied = model(Family::Gpt2.keeping(keeps.clone()), &State::all_tied(4), PAPER)
            .computing_in(Activations::Bf16);
        let untied = untied(&tied, Family::Gpt2.keeping(keeps.clone()), PAPER)
            .computing_in(Activations::Bf16);

        for checkpointing in [Checkpointing::None, Checkpointing::Block] {
            let pass = TrainingPass { checkpointing, ..PASS };
            let [ours, theirs] = [&tied, &untied].map(|model| {
                let (loss, gradients) = model.gradients(&made.batch(), &pass).expect("a pass");
                let shared: Vec<_> = gradients.shared.iter().map(bits).collect();
                (loss.to_bits(), shared)
            });
            assert!(ours == theirs, "{keeps:?}");
        }
    }
}

#[test]
fn what_layers_keep_does_not_train_where_only_the_head_does() {
    let made = Family::Gpt2Classes.examples(3);
    let keeps = Keeps { unit: Unit::Attention, own: vec![Own::Norms, Own::Scales] };
    let model = model(Family::Gpt2Classes.keeping(keeps), &State::all_tied(4), PAPER)
        .training(Trains::Head);
    let (_, gradients) = model.gradients(&made.batch(), &PASS).expect("a pass");
    assert!(gradients.kept.is_empty() && gradients.slots.is_empty());
    assert!(model.keepers().is_empty());
}
