//! Losses, logits and every gradient against PyTorch, for both implementations of the kernels; and that
//! nothing that should train is left without a gradient.

use candle_core::Device;
use dlt_kernels::{Gelu, Kernels};
use dlt_models::Batch;
use dlt_models::Model;
use dlt_models::architecture::{DropoutPass, Form, HeadSettings};
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::gpt2::Gpt2;
use dlt_models::parameters::Parameters;
use dlt_spec::spec::{Checkpointing, Gradient, Retied, Untie};
use dlt_state::State;
use serde_json::Value;

use crate::fixtures::{PAPER, distance, drawn, json, numbers, states, stored, tensors, tokens};

/// Both sides are f32; the oracle's own distance from f64 is below 1e-6 at these sizes.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// Losses are near 4 and means of f32 logarithms.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Logits are below 4; one row multiplied alone may sum in another order than among others.
const ROW_TOLERANCE: f64 = 2e-6;

const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composed];
const CHECKPOINTING: [Checkpointing; 2] = [Checkpointing::None, Checkpointing::Block];

fn pass(n_tokens: usize, checkpointing: Checkpointing) -> TrainingPass {
    TrainingPass { checkpointing, dropout: None, scale: 1.0 / n_tokens as f64 }
}

fn windows(value: &Value) -> (Vec<u32>, Vec<u32>, usize) {
    let rows: Vec<Vec<usize>> = value.as_array().expect("windows").iter().map(numbers).collect();
    let ids = |skip: usize, drop: usize| {
        rows.iter().flat_map(|row| row[skip..row.len() - drop].iter().map(|&id| id as u32)).collect()
    };
    (ids(0, 1), ids(1, 0), rows.len())
}

fn architecture(config: &Value, gelu: Gelu) -> Gpt2 {
    let count = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("config holds {key}")) as usize;
    Gpt2 {
        form: Form {
            layers: count("layers"),
            width: count("width"),
            heads: count("heads"),
            feed_forward: count("feed_forward"),
            norm_epsilon: config["norm_epsilon"].as_f64().expect("an epsilon"),
            initial_std: 0.02,
            head: HeadSettings::NEXT_TOKEN,
        },
        positions: count("positions"),
        vocabulary: count("vocabulary"),
        gelu,
    }
}

#[test]
fn matches_reference_every_gradient() {
    let oracle = json("gpt2/gradients.json");
    let file = tensors("gpt2/gradients.safetensors");
    let (inputs, targets, windows) = windows(&oracle["windows"]);
    let batch = Batch::next_token(&inputs, &targets, windows);
    let cases = oracle["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let gelu = if case["gelu"] == "erf" { Gelu::Erf } else { Gelu::Tanh };
        let gradient = if case["gradient"] == "owner" { Gradient::Owner } else { Gradient::Sum };
        let state = State::new(numbers(&case["state"])).expect("a state");
        for kernels in KERNELS {
            let rules = Rules { gradient, ..PAPER };
            let binding = Binding::of_state(&state);
            let config = architecture(&oracle["config"], gelu);
            let model = stored(config, binding, rules, kernels, &file, "initial/");
            for checkpointing in CHECKPOINTING {
                let (loss, gradients) =
                    model.gradients(&batch, &pass(targets.len(), checkpointing)).expect("a pass");
                let mean = loss / targets.len() as f64;
                let expected = case["loss"].as_f64().expect("a loss");
                assert!(
                    (mean - expected).abs() < LOSS_TOLERANCE,
                    "{name} {kernels:?}: {mean} for {expected}"
                );
                let compared = compare(&model, &gradients, |tensor| {
                    file.load(&format!("{name}/{tensor}"), &Device::Cpu).expect("the fixture holds it")
                });
                assert_eq!(compared, 4 + 12 * state.n_independent());
            }
        }
    }
}

/// Compares every gradient with the oracle's of the same name; returns how many.
fn compare(model: &Model, gradients: &Gradients, oracle: impl Fn(&str) -> candle_core::Tensor) -> usize {
    let (architecture, mut compared) = (model.architecture(), 0);
    let mut check = |name: String, gradient: &candle_core::Tensor| {
        let apart = distance(gradient, &oracle(&name));
        assert!(apart < GRADIENT_TOLERANCE, "gradient of {name} is {apart} off");
        compared += 1;
    };
    for (entry, gradient) in model.shared().layout().entries().iter().zip(&gradients.shared) {
        check(format!("{}{}", architecture.shared_prefix(), entry.name), gradient);
    }
    for (&slot, block) in &gradients.slots {
        for (entry, gradient) in model.bank().layout().entries().iter().zip(block) {
            check(format!("{}{}", architecture.block_prefix(slot), entry.name), gradient);
        }
    }
    compared
}

