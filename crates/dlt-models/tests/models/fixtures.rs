//! Reading the committed fixtures, and small models.

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
use dlt_state::State;
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

pub(crate) fn numbers(value: &Value) -> Vec<usize> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_u64().expect("a count") as usize).collect()
}

pub(crate) const PAPER: Rules = Rules::PAPER;
pub(crate) const REFERENCE: Rules = Rules::REFERENCE;

/// Four layers of width 12 with a vocabulary of 31.
pub(crate) fn small() -> Gpt2 {
    Gpt2 {
        form: Form {
            layers: 4,
            width: 12,
            heads: 3,
            feed_forward: 20,
            norm_epsilon: 1e-5,
            initial_std: 0.1,
            residual_factors: Vec::new(),
            keeps: Keeps::NOTHING,
            head: HeadSettings::NEXT_TOKEN,
        },
        positions: 9,
        vocabulary: 31,
        gelu: Gelu::Tanh,
    }
}

pub(crate) fn drawn(binding: Binding, rules: Rules, kernels: Kernels) -> Model {
    Model::new(Arc::new(small()), binding, rules, kernels, 7, &Device::Cpu)
        .expect("a small model fits")
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

    Model::from_weights(
        Arc::new(architecture),
        binding,
        rules,
        kernels,
        &lookup,
        None,
        &Device::Cpu,
    )
    .expect("the fixture holds every weight")
}

/// Largest absolute difference. It is infinite if any value is not finite, because a maximum over
/// floats ignores NaN.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let values =
        |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
    assert_eq!(a.dims(), b.dims());

    let differences =
        values(a).into_iter().zip(values(b)).map(|(a, b)| (f64::from(a) - f64::from(b)).abs());
    differences.fold(
        0.0,
        |largest, apart| if apart.is_finite() { largest.max(apart) } else { f64::INFINITY },
    )
}

#[test]
fn rejects_values_that_are_not_finite() {
    let tensor = |values: [f32; 3]| Tensor::new(&values, &Device::Cpu).expect("a tensor");
    let finite = tensor([1.0, 2.0, 3.0]);
    assert_eq!(distance(&finite, &tensor([1.0, 4.0, 2.0])), 2.0);

    for wrong in [f32::NAN, f32::INFINITY] {
        let wrong = tensor([1.0, wrong, 3.0]);
        for (a, b) in [(&wrong, &finite), (&finite, &wrong), (&wrong, &wrong)] {
            assert_eq!(distance(a, b), f64::INFINITY, "{a} and {b}");
        }
    }
}

/// All 15 states of four layers.
pub(crate) fn states() -> Vec<State> {
    let owners = (0..24).map(|code| vec![0, code % 2, code / 2 % 3, code / 6]);
    let states: Vec<_> = owners.filter_map(|owners| State::new(owners).ok()).collect();
    assert_eq!(states.len(), 15);
    states
}
