//! What must hold for the backward pass of every family. Everything that trains has a gradient.
//! Gradients are slopes of the loss. Neither checkpointing nor micro-batches change them.

use std::sync::Arc;

use candle_core::Tensor;
use dlt_kernels::optimizer::squared_norm;
use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::parameters::{Layout, Parameters};
use dlt_models::{Batch, Model};
use dlt_spec::spec::{Checkpointing, Gradient, Retied, Untie};
use dlt_state::State;

use crate::families::{Family, KERNELS, all, bits};
use crate::fixtures::{PAPER, distance, states};

const CHECKPOINTING: [Checkpointing; 2] = [Checkpointing::None, Checkpointing::Block];

/// Windows of a batch. The second and third are padded if the family knows padding.
const WINDOWS: usize = 3;

fn pass(batch: &Batch<'_>, checkpointing: Checkpointing) -> TrainingPass {
    TrainingPass {
        checkpointing,
        dropout: None,
        scale: 1.0 / batch.n_predictions() as f64,
        sketch: None,
    }
}

fn dropout(first_window: usize) -> Option<DropoutPass> {
    Some(DropoutPass { probability: 0.2, seed: 99, first_window })
}

fn norm(tensor: &Tensor) -> f64 {
    squared_norm(tensor).expect("a norm").sqrt()
}

fn layouts(model: &Model, gradients: &Gradients) -> Vec<Arc<Layout>> {
    let blocks = gradients.slots.keys().map(|_| Arc::clone(model.bank().layout()));
    std::iter::once(Arc::clone(model.trained_shared().layout())).chain(blocks).collect()
}

/// Everything that trains has a gradient that is finite and not zero: the shared parameters and the
/// block of every slot.
///
/// The bias of queries, keys and values is checked as a whole, because the part of the keys has no
/// gradient: see [`law_keys_have_a_bias_that_changes_nothing`].
fn assert_nothing_is_left_out(model: &Model, gradients: &Gradients, what: &str) {
    let independent: Vec<_> = (0..4).filter(|&layer| model.binding().trains_alone(layer)).collect();
    assert_eq!(gradients.slots.keys().copied().collect::<Vec<_>>(), independent, "{what}");

    let names: Vec<_> = layouts(model, gradients)
        .iter()
        .flat_map(|layout| layout.entries().iter().map(|entry| entry.name).collect::<Vec<_>>())
        .collect();
    let norms: Vec<_> = names.into_iter().zip(all(gradients).map(norm)).collect();
    assert_eq!(norms.len(), all(gradients).count(), "{what}");
    assert!(norms.iter().all(|(_, norm)| norm.is_finite() && *norm > 0.0), "{what}: {norms:?}");
}

/// One short step of plain gradient descent.
fn descend(model: &Model, gradients: &Gradients) {
    let step = |parameters: &Parameters, gradients: &[Tensor]| {
        for (variable, gradient) in parameters.variables().iter().zip(gradients) {
            let moved = (gradient * -0.001).and_then(|step| variable.as_tensor() + step);
            variable.set(&moved.expect("equal shapes")).expect("a variable can be set");
        }
    };

    step(model.trained_shared(), &gradients.shared);

    for (&slot, block) in &gradients.slots {
        step(model.slot_parameters(slot), block);
    }
}

/// Checks the gradients of a new model, and again after a step: a parameter that is set must stay
/// in the graph.
fn check_before_and_after_a_step(family: Family, model: &Model, what: &str) {
    let examples = family.examples(WINDOWS);
    let batch = examples.batch();
    let what = format!("{family:?} {what}");

    for checkpointing in CHECKPOINTING {
        let gradients = || model.gradients(&batch, &pass(&batch, checkpointing)).expect("a pass");
        let (before, first) = gradients();
        assert_nothing_is_left_out(model, &first, &what);
        descend(model, &first);

        let (after, second) = gradients();
        assert_nothing_is_left_out(model, &second, &what);
        assert!(after < before, "{what}: the step took the loss from {before} to {after}");
    }
}

#[test]
fn every_trainable_parameter_has_a_gradient_in_every_state() {
    let mut bindings: Vec<_> = states().iter().map(Binding::of_state).collect();
    bindings.push(Binding::frozen(4));

    for family in Family::ALL {
        for (index, binding) in bindings.iter().enumerate() {
            // Each implementation runs each rule in half of the states.
            for (kernels, gradient) in KERNELS
                .into_iter()
                .zip([Gradient::Sum, Gradient::Owner].into_iter().cycle().skip(index % 2))
            {
                let model = family.drawn(binding.clone(), Rules { gradient, ..PAPER }, kernels);
                check_before_and_after_a_step(
                    family,
                    &model,
                    &format!("{binding:?} {gradient:?} {kernels:?}"),
                );
            }
        }
    }
}

/// The readings of untying and re-tying, each with both rules of gradients.
fn readings() -> Vec<Rules> {
    let pairs = [Untie::Copy, Untie::Alias]
        .map(|untie| [Retied::Follow, Retied::Keep].map(|retied| (untie, retied)));
    let rules = |(untie, retied)| {
        [Gradient::Sum, Gradient::Owner].map(|gradient| Rules { gradient, untie, retied, ..PAPER })
    };

    pairs.into_iter().flatten().flat_map(rules).collect()
}

