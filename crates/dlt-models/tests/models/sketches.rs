//! Statistics of gradients and weights by position: sketches, their products, and distances of
//! weights.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_kernels::{Kernels, SKETCH_WIDTH};
use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, PositionSketches, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::{Batch, Model};
use dlt_spec::spec::{Activations, Checkpointing, Gradient, Trains};
use dlt_state::{Action, State};

use crate::families::{Family, KERNELS, all, bits};
use crate::fixtures::{PAPER, REFERENCE, drawn, json, numbers, states, stored, tensors};

/// Sums that were made in another order have sketches that differ by the rounding of f32, with bf16
/// activations too. Relative to the largest number of a position's sketch.
const SKETCH_TOLERANCE: f64 = 2e-5;

/// The reference's products and distances are f64. Ours are sums of products of f32 gradients.
const STATISTICS_TOLERANCE: f64 = 1e-5;

fn pass(batch: &Batch<'_>, checkpointing: Checkpointing, sketch: Option<u64>) -> TrainingPass {
    let dropout = Some(DropoutPass { probability: 0.2, seed: 5, first_window: 0 });
    TrainingPass { checkpointing, dropout, scale: 1.0 / batch.n_predictions() as f64, sketch }
}

fn of_state(owners: [usize; 4]) -> Binding {
    Binding::of_state(&State::new(owners.to_vec()).expect("a state"))
}

/// Layers 0 and 1 train. Layers 2 and 3 use their own initial weights, untrained.
fn partly_frozen() -> Binding {
    let mut binding = Binding::frozen(4);
    let from = State::all_tied(4);
    let to = State::new(vec![0, 1, 0, 0]).expect("a state");
    let action = Action::new(vec![0, 1, 0, 0]).expect("an action");
    let change = Change { from: &from, to: &to, action: &action, visited: Some(1) };

    binding.apply(&PAPER, &change).expect("a change");
    assert_eq!([0, 1, 2, 3].map(|layer| binding.is_frozen(layer)), [false, false, true, true]);
    binding
}

/// The same model in which each layer has its own copy of its weights.
fn untied(model: &Model, architecture: Arc<dyn dlt_models::architecture::Architecture>) -> Model {
    let lookup = |name: &str| -> dlt_models::Result<Option<Tensor>> {
        let shared = model.shared().layout().entries().iter().position(|entry| {
            name.strip_prefix(model.architecture().shared_prefix()) == Some(entry.name)
        });
        if let Some(number) = shared {
            return Ok(Some(model.shared().variables()[number].as_detached_tensor().copy()?));
        }

        for layer in 0..4 {
            let prefix = model.architecture().block_prefix(layer);
            for (number, entry) in model.bank().layout().entries().iter().enumerate() {
                if name.strip_prefix(&prefix) == Some(entry.name) {
                    let storage = model.binding().storage(layer);
                    return Ok(Some(model.bank().parameter(storage, number)?.copy()?));
                }
            }
        }

        Ok(None)
    };

    let binding = Binding::of_state(&State::independent(4));
    let untied = Model::from_weights(
        architecture,
        binding,
        PAPER,
        model.kernels(),
        &lookup,
        None,
        &Device::Cpu,
    );

    untied.expect("every weight is there").computing_in(model.activations())
}

fn sketched(
    model: &Model,
    batch: &Batch<'_>,
    settings: &TrainingPass,
) -> (Gradients, PositionSketches) {
    let (_, mut gradients) = model.gradients(batch, settings).expect("a pass");
    let sketches = gradients.sketches.take().expect("sketches were requested");
    (gradients, sketches)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(candle_core::DType::F64)
        .and_then(|x| x.flatten_all()?.to_vec1())
        .expect("numbers")
}

/// The sketch of some tensors as the kernels make it.
fn sketch(kernels: Kernels, tensors: &[Tensor], seed: u64) -> Vec<f64> {
    values(&kernels.sketch(&tensors.iter().collect::<Vec<_>>(), seed).expect("a sketch"))
}