#[test]
fn matches_reference_logits() {
    let oracle = json("gpt2/gradients.json");
    let file = tensors("gpt2/gradients.safetensors");
    let (inputs, _, windows) = windows(&oracle["windows"]);
    let logits = file.load("untied-tanh/logits", &Device::Cpu).expect("logits");
    for kernels in KERNELS {
        let config = architecture(&oracle["config"], Gelu::Tanh);
        let binding = Binding::of_state(&State::independent(4));
        let model = stored(config, binding, PAPER, kernels, &file, "initial/");
        for (window, ids) in inputs.chunks(inputs.len() / windows).enumerate() {
            let ours = model.logits(ids).expect("logits");
            assert!(distance(&ours, &logits.get(window).expect("a window")) < GRADIENT_TOLERANCE);
            let next = model.next_logits(ids).expect("logits");
            let next = candle_core::Tensor::new(next, &Device::Cpu).expect("a row");
            assert!(distance(&next, &ours.get(ids.len() - 1).expect("a row")) < ROW_TOLERANCE);
        }
    }
}

fn norms(gradients: &Gradients) -> Vec<f64> {
    let norm = |tensor| dlt_kernels::optimizer::squared_norm(tensor).expect("a norm");
    gradients.shared.iter().chain(gradients.slots.values().flatten()).map(norm).collect()
}

/// Everything that trains has a gradient, shared parameters and every slot's block alike, and each of these
/// is finite and not zero.
fn assert_nothing_is_left_out(model: &Model, gradients: &Gradients, what: &str) {
    let independent: Vec<_> = (0..4).filter(|&layer| model.binding().is_independent(layer)).collect();
    assert_eq!(gradients.slots.keys().copied().collect::<Vec<_>>(), independent, "{what}");
    let norms = norms(gradients);
    assert_eq!(norms.len(), 4 + 12 * independent.len(), "{what}");
    assert!(norms.iter().all(|norm| norm.is_finite() && *norm > 0.0), "{what}: {norms:?}");
}

/// One step of plain gradient descent.
fn descend(model: &Model, gradients: &Gradients) {
    let step = |parameters: &Parameters, gradients: &[candle_core::Tensor]| {
        for (variable, gradient) in parameters.variables().iter().zip(gradients) {
            let moved = (gradient * -0.01).and_then(|step| variable.as_tensor() + step);
            variable.set(&moved.expect("equal shapes")).expect("a variable can be set");
        }
    };
    step(model.shared(), &gradients.shared);
    for (&slot, block) in &gradients.slots {
        step(model.slot_parameters(slot), block);
    }
}

/// Gradients of a fresh model, and once more after a step: a parameter that is set must stay in the graph.
fn check_before_and_after_a_step(model: &Model, what: &str) {
    let (inputs, targets) = tokens(3, 9, 31);
    let batch = Batch::next_token(&inputs, &targets, 3);
    for checkpointing in CHECKPOINTING {
        let gradients = || model.gradients(&batch, &pass(27, checkpointing)).expect("a pass");
        let (before, first) = gradients();
        assert_nothing_is_left_out(model, &first, what);
        descend(model, &first);
        let (after, second) = gradients();
        assert_nothing_is_left_out(model, &second, what);
        assert!(after < before, "{what}: the step took the loss from {before} to {after}");
    }
}

#[test]
fn every_trainable_parameter_has_a_gradient_in_every_state() {
    let mut bindings: Vec<_> = states().iter().map(Binding::of_state).collect();
    bindings.push(Binding::frozen(4));
    for binding in bindings {
        for gradient in [Gradient::Sum, Gradient::Owner] {
            for kernels in KERNELS {
                let model = drawn(binding.clone(), Rules { gradient, ..PAPER }, kernels);
                check_before_and_after_a_step(&model, &format!("{binding:?} {gradient:?} {kernels:?}"));
            }
        }
    }
}

/// The same for what decisions lead to, under each reading of untying and re-tying: from frozen to every
/// state and from there to every other kind of sharing, also where independent layers share storage.
#[test]
fn every_trainable_parameter_has_a_gradient_after_decisions() {
    let mut shared_storage = 0;
    for (untie, retied) in [
        (Untie::Copy, Retied::Follow),
        (Untie::Alias, Retied::Follow),
        (Untie::Copy, Retied::Keep),
        (Untie::Alias, Retied::Keep),
    ] {
        for gradient in [Gradient::Sum, Gradient::Owner] {
            let rules = Rules { gradient, untie, retied, ..PAPER };
            for (index, next) in states().iter().enumerate() {
                let kernels = KERNELS[index % 2];
                let mut model = drawn(Binding::frozen(4), rules, kernels);
                let mut from = State::all_tied(4);
                let last = State::new(vec![0, 1, 1, 3]).expect("a state");
                for to in [next, &last] {
                    let change = Change { from: &from, to, action: to.as_action(), visited: None };
                    model.apply(&change).expect("equal depths");
                    from = to.clone();
                    check_before_and_after_a_step(&model, &format!("{rules:?} at {to:?} {kernels:?}"));
                    let binding = model.binding();
                    shared_storage += usize::from(binding.n_distinct() < binding.n_independent());
                }
            }
        }
    }
    assert!(shared_storage > 0, "the test wants independent layers that share storage");
}

