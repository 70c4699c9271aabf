//! Losses, logits and every gradient of GPT-2, compared with PyTorch for both implementations of
//! the kernels.

use candle_core::Device;
use dlt_kernels::Gelu;
use dlt_models::Batch;
use dlt_models::Model;
use dlt_models::architecture::{Form, HeadSettings};
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Rules};
use dlt_models::division::Keeps;
use dlt_models::families::gpt2::Gpt2;
use dlt_spec::spec::{Checkpointing, Gradient};
use dlt_state::State;
use serde_json::Value;

use crate::families::KERNELS;
use crate::fixtures::{PAPER, distance, json, numbers, stored, tensors};

/// Both sides are f32. The reference itself is less than 1e-6 off from f64 at these sizes.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// Losses are near 4 and means of f32 logarithms.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Logits are below 4. A row that is multiplied alone may sum in another order than among others.
const ROW_TOLERANCE: f64 = 2e-6;

const CHECKPOINTING: [Checkpointing; 2] = [Checkpointing::None, Checkpointing::Block];

fn pass(n_tokens: usize, checkpointing: Checkpointing) -> TrainingPass {
    TrainingPass { checkpointing, dropout: None, scale: 1.0 / n_tokens as f64, sketch: None }
}

pub(crate) fn windows(value: &Value) -> (Vec<u32>, Vec<u32>, usize) {
    let rows: Vec<Vec<usize>> = value.as_array().expect("windows").iter().map(numbers).collect();
    let ids = |skip: usize, drop: usize| {
        rows.iter()
            .flat_map(|row| row[skip..row.len() - drop].iter().map(|&id| id as u32))
            .collect()
    };

    (ids(0, 1), ids(1, 0), rows.len())
}

pub(crate) fn architecture(config: &Value, gelu: Gelu) -> Gpt2 {
    let count =
        |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("config holds {key}")) as usize;

    Gpt2 {
        form: Form {
            layers: count("layers"),
            width: count("width"),
            heads: count("heads"),
            feed_forward: count("feed_forward"),
            norm_epsilon: config["norm_epsilon"].as_f64().expect("an epsilon"),
            initial_std: 0.02,
            residual_factors: Vec::new(),
            keeps: Keeps::NOTHING,
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
                    file.load(&format!("{name}/{tensor}"), &Device::Cpu)
                        .expect("the fixture holds it")
                });

                assert_eq!(compared, 4 + 12 * state.n_independent());
            }
        }
    }
}

/// Layers that share a block at the start multiply their branches by 1 / 3, even after one of them
/// has its own block.
#[test]
fn matches_reference_every_gradient_of_scaled_branches() {
    let gpt2 = json("gpt2/gradients.json");
    let oracle = json("growth/residual.json");
    let initial = tensors("gpt2/gradients.safetensors");
    let file = tensors("growth/residual.safetensors");
    let (inputs, targets, windows) = windows(&gpt2["windows"]);
    let batch = Batch::next_token(&inputs, &targets, windows);

    let factors: Vec<f64> = oracle["factors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|x| x.as_f64().expect("a factor"))
        .collect();
    assert_eq!(factors, [1.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);

    let cases = oracle["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2);

    for (case, kernels) in cases.iter().flat_map(|case| KERNELS.map(|kernels| (case, kernels))) {
        let name = case["name"].as_str().expect("a name");
        let state = numbers(&case["state"]);
        let state = State::new(state).expect("a state");
        let mut config = architecture(&gpt2["config"], Gelu::Tanh);

        config.form.residual_factors.clone_from(&factors);
        let model = stored(config, Binding::of_state(&state), PAPER, kernels, &initial, "initial/");

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

/// Compares every gradient with the reference of the same name. Returns how many there are.
fn compare(
    model: &Model,
    gradients: &Gradients,
    oracle: impl Fn(&str) -> candle_core::Tensor,
) -> usize {
    let architecture = model.architecture();
    let mut compared = 0;
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
