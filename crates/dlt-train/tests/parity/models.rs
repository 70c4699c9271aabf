//! Every architecture with every objective: losses, scores, all gradients, steps of training, and
//! generation.

use std::ops::ControlFlow;

use candle_core::{Device, Result, Tensor};
use dlt_models::Model;
use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{PositionSketches, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::generation::{Continuation, Event, Sampling, generate};
use dlt_spec::Spec;
use dlt_spec::spec::{Activations, Checkpointing, TyingSpec};
use dlt_state::State;
use dlt_train::optimizer::Optimizer;

use crate::comparison::{Comparisons, Side};
use crate::families::{Family, all};
use crate::fixtures::{PAPER, REFERENCE};

/// Through four layers and back; relative to the largest element of each gradient.
const TOLERANCE: f64 = 1e-4;
/// After steps of AdamW, which divide gradients by their size and so amplify small differences.
const TRAINED_TOLERANCE: f64 = 1e-3;

/// bf16 keeps 8 bits, and each implementation rounds in different places.
const NARROW_TOLERANCE: f64 = 5e-2;

fn model(family: Family, binding: Binding, rules: Rules, side: &Side) -> Result<Model> {
    let architecture = family.with_head(family.head());
    Model::new(architecture, binding, rules, side.kernels, 7, &side.device)
        .map_err(candle_core::Error::wrap)
}

fn bindings() -> [(&'static str, Binding); 3] {
    let of = |owners: [usize; 4]| Binding::of_state(&State::new(owners.to_vec()).expect("a state"));
    [("untied", of([0, 1, 2, 3])), ("tied", of([0, 0, 2, 0])), ("frozen", Binding::frozen(4))]
}

/// Loss, scores, loss of the training pass, distances of weights, every gradient, and the products
/// of their sketches.
fn outcome(
    family: Family,
    binding: &Binding,
    rules: Rules,
    pass: &TrainingPass,
    side: &Side,
) -> Result<Vec<Tensor>> {
    measured(family, &model(family, binding.clone(), rules, side)?, pass)
}

/// The same for a model.
fn measured(family: Family, model: &Model, pass: &TrainingPass) -> Result<Vec<Tensor>> {
    let examples = family.examples(3);
    let wrap = candle_core::Error::wrap;
    let batch = examples.batch();
    let loss = model.loss_sum(&batch).map_err(wrap)?;
    let scores = model.scores(&batch).map_err(wrap)?;
    let (trained, gradients) = model.gradients(&batch, pass).map_err(wrap)?;

    let losses = Tensor::new(&[loss, trained, gradients.norm().map_err(wrap)?], &Device::Cpu)?;
    let (distances, norms) = model.weight_distances().map_err(wrap)?;
    let products = gradients.sketches.as_ref().map_or_else(Vec::new, PositionSketches::products);
    let statistics = [products, distances, norms].map(|numbers| Tensor::new(numbers, &Device::Cpu));
    let statistics = statistics.into_iter().collect::<Result<Vec<_>>>()?;

    Ok([losses, scores].into_iter().chain(statistics).chain(all(&gradients).cloned()).collect())
}

#[test]
fn matches_reference_losses_and_gradients_of_every_architecture() {
    let mut comparisons = Comparisons::default();
    let dropout = DropoutPass { probability: 0.2, seed: 3, first_window: 0 };

    for family in Family::ALL {
        for (state, binding) in bindings() {
            for (reading, rules) in [("sum", PAPER), ("owner", REFERENCE)] {
                for (checkpointing, dropout) in
                    [(Checkpointing::None, None), (Checkpointing::Block, Some(dropout))]
                {
                    let what =
                        format!("{family:?} {state} {reading} checkpointing {checkpointing:?}");
                    let pass = TrainingPass { checkpointing, dropout, scale: 0.1, sketch: Some(1) };
                    let expected = outcome(family, &binding, rules, &pass, &Side::cpu());
                    let expected = expected.expect("the CPU computes everything");

                    for side in Side::compared() {
                        let got = outcome(family, &binding, rules, &pass, &side);
                        comparisons.compare(&what, &side, got, &expected, TOLERANCE);
                    }
                }
            }
        }
    }

    comparisons.finish();
}

#[test]
fn matches_reference_narrow_activations_of_every_architecture() {
    let mut comparisons = Comparisons::default();
    let pass = TrainingPass {
        checkpointing: Checkpointing::None,
        dropout: None,
        scale: 0.1,
        sketch: None,
    };

    for family in Family::ALL {
        let [_, (state, binding), _] = bindings();
        let narrow = |side: &Side| {
            let model =
                model(family, binding.clone(), PAPER, side)?.computing_in(Activations::Bf16);
            measured(family, &model, &pass)
        };

        let expected = narrow(&Side::cpu()).expect("the CPU computes everything");
        for side in Side::compared() {
            let what = format!("{family:?} {state} bf16");
            comparisons.compare(&what, &side, narrow(&side), &expected, NARROW_TOLERANCE);
        }
    }

    comparisons.finish();
}

/// Residual branches times the factors of their layers, in both formats of activations.
#[test]
fn matches_reference_scaled_branches_of_every_architecture() {
    let mut comparisons = Comparisons::default();
    let pass = TrainingPass {
        checkpointing: Checkpointing::Block,
        dropout: None,
        scale: 0.1,
        sketch: None,
    };

    for family in Family::ALL {
        for (activations, tolerance) in
            [(Activations::F32, TOLERANCE), (Activations::Bf16, NARROW_TOLERANCE)]
        {
            let [_, (state, binding), _] = bindings();
            let scaled = |side: &Side| {
                let architecture = family.scaled(&[1.0 / 3.0, 1.0 / 3.0, 1.0, 1.0 / 3.0]);
                let model =
                    Model::new(architecture, binding.clone(), PAPER, side.kernels, 7, &side.device);
                measured(
                    family,
                    &model.map_err(candle_core::Error::wrap)?.computing_in(activations),
                    &pass,
                )
            };

            let expected = scaled(&Side::cpu()).expect("the CPU computes everything");
            for side in Side::compared() {
                let what = format!("{family:?} {state} scaled branches {activations:?}");
                comparisons.compare(&what, &side, scaled(&side), &expected, tolerance);
            }
        }
    }

    comparisons.finish();
}

/// Losses and norms of gradients of training steps through changes of state, and the loss at the
/// end. Weights are not compared: if a gradient is only rounding, as that of the keys' biases,
/// AdamW makes full steps of it.
fn trained(family: Family, side: &Side) -> Result<Vec<Tensor>> {
    let wrap = candle_core::Error::wrap;
    let mut model = model(family, Binding::frozen(4), PAPER, side)?;
    let spec = Spec::default();
    let mut optimizer = Optimizer::new(&spec.optimizer, &TyingSpec { ..spec.tying });
    let examples = family.examples(3);
    let mut state = State::all_tied(4);

    let mut losses = Vec::new();
    let mut norms = Vec::new();

    for owners in [[0, 0, 0, 0], [0, 1, 1, 3], [0, 1, 0, 0], [0, 0, 2, 3]] {
        let next = State::new(owners.to_vec()).expect("a state");
        let change = Change { from: &state, to: &next, action: next.as_action(), visited: None };
        let settlement = model.apply(&change).map_err(wrap)?;

        optimizer.settle(&settlement).map_err(candle_core::Error::wrap)?;
        state = next;

        for _ in 0..3 {
            let pass = TrainingPass {
                checkpointing: Checkpointing::None,
                dropout: None,
                scale: 0.1,
                sketch: None,
            };

            let (loss, gradients) = model.gradients(&examples.batch(), &pass).map_err(wrap)?;
            let norm = gradients.norm().map_err(wrap)?;
            optimizer.step(&model, gradients, norm, 0.001).map_err(candle_core::Error::wrap)?;
            losses.push(loss);
            norms.push(norm);
        }
    }

    losses.push(model.loss_sum(&examples.batch()).map_err(wrap)?);
    [losses, norms].into_iter().map(|numbers| Tensor::new(numbers, &Device::Cpu)).collect()
}

#[test]
fn matches_reference_steps_of_training_of_every_architecture() {
    let mut comparisons = Comparisons::default();
    for family in Family::ALL {
        let expected = trained(family, &Side::cpu()).expect("the CPU computes everything");
        for side in Side::compared() {
            let what = format!("{family:?} twelve steps, three changes of state");
            comparisons.compare(&what, &side, trained(family, &side), &expected, TRAINED_TOLERANCE);
        }
    }

    comparisons.finish();
}

/// Tokens of three prompts, greedily, beyond the context; and the logits after a prompt.
fn generated(family: Family, side: &Side) -> Result<Vec<Tensor>> {
    let wrap = candle_core::Error::wrap;
    let model = model(family, bindings()[1].1.clone(), PAPER, side)?;
    let prompts = [vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5, 3, 5, 8, 9]];
    let wanted = Continuation {
        prompts: &prompts,
        tokens: 6,
        context: 9,
        stop: &[],
        sampling: Sampling::GREEDY,
        seed: 11,
        at_once: 2,
    };

    let mut tokens = vec![Vec::new(); prompts.len()];
    let told = generate(&model, &wanted, |number, event| {
        if let Event::Token(token) = event {
            tokens[number].push(token);
        }
        ControlFlow::Continue(())
    });

    told.map_err(wrap)?;
    let mut all = vec![Tensor::new(model.next_logits(&prompts[2]).map_err(wrap)?, &Device::Cpu)?];
    for tokens in tokens {
        all.push(Tensor::new(tokens, &Device::Cpu)?);
    }

    Ok(all)
}

#[test]
fn matches_reference_generation() {
    let mut comparisons = Comparisons::default();
    for family in [Family::Gpt2, Family::BertCausal, Family::Llama, Family::Qwen3] {
        let expected = generated(family, &Side::cpu()).expect("the CPU computes everything");
        for side in Side::compared() {
            let what = format!("{family:?} generation");
            comparisons.compare(&what, &side, generated(family, &side), &expected, TOLERANCE);
        }
    }

    comparisons.finish();
}
