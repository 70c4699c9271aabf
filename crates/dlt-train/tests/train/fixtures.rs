//! Reading the committed fixtures.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::architecture::{Form, HeadSettings};
use dlt_models::binding::{Binding, Rules};
use dlt_models::division::Keeps;
use dlt_models::families::gpt2::Gpt2;
use dlt_models::{Model, ModelError};
use dlt_spec::Spec;
use dlt_spec::spec::OptimizerSpec;
use serde_json::Value;

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

pub(crate) fn tensors(name: &str) -> BufferedSafetensors {
    BufferedSafetensors::new(std::fs::read(path(name)).expect("the fixture is there"))
        .expect("safetensors")
}

pub(crate) fn count(value: &Value) -> usize {
    value.as_u64().expect("a count") as usize
}

pub(crate) fn counts(value: &Value) -> Vec<usize> {
    value.as_array().expect("a list").iter().map(count).collect()
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Inputs and targets of windows. Each window has one token more than there are inputs.
pub(crate) fn tokens(windows: &Value) -> (Vec<u32>, Vec<u32>) {
    let rows: Vec<_> = windows.as_array().expect("windows").iter().map(counts).collect();
    let ids = |from: usize, left: usize| -> Vec<u32> {
        rows.iter()
            .flat_map(|row| row[from..row.len() - left].iter().map(|&id| id as u32))
            .collect()
    };

    (ids(0, 1), ids(1, 0))
}

/// A frozen model of four layers with the weights of a file.
pub(crate) fn frozen(architecture: Gpt2, rules: Rules, file: &BufferedSafetensors) -> Model {
    let lookup = |name: &str| match file.get(name) {
        Ok(_) => file.load(name, &Device::Cpu).map(Some).map_err(ModelError::from),
        Err(_) => Ok(None),
    };

    let binding = Binding::frozen(architecture.form.layers);

    Model::from_weights(
        Arc::new(architecture),
        binding,
        rules,
        Kernels::Fused,
        &lookup,
        None,
        &Device::Cpu,
    )
    .expect("the fixture holds every weight")
}

pub(crate) fn gpt2(sizes: [usize; 6], gelu: Gelu) -> Gpt2 {
    let [layers, width, heads, feed_forward, positions, vocabulary] = sizes;
    Gpt2 {
        form: Form {
            layers,
            width,
            heads,
            feed_forward,
            norm_epsilon: 1e-5,
            initial_std: 0.02,
            residual_factors: Vec::new(),
            keeps: Keeps::NOTHING,
            head: HeadSettings::NEXT_TOKEN,
        },
        positions,
        vocabulary,
        gelu,
    }
}

/// The optimizer of both oracles.
pub(crate) fn adamw() -> OptimizerSpec {
    OptimizerSpec {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        ..Spec::default().optimizer
    }
}

/// Largest absolute value; infinite if a value is not finite, because a maximum over floats ignores
/// NaN.
pub(crate) fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    let larger = |largest: f64, value: f64| {
        if value.is_finite() { largest.max(value.abs()) } else { f64::INFINITY }
    };
    values.into_iter().fold(0.0, larger)
}

/// Largest absolute difference; infinite if a value is not finite. The middle third of a
/// query-key-value bias is left out: shifting all keys of a head changes no attention weight, so
/// its true gradient is zero and AdamW makes full steps of rounding noise.
pub(crate) fn distance(name: &str, ours: &Tensor, theirs: &Tensor) -> f64 {
    let values =
        |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
    assert_eq!(ours.dims(), theirs.dims(), "{name}");

    let ours = values(ours);
    let theirs = values(theirs);
    let third = ours.len() / 3;
    let noise = |i: usize| name.ends_with("c_attn.bias") && (third..2 * third).contains(&i);

    largest(ours.iter().zip(&theirs).enumerate().map(|(i, (ours, theirs))| {
        let apart = f64::from(*ours) - f64::from(*theirs);
        if noise(i) && apart.is_finite() { 0.0 } else { apart }
    }))
}

#[test]
fn rejects_values_that_are_not_finite() {
    let tensor = |values: [f32; 3]| Tensor::new(&values, &Device::Cpu).expect("a tensor");
    let finite = tensor([1.0, 2.0, 3.0]);
    assert_eq!(distance("a", &finite, &tensor([1.0, 4.0, 2.0])), 2.0);
    assert_eq!(distance("c_attn.bias", &finite, &tensor([1.0, 4.0, 2.0])), 1.0);

    for wrong in [f32::NAN, f32::INFINITY] {
        let wrong = tensor([1.0, wrong, 3.0]);
        for (a, b) in [(&wrong, &finite), (&finite, &wrong), (&wrong, &wrong)] {
            for name in ["a", "c_attn.bias"] {
                assert_eq!(distance(name, a, b), f64::INFINITY, "{name}: {a} and {b}");
            }
        }
    }
}
