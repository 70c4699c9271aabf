//! Reading the committed fixtures, and small models.

use std::path::PathBuf;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::binding::{Binding, Rules};
use dlt_models::gpt2::Gpt2;
use dlt_models::{Model, ModelError};
use dlt_spec::spec::{FirstTie, Gradient, Retied, Untie};
use serde_json::Value;

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

pub(crate) fn tensors(name: &str) -> BufferedSafetensors {
    BufferedSafetensors::new(std::fs::read(path(name)).expect("the fixture is there")).expect("safetensors")
}

pub(crate) fn numbers(value: &Value) -> Vec<usize> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_u64().expect("a count") as usize).collect()
}

pub(crate) const PAPER: Rules = Rules {
    gradient: Gradient::Sum,
    untie: Untie::Copy,
    retied: Retied::Follow,
    first_tie: FirstTie::Replicate,
};

pub(crate) const REFERENCE: Rules = Rules {
    gradient: Gradient::Owner,
    untie: Untie::Alias,
    retied: Retied::Keep,
    first_tie: FirstTie::Replicate,
};

/// Four layers of width 12 with a vocabulary of 31.
pub(crate) fn small() -> Gpt2 {
    Gpt2 {
        layers: 4,
        width: 12,
        heads: 3,
        feed_forward: 20,
        positions: 9,
        vocabulary: 31,
        gelu: Gelu::Tanh,
        norm_epsilon: 1e-5,
        initial_std: 0.1,
    }
}

pub(crate) fn drawn(binding: Binding, rules: Rules, kernels: Kernels) -> Model {
    Model::new(Box::new(small()), binding, rules, kernels, 7, &Device::Cpu).expect("a small model fits")
}

pub(crate) fn stored(
    architecture: Gpt2,
    binding: Binding,
    rules: Rules,
    kernels: Kernels,
    file: &BufferedSafetensors,
    prefix: &str,
) -> Model {
    let lookup = |name: &str| {
        let name = format!("{prefix}{name}");
        match file.get(&name) {
            Ok(_) => file.load(&name, &Device::Cpu).map(Some).map_err(ModelError::from),
            Err(_) => Ok(None),
        }
    };
    Model::from_weights(Box::new(architecture), binding, rules, kernels, &lookup, &Device::Cpu)
        .expect("the fixture holds every weight")
}

/// Largest absolute difference.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (a - b).and_then(|d| d.abs()).and_then(|d| d.flatten_all()).and_then(|d| d.max(0));
    f64::from(difference.and_then(|d| d.to_scalar::<f32>()).expect("equal shapes"))
}

/// Ids of `windows` windows of `tokens` tokens, and what follows them, by a formula.
pub(crate) fn tokens(windows: usize, tokens: usize, vocabulary: u32) -> (Vec<u32>, Vec<u32>) {
    let ids: Vec<u32> =
        (0..=(windows * tokens) as u32).map(|i| (i * i * 7 + i * 3 + 5) % vocabulary).collect();
    (ids[..windows * tokens].to_vec(), ids[1..].to_vec())
}