fn bits(gradients: &Gradients) -> Vec<Vec<u32>> {
    let bits = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
        values.into_iter().map(f32::to_bits).collect()
    };
    gradients.shared.iter().chain(gradients.slots.values().flatten()).map(bits).collect()
}

fn dropout(first_window: usize) -> Option<DropoutPass> {
    Some(DropoutPass { probability: 0.2, seed: 99, first_window })
}

/// Tied gradients are the same to the bit with and without checkpointing, also with dropout.
#[test]
fn law_checkpointing_changes_no_bit() {
    let (inputs, targets) = tokens(3, 9, 31);
    let batch = Batch::next_token(&inputs, &targets, 3);
    for kernels in KERNELS {
        let binding = Binding::of_state(&State::new(vec![0, 1, 0, 1]).expect("a state"));
        let model = drawn(binding, PAPER, kernels);
        let run = |checkpointing| {
            let settings = TrainingPass { dropout: dropout(0), ..pass(27, checkpointing) };
            model.gradients(&batch, &settings).expect("a pass")
        };
        let ((kept_loss, kept), (again_loss, again)) = (run(Checkpointing::None), run(Checkpointing::Block));
        assert_eq!(kept_loss.to_bits(), again_loss.to_bits());
        assert_eq!(bits(&kept), bits(&again));
        let without = model.gradients(&batch, &pass(27, Checkpointing::None)).expect("a pass");
        assert_ne!(without.0, kept_loss, "dropout changes the loss");
    }
}

/// A batch in pieces gives the gradients of the whole one; only the order of summation differs.
#[test]
fn law_micro_batches_sum_to_the_batch() {
    const TOLERANCE: f64 = 1e-6;
    let (inputs, targets) = tokens(5, 9, 31);
    let batch = Batch::next_token(&inputs, &targets, 5);
    for kernels in KERNELS {
        let binding = Binding::of_state(&State::new(vec![0, 0, 2, 0]).expect("a state"));
        let model = drawn(binding, PAPER, kernels);
        let whole = TrainingPass { dropout: dropout(0), ..pass(45, Checkpointing::None) };
        let (loss, whole) = model.gradients(&batch, &whole).expect("a pass");
        let (mut summed_loss, mut summed) = (0.0, Gradients::default());
        for (first, piece) in batch.pieces(2) {
            let settings = TrainingPass { dropout: dropout(first), ..pass(45, Checkpointing::None) };
            summed_loss += model.add_gradients(&piece, &settings, &mut summed).expect("a pass");
        }
        assert!((loss - summed_loss).abs() / loss < TOLERANCE);
        for (a, b) in whole
            .shared
            .iter()
            .chain(whole.slots.values().flatten())
            .zip(summed.shared.iter().chain(summed.slots.values().flatten()))
        {
            assert!(distance(a, b) < TOLERANCE);
        }
    }
}

#[test]
fn loss_sum_is_the_loss_of_a_training_pass_without_dropout() {
    let (inputs, targets) = tokens(2, 9, 31);
    let batch = Batch::next_token(&inputs, &targets, 2);
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let (loss, _) = model.gradients(&batch, &pass(18, Checkpointing::None)).expect("a pass");
    assert!((model.loss_sum(&batch).expect("a loss") - loss).abs() / loss < 1e-6);
}

#[test]
fn rejects_batches_that_do_not_fit() {
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let refusal = |inputs: &[u32], targets: &[u32], windows| {
        model.loss_sum(&Batch::next_token(inputs, targets, windows)).expect_err("does not fit").to_string()
    };
    assert_eq!(refusal(&[1, 31], &[1, 2], 1), "batch: expected token ids below 31, came 31");
    assert_eq!(refusal(&[1; 10], &[1; 10], 1), "batch: expected at most 9 tokens a window, came 10");
    let shape = "batch: expected tokens in windows of one length, came ";
    assert_eq!(refusal(&[], &[], 0), format!("{shape}0 tokens in 0 windows"));
    assert_eq!(refusal(&[1, 2, 3], &[1, 2, 3], 2), format!("{shape}3 tokens in 2 windows"));
    assert_eq!(refusal(&[1, 2], &[1], 1), "batch: expected 2 targets, came 1");
}
