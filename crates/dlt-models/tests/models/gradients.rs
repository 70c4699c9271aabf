//! Losses, logits and every gradient against PyTorch, for both implementations of the kernels; and that
//! nothing that should train is left without a gradient.

use candle_core::Device;
use dlt_kernels::{Gelu, Kernels};
use dlt_models::Batch;
use dlt_models::Model;
use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Rules};
use dlt_models::gpt2::Gpt2;
use dlt_spec::spec::{Checkpointing, Gradient};
use dlt_state::State;
use serde_json::Value;

use crate::fixtures::{PAPER, distance, drawn, json, numbers, stored, tensors, tokens};

/// Both sides are f32; the oracle's own distance from f64 is below 1e-6 at these sizes.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// Losses are near 4 and means of f32 logarithms.
const LOSS_TOLERANCE: f64 = 1e-5;

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
        layers: count("layers"),
        width: count("width"),
        heads: count("heads"),
        feed_forward: count("feed_forward"),
        positions: count("positions"),
        vocabulary: count("vocabulary"),
        gelu,
        norm_epsilon: config["norm_epsilon"].as_f64().expect("an epsilon"),
        initial_std: 0.02,
    }
}

#[test]
fn matches_reference_every_gradient() {
    let oracle = json("gpt2/gradients.json");
    let file = tensors("gpt2/gradients.safetensors");
    let (inputs, targets, windows) = windows(&oracle["windows"]);
    let batch = Batch { inputs: &inputs, targets: &targets, windows };
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
            let last: Vec<f32> = ours.get(ids.len() - 1).and_then(|row| row.to_vec1()).expect("a row");
            assert_eq!(next, last);
        }
    }
}

fn norms(gradients: &Gradients) -> Vec<f64> {
    let norm = |tensor| dlt_kernels::optimizer::squared_norm(tensor).expect("a norm");
    gradients.shared.iter().chain(gradients.slots.values().flatten()).map(norm).collect()
}

/// In every tying pattern, everything that trains has a finite gradient that is not zero.
#[test]
fn every_trainable_parameter_has_a_gradient() {
    let (inputs, targets) = tokens(3, 9, 31);
    let batch = Batch { inputs: &inputs, targets: &targets, windows: 3 };
    let states = [[0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 2, 2], [0, 1, 1, 0]];
    let mut bindings: Vec<_> = states
        .iter()
        .map(|owners| Binding::of_state(&State::new(owners.to_vec()).expect("a state")))
        .collect();
    bindings.push(Binding::frozen(4));
    for binding in bindings {
        for gradient in [Gradient::Sum, Gradient::Owner] {
            for kernels in KERNELS {
                let model = drawn(binding.clone(), Rules { gradient, ..PAPER }, kernels);
                let (_, gradients) = model.gradients(&batch, &pass(27, Checkpointing::None)).expect("a pass");
                assert_eq!(gradients.slots.len(), binding.n_independent());
                assert!(norms(&gradients).iter().all(|norm| norm.is_finite() && *norm > 0.0));
            }
        }
    }
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
    let batch = Batch { inputs: &inputs, targets: &targets, windows: 3 };
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
    let batch = Batch { inputs: &inputs, targets: &targets, windows: 5 };
    for kernels in KERNELS {
        let binding = Binding::of_state(&State::new(vec![0, 0, 2, 0]).expect("a state"));
        let model = drawn(binding, PAPER, kernels);
        let whole = TrainingPass { dropout: dropout(0), ..pass(45, Checkpointing::None) };
        let (loss, whole) = model.gradients(&batch, &whole).expect("a pass");
        let (mut summed_loss, mut summed) = (0.0, Gradients::default());
        for (first, piece) in batch.pieces(2) {
            let settings = TrainingPass { dropout: dropout(first), ..pass(45, Checkpointing::None) };
            let (loss, gradients) = model.gradients(&piece, &settings).expect("a pass");
            summed_loss += loss;
            summed.add(gradients).expect("equal shapes");
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
    let batch = Batch { inputs: &inputs, targets: &targets, windows: 2 };
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let (loss, _) = model.gradients(&batch, &pass(18, Checkpointing::None)).expect("a pass");
    assert!((model.loss_sum(&batch).expect("a loss") - loss).abs() / loss < 1e-6);
}

#[test]
fn rejects_batches_that_do_not_fit() {
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let refusal = |inputs: &[u32], targets: &[u32], windows| {
        model.loss_sum(&Batch { inputs, targets, windows }).expect_err("does not fit").to_string()
    };
    assert_eq!(refusal(&[1, 31], &[1, 2], 1), "batch: expected token ids below 31, came 31");
    assert_eq!(refusal(&[1; 10], &[1; 10], 1), "batch: expected at most 9 tokens a window, came 10");
    let shape = "batch: expected equally many inputs and targets in windows of one length, came ";
    assert_eq!(refusal(&[], &[], 0), format!("{shape}0 inputs and 0 targets in 0 windows"));
    assert_eq!(refusal(&[1, 2, 3], &[1, 2, 3], 2), format!("{shape}3 inputs and 3 targets in 2 windows"));
    assert_eq!(refusal(&[1, 2], &[1], 1), format!("{shape}2 inputs and 1 targets in 1 windows"));
}