/// The same after decisions: from a frozen start to every state, and from there to another kind of
/// sharing. Some readings lead to independent layers that share storage. GPT-2 runs every state
/// under all readings, the other families under one.
#[test]
fn every_trainable_parameter_has_a_gradient_after_decisions() {
    let readings = readings();
    assert_eq!(readings.len(), 8);

    for family in Family::ALL {
        let mut shared_storage = 0;
        for (index, next) in states().iter().enumerate() {
            let all_readings = 0..readings.len();
            let own = if family == Family::Gpt2 { all_readings } else { index % 8..index % 8 + 1 };
            for &rules in &readings[own] {
                let kernels = KERNELS[index % 2];
                let mut model = family.drawn(Binding::frozen(4), rules, kernels);
                let mut from = State::all_tied(4);
                let last = State::new(vec![0, 1, 1, 3]).expect("a state");

                for to in [next, &last] {
                    let change = Change { from: &from, to, action: to.as_action(), visited: None };
                    model.apply(&change).expect("equal depths");
                    from = to.clone();
                    check_before_and_after_a_step(
                        family,
                        &model,
                        &format!("{rules:?} at {to:?} {kernels:?}"),
                    );

                    let binding = model.binding();
                    shared_storage +=
                        usize::from(binding.n_distinct() < binding.n_training_alone());
                }
            }
        }

        assert!(
            shared_storage > 0,
            "{family:?}: the test needs independent layers that share storage"
        );
    }
}

/// If one vector is added to all keys of a head, softmax gives the same attention weights. So the
/// gradient of the middle third of that bias is only rounding. The other two thirds have gradients.
#[test]
fn law_keys_have_a_bias_that_changes_nothing() {
    /// As a share of the norm of the whole bias: sums of a few hundred f32 products that cancel.
    const ROUNDING: f64 = 1e-5;
    let mut biases = 0;

    for family in Family::ALL {
        for kernels in KERNELS {
            let model = family.drawn(Binding::of_state(&State::independent(4)), PAPER, kernels);
            let examples = family.examples(WINDOWS);
            let batch = examples.batch();
            let (_, gradients) =
                model.gradients(&batch, &pass(&batch, Checkpointing::None)).expect("a pass");

            for (slot, block) in &gradients.slots {
                for (entry, gradient) in model.bank().layout().entries().iter().zip(block) {
                    if !entry.name.ends_with("qkv.bias") && !entry.name.ends_with("c_attn.bias") {
                        continue;
                    }

                    let third = |part: usize| {
                        norm(&gradient.narrow(0, 12 * part, 12).expect("three parts"))
                    };
                    let [queries, keys, values] = [0, 1, 2].map(third);
                    let what =
                        format!("{family:?} {kernels:?} layer {slot}: {queries} {keys} {values}");

                    assert!(keys <= ROUNDING * norm(gradient), "{what}");
                    assert!(queries > keys && values > keys, "{what}");
                    biases += 1;
                }
            }
        }
    }

    assert_eq!(biases, 11 * 2 * 4, "all but those with rotary positions have one in each layer");
}

/// A small step of a parameter along its gradient, in either direction, changes the loss by the
/// gradient's norm times the step, with dropout too.
#[test]
fn law_gradients_are_slopes_of_the_loss() {
    gradients_are_slopes(&[]);
}

/// Layers that share a block may multiply its branches by different factors.
#[test]
fn law_gradients_of_scaled_branches_are_slopes_of_the_loss() {
    gradients_are_slopes(&[1.0, 1.0 / 3.0, 0.5, 1.0 / 3.0]);
}

fn gradients_are_slopes(factors: &[f64]) {
    /// Length of the step. It must be large against the loss's rounding, about 1e-6, and small
    /// enough that the slope hardly changes along it.
    const STEP: f64 = 2e-2;

    /// Relative, and as a share of the norm of all gradients, because the whole loss is rounded.
    const TOLERANCE: [f64; 2] = [2e-2, 1e-3];

    for family in Family::ALL {
        let examples = family.examples(WINDOWS);
        let batch = examples.batch();

        for (kernels, checkpointing) in KERNELS.into_iter().zip(CHECKPOINTING) {
            let binding = Binding::of_state(&State::new(vec![0, 1, 0, 1]).expect("a state"));
            let model = family.drawn_scaled(factors, binding, PAPER, kernels);
            let settings = TrainingPass { dropout: dropout(0), ..pass(&batch, checkpointing) };
            let loss = || model.gradients(&batch, &settings).expect("a pass").0 * settings.scale;
            let (_, gradients) = model.gradients(&batch, &settings).expect("a pass");
            let of_all = gradients.norm().expect("a norm");

            let blocks =
                gradients.slots.iter().map(|(&slot, block)| (model.slot_parameters(slot), block));
            for (parameters, gradients) in
                std::iter::once((model.shared(), &gradients.shared)).chain(blocks)
            {
                let entries = parameters.layout().entries().iter();
                for ((entry, variable), gradient) in
                    entries.zip(parameters.variables()).zip(gradients)
                {
                    let here = variable.as_tensor().copy().expect("memory");
                    let norm = norm(gradient);
                    let moved = |length: f64| {
                        let moved = (gradient * (length / norm)).and_then(|step| &here + step);
                        variable.set(&moved.expect("equal shapes")).expect("a variable can be set");
                        loss()
                    };

                    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    variable.set(&here).expect("a variable can be set");

                    let [relative, of_rounding] = TOLERANCE;
                    assert!(
                        (slope - norm).abs() <= relative * norm + of_rounding * of_all,
                        "{family:?} {kernels:?} {}: slope {slope}, norm {norm} of {of_all}",
                        entry.name
                    );
                }
            }
        }
    }
}

