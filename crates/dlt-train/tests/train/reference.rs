//! The `reference` preset follows a recorded training run of the authors' code: raw states,
//! storage, losses, gradient norms and final weights.

use candle_core::{DType, Device};
use dlt_kernels::{Gelu, optimizer as norms};
use dlt_models::Batch;
use dlt_models::backward::TrainingPass;
use dlt_models::binding::{Change, Rules};
use dlt_spec::presets;
use dlt_spec::spec::Checkpointing;
use dlt_state::{Action, State};
use dlt_train::optimizer::Optimizer;

use crate::fixtures::{count, counts, distance, frozen, gpt2, json, number, tensors};

/// 45 steps of AdamW at 1e-2 in f32.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Relative.
const NORM_TOLERANCE: f64 = 1e-3;
/// A few entries with almost no gradient amplify rounding: an independent simulation ends 7.3e-4
/// away.
const WEIGHT_TOLERANCE: f64 = 2e-3;

#[test]
fn matches_reference_training_trace() {
    let trace = json("reference/train_trace.json");
    let tokens = tensors("reference/train_tokens.safetensors");
    let tokens =
        tokens.load("tokens", &Device::Cpu).and_then(|t| t.to_dtype(DType::U32)).expect("ids");
    let tokens: Vec<Vec<Vec<u32>>> = tokens.to_vec3().expect("steps, windows, ids");
    let spec = presets::method("reference").and_then(|method| method.spec()).expect("the preset");

    let rules = Rules::from(&spec.tying);
    let architecture = gpt2([4, 32, 2, 128, 17, 101], Gelu::Erf);
    let mut model = frozen(architecture, rules, &tensors("reference/train_initial.safetensors"));
    let mut optimizer = Optimizer::new(&spec.optimizer, &spec.tying);
    let mut action = Action::all_zero(4);
    let steps = trace["steps"].as_array().expect("steps");

    assert_eq!(steps.len(), tokens.len());
    let up =
        model.bank().layout().entries().iter().position(|entry| entry.name == "mlp.c_fc.weight");

    for (index, (row, windows)) in steps.iter().zip(&tokens).enumerate() {
        if index % count(&trace["steps_per_action"]) == 0 {
            let layer = count(&row["layer"]);
            let choice = row["action"].as_i64().expect("an action");
            let from = State::from_action(&action);
            let choice = usize::try_from(choice).map_or(layer, |choice| choice.min(layer));

            action.replace(layer, choice).expect("a choice of this layer");
            let to = State::from_action(&action);
            let change = Change { from: &from, to: &to, action: &action, visited: Some(layer) };

            optimizer.settle(&model.apply(&change).expect("applied")).expect("settled");
        }

        assert_eq!(action.values(), counts(&row["state"]), "step {index}");
        assert_eq!(model.binding().partition(), counts(&row["storage"]), "step {index}");

        let ids = |from: usize| -> Vec<u32> {
            windows.iter().flat_map(|window| window[from..from + 16].iter().copied()).collect()
        };
        let inputs = ids(0);
        let targets = ids(1);
        let batch = Batch::next_token(&inputs, &targets, windows.len());

        let pass = TrainingPass {
            checkpointing: Checkpointing::None,
            dropout: None,
            scale: 1.0 / targets.len() as f64,
            sketch: None,
        };

        let (loss, gradients) = model.gradients(&batch, &pass).expect("a pass");
        let norm = gradients.norm().expect("a norm");
        optimizer.step(&model, gradients.clone(), norm, 1e-2).expect("a step");

        let loss = loss / targets.len() as f64;
        assert!((loss - number(&row["loss"])).abs() < LOSS_TOLERANCE, "step {index}: loss {loss}");

        let expected = number(&row["grad_norm_before_clip"]);
        assert!(
            (norm / expected - 1.0).abs() < NORM_TOLERANCE,
            "step {index}: norm {norm} for {expected}"
        );

        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        for (layer, expected) in
            row["c_fc_grad_norm_after_clip"].as_array().expect("norms").iter().enumerate()
        {
            let ours = gradients.slots.get(&layer).map(|block| {
                clip * norms::squared_norm(&block[up.expect("named")]).expect("a norm").sqrt()
            });
            match (ours, expected.as_f64()) {
                (Some(ours), Some(expected)) => {
                    assert!((ours / expected - 1.0).abs() < NORM_TOLERANCE)
                }
                (ours, expected) => assert_eq!(ours, expected, "step {index} layer {layer}"),
            }
        }
    }

    let theirs = tensors("reference/train_final.safetensors");

    for (name, ours) in model.named_tensors().expect("weights") {
        let apart = distance(&name, &ours, &theirs.load(&name, &Device::Cpu).expect("recorded"));
        assert!(apart < WEIGHT_TOLERANCE, "{name} is {apart} off");
    }
}