fn assert_near(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-30f64, |most, x| most.max(x.abs()));
    for (got, expected) in got.iter().zip(expected) {
        let apart = (got - expected).abs() / largest;
        assert!(
            apart <= tolerance,
            "{what}: got {got}, expected {expected}, {apart:.1e} of {largest}"
        );
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn law_sketches_change_no_bit_of_loss_and_gradients() {
    for rules in [PAPER, REFERENCE] {
        for kernels in KERNELS {
            for checkpointing in [Checkpointing::None, Checkpointing::Block] {
                let model = Family::Gpt2.drawn(of_state([0, 0, 2, 0]), rules, kernels);
                let examples = Family::Gpt2.examples(3);
                let batch = examples.batch();
                let run = |sketch| {
                    model.gradients(&batch, &pass(&batch, checkpointing, sketch)).expect("a pass")
                };

                let (plain_loss, plain) = run(None);
                let (loss, gradients) = run(Some(3));
                assert_eq!(plain_loss.to_bits(), loss.to_bits());
                assert!(plain.sketches.is_none() && gradients.sketches.is_some());

                let of = |gradients: &Gradients| all(gradients).map(bits).collect::<Vec<_>>();
                assert_eq!(of(&plain), of(&gradients));
            }
        }
    }
}

/// The sketch at a position is that of the gradient that the position has by itself, however layers
/// are tied, frozen, computed again or rounded. A position without a slot has zeros.
#[test]
fn law_each_position_has_the_sketch_of_its_own_gradient() {
    let bindings =
        [of_state([0, 1, 2, 3]), of_state([0, 0, 0, 0]), of_state([0, 1, 0, 1]), partly_frozen()];

    for family in Family::ALL {
        for (kernels, activations) in [
            (Kernels::Fused, Activations::F32),
            (Kernels::Composed, Activations::F32),
            (Kernels::Fused, Activations::Bf16),
        ] {
            for binding in &bindings {
                for gradient in [Gradient::Sum, Gradient::Owner] {
                    let rules = Rules { gradient, ..PAPER };
                    let model =
                        family.drawn(binding.clone(), rules, kernels).computing_in(activations);
                    let examples = family.examples(3);
                    let batch = examples.batch();
                    let untied = untied(&model, family.with_head(family.head()));

                    let expected =
                        untied.gradients(&batch, &pass(&batch, Checkpointing::None, None));
                    let (_, expected) = expected.expect("a pass");
                    for checkpointing in [Checkpointing::None, Checkpointing::Block] {
                        let (_, got) =
                            sketched(&model, &batch, &pass(&batch, checkpointing, Some(9)));

                        for layer in 0..4 {
                            let what = format!(
                                "{family:?} {kernels:?} {activations:?} {gradient:?} {layer}"
                            );
                            let expected = match model.slot(layer) {
                                Some(_) => sketch(kernels, &expected.slots[&layer], 9),
                                None => vec![0.0; SKETCH_WIDTH],
                            };

                            assert_near(got.of(layer), &expected, SKETCH_TOLERANCE, &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn law_products_are_those_of_the_sketches() {
    let model = drawn(of_state([0, 1, 0, 1]), PAPER, Kernels::Fused);
    let examples = Family::Gpt2.examples(2);
    let batch = examples.batch();
    let (_, sketches) = sketched(&model, &batch, &pass(&batch, Checkpointing::None, Some(1)));
    let products = sketches.products();

    assert_eq!(products.len(), 16);

    for (i, j) in (0..16).map(|at| (at / 4, at % 4)) {
        assert_eq!(products[i * 4 + j], dot(sketches.of(i), sketches.of(j)));
        assert!(i != j || products[i * 4 + j] > 0.0);
    }
}

#[test]
fn law_pieces_of_a_batch_add_up() {
    for binding in [of_state([0, 1, 0, 1]), of_state([0, 0, 0, 0]), partly_frozen()] {
        let model = drawn(binding, PAPER, Kernels::Fused);
        let examples = Family::Gpt2.examples(5);
        let batch = examples.batch();
        let settings = pass(&batch, Checkpointing::None, Some(4));
        let (_, whole) = sketched(&model, &batch, &settings);
        let mut summed = Gradients::default();

        for (first_window, piece) in batch.pieces(2) {
            let dropout = settings.dropout.map(|dropout| DropoutPass { first_window, ..dropout });
            model
                .add_gradients(&piece, &TrainingPass { dropout, ..settings }, &mut summed)
                .expect("a pass");
        }

        let summed = summed.sketches.expect("sketches");
        for layer in 0..4 {
            assert_near(
                summed.of(layer),
                whole.of(layer),
                SKETCH_TOLERANCE,
                &format!("layer {layer}"),
            );
        }
    }
}

#[test]
fn law_a_head_that_trains_alone_has_sketches_of_zeros() {
    for family in Family::of_classes() {
        let model =
            family.drawn(of_state([0, 1, 0, 1]), PAPER, Kernels::Fused).training(Trains::Head);
        let examples = family.examples(3);
        let batch = examples.batch();
        let (_, sketches) = sketched(&model, &batch, &pass(&batch, Checkpointing::None, Some(4)));

        assert!(sketches.products().iter().all(|&product| product == 0.0));
        assert_eq!(sketches.products().len(), 16);
    }
}

#[test]
fn rejects_pieces_of_another_projection() {
    let model = drawn(of_state([0, 1, 0, 1]), PAPER, Kernels::Fused);
    let examples = Family::Gpt2.examples(2);
    let batch = examples.batch();

    for (first, second) in [(Some(1), Some(2)), (None, Some(2)), (Some(1), None)] {
        let mut gradients = Gradients::default();
        let mut run = |sketch| {
            model.add_gradients(&batch, &pass(&batch, Checkpointing::None, sketch), &mut gradients)
        };
        run(first).expect("a first piece");

        let text = run(second).expect_err("another projection").to_string();
        assert!(
            text.contains(&format!("{first:?}")) && text.contains(&format!("{second:?}")),
            "{text}"
        );
    }
}

fn table(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// PyTorch's gradients of each position, whose layer has its own copy of its weights, and distances
/// of weights.
#[test]
fn matches_reference_statistics() {
    /// How many projections a mean is over.
    const SEEDS: u64 = 300;

    /// How many standard errors a mean may be off. Seeds are fixed, so every run gives the same.
    const ERRORS: f64 = 5.0;
    let oracle = json("gpt2/gradients.json");
    let statistics = json("growth/statistics.json");
    let file = tensors("gpt2/gradients.safetensors");
    let (inputs, targets, windows) = crate::gradients::windows(&oracle["windows"]);

    let batch = Batch::next_token(&inputs, &targets, windows);
    let scale = 1.0 / targets.len() as f64;
    let settings =
        TrainingPass { checkpointing: Checkpointing::None, dropout: None, scale, sketch: None };
    let cases = statistics["cases"].as_array().expect("cases");

    assert_eq!(cases.len(), 4);

    for case in cases {
        let state = State::new(numbers(&case["state"])).expect("a state");
        let [products, distances, norms] =
            ["products", "distances", "norms"].map(|key| table(&case[key]));

        for kernels in KERNELS {
            let what = format!("{state:?} {kernels:?}");
            let config =
                || crate::gradients::architecture(&oracle["config"], dlt_kernels::Gelu::Tanh);
            let model =
                stored(config(), Binding::of_state(&state), PAPER, kernels, &file, "initial/");
            let (_, by_position) =
                untied(&model, Arc::new(config())).gradients(&batch, &settings).expect("a pass");

            let flat: Vec<Vec<f64>> = by_position
                .slots
                .values()
                .map(|block| block.iter().flat_map(values).collect())
                .collect();
            let exact: Vec<f64> =
                flat.iter().flat_map(|a| flat.iter().map(move |b| dot(a, b))).collect();
            assert_near(&exact, &products, STATISTICS_TOLERANCE, &what);

            let (got, got_norms) = model.weight_distances().expect("distances");
            assert_near(&got, &distances, STATISTICS_TOLERANCE, &what);
            assert_near(&got_norms, &norms, STATISTICS_TOLERANCE, &what);

            if kernels == Kernels::Composed {
                continue;
            }

            let mut mean = [0.0; 16];
            for seed in 0..SEEDS {
                let (_, sketches) =
                    sketched(&model, &batch, &TrainingPass { sketch: Some(seed), ..settings });
                mean.iter_mut()
                    .zip(sketches.products())
                    .for_each(|(mean, x)| *mean += x / SEEDS as f64);
            }

            for (i, j) in (0..16).map(|at| (at / 4, at % 4)) {
                // The standard error of one sketch is at most √(2 / 256) of the product of both
                // norms.
                let norms = (products[i * 5] * products[j * 5]).sqrt();
                let error = (2.0 / SKETCH_WIDTH as f64 / SEEDS as f64).sqrt() * norms;
                let off = (mean[i * 4 + j] - products[i * 4 + j]).abs();

                assert!(off < ERRORS * error, "{what} {i} {j}: {off} off, standard error {error}");
            }
        }
    }
}

/// For tied, independent and frozen layers, in every state.
#[test]
fn law_distances_are_those_of_the_weights_that_layers_use() {
    let mut bindings: Vec<Binding> = states().iter().map(Binding::of_state).collect();
    bindings.extend([Binding::frozen(4), partly_frozen()]);

    for binding in bindings {
        for kernels in KERNELS {
            let model = drawn(binding.clone(), PAPER, kernels);
            let weights: Vec<Vec<f64>> = (0..4)
                .map(|layer| model.bank().weights(model.binding().storage(layer)).expect("weights"))
                .map(|block| block.iter().flat_map(values).collect())
                .collect();
            let (distances, norms) = model.weight_distances().expect("distances");

            let apart =
                |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let expected: Vec<f64> =
                weights.iter().flat_map(|a| weights.iter().map(move |b| apart(a, b))).collect();
            assert_near(&distances, &expected, STATISTICS_TOLERANCE, "distances");

            let expected: Vec<f64> = weights.iter().map(|a| dot(a, a)).collect();
            assert_near(&norms, &expected, 1e-12, "norms");

            for (i, j) in (0..16).map(|at| (at / 4, at % 4)) {
                let same = model.binding().storage(i) == model.binding().storage(j);
                assert_eq!(distances[i * 4 + j] == 0.0, same, "{i} {j}");
                assert_eq!(distances[i * 4 + j].to_bits(), distances[j * 4 + i].to_bits());
            }
        }
    }
}