/// Gradients of tied layers have the same bits with and without checkpointing, with dropout too.
#[test]
fn law_checkpointing_changes_no_bit() {
    for family in Family::ALL {
        let examples = family.examples(WINDOWS);
        let batch = examples.batch();

        for kernels in KERNELS {
            let binding = Binding::of_state(&State::new(vec![0, 1, 0, 1]).expect("a state"));
            let model = family.drawn(binding, PAPER, kernels);
            let run = |checkpointing| {
                let settings = TrainingPass { dropout: dropout(0), ..pass(&batch, checkpointing) };
                model.gradients(&batch, &settings).expect("a pass")
            };

            let (kept_loss, kept) = run(Checkpointing::None);
            let (again_loss, again) = run(Checkpointing::Block);
            assert_eq!(kept_loss.to_bits(), again_loss.to_bits(), "{family:?}");

            let bits = |gradients| all(gradients).map(bits).collect::<Vec<_>>();
            assert_eq!(bits(&kept), bits(&again), "{family:?}");

            let without =
                model.gradients(&batch, &pass(&batch, Checkpointing::None)).expect("a pass");
            assert_ne!(without.0, kept_loss, "{family:?}: dropout changes the loss");
        }
    }
}

/// A batch in pieces gives the gradients of the whole batch. Only the order of sums differs.
#[test]
fn law_micro_batches_sum_to_the_batch() {
    /// As a share of the largest entry, or of 1.
    const TOLERANCE: f64 = 1e-6;

    for family in Family::ALL {
        let examples = family.examples(5);
        let batch = examples.batch();

        for kernels in KERNELS {
            let binding = Binding::of_state(&State::new(vec![0, 0, 2, 0]).expect("a state"));
            let model = family.drawn(binding, PAPER, kernels);
            let settings = |first| TrainingPass {
                dropout: dropout(first),
                ..pass(&batch, Checkpointing::None)
            };

            let (loss, whole) = model.gradients(&batch, &settings(0)).expect("a pass");
            for windows in [2, 1] {
                let mut summed_loss = 0.0;
                let mut summed = Gradients::default();

                for (first, piece) in batch.pieces(windows) {
                    summed_loss +=
                        model.add_gradients(&piece, &settings(first), &mut summed).expect("a pass");
                }

                assert!((loss - summed_loss).abs() / loss < TOLERANCE, "{family:?}");
                assert_eq!(all(&whole).count(), all(&summed).count());

                for (a, b) in all(&whole).zip(all(&summed)) {
                    let largest = distance(a, &a.zeros_like().expect("memory")).max(1.0);
                    assert!(
                        distance(a, b) < TOLERANCE * largest,
                        "{family:?} {kernels:?}: {}",
                        distance(a, b)
                    );
                }
            }
        }
    }
}

#[test]
fn loss_sum_is_the_loss_of_a_training_pass_without_dropout() {
    for family in Family::ALL {
        let examples = family.examples(2);
        let batch = examples.batch();

        for kernels in KERNELS {
            let model = family.drawn(Binding::frozen(4), PAPER, kernels);
            let (loss, _) =
                model.gradients(&batch, &pass(&batch, Checkpointing::None)).expect("a pass");
            let evaluated = model.loss_sum(&batch).expect("a loss");

            assert!((evaluated - loss).abs() / loss < 1e-6, "{family:?}: {evaluated} for {loss}");
        }
    }
}

/// If this failed, tests with the feature would prove nothing about devices without our kernels.
#[cfg(feature = "composed")]
#[test]
fn the_feature_composed_leaves_no_loop_of_ours() {
    for family in Family::ALL {
        let [fused, composed] = KERNELS.map(|kernels| {
            let model = family.drawn(Binding::of_state(&State::independent(4)), PAPER, kernels);
            let pass = TrainingPass {
                checkpointing: Checkpointing::None,
                dropout: None,
                scale: 0.1,
                sketch: None,
            };

            let (loss, gradients) =
                model.gradients(&family.examples(2).batch(), &pass).expect("a pass");
            (loss.to_bits(), all(&gradients).map(bits).collect::<Vec<_>>())
        });

        assert_eq!(fused, composed, "{family:?}");
    }
}
