//! Models of transformers whose layers share only parts of their blocks: losses and every gradient.

use std::collections::BTreeMap;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Gradient, Rules};
use dlt_models::division::is_scale;
use dlt_models::huggingface::{Annotations, Weights};
use dlt_models::parameters::Layout;
use dlt_models::{Batch, Model, huggingface};
use dlt_spec::Spec;
use dlt_spec::spec::{Checkpointing, Own, Unit};
use dlt_state::State;
use serde_json::Value;

use super::cases::{CASES, Case, architecture, load};
use super::{GRADIENT, KERNELS, LOSS, largest};
use crate::fixtures::{PAPER, distance, json, numbers, tensors};

/// The spec of a case with what it shares.
fn spec(case: &Case, oracle: &Value) -> Spec {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let unit = match word(&oracle["unit"]).as_str() {
        "attention" => Unit::Attention,
        "feed-forward" => Unit::FeedForward,
        _ => Unit::Block,
    };
    let own = oracle["own"].as_array().expect("words").iter().map(|own| match word(own).as_str() {
        "norms" => Own::Norms,
        "scales" => Own::Scales,
        _ => Own::Biases,
    });

    let mut spec = Spec::clone(&case.spec);
    spec.tying.unit = unit;
    spec.tying.own = own.collect();
    spec
}

/// The model of a case: weights of transformers, and the scales of the oracle.
fn model(
    case: &Case,
    oracle: &Value,
    kernels: Kernels,
    scale: &dyn Fn(&str) -> Option<Tensor>,
) -> Model {
    let spec = spec(case, oracle).check().expect("a spec that can train");
    let architecture = architecture(&spec);
    let weights = Weights::open(&case.folder, architecture.as_ref(), &Device::Cpu).expect("there");
    let state = State::new(numbers(&oracle["state"])).expect("a state");
    let gradient = if oracle["gradient"] == "owner" { Gradient::Owner } else { Gradient::Sum };
    let rules = Rules { gradient, ..PAPER };

    let lookup = |name: &str| match scale(name) {
        Some(scale) => Ok(Some(scale)),
        None => weights.lookup(name),
    };
    let binding = Binding::of_state(&state);
    Model::from_weights(architecture, binding, rules, kernels, &lookup, None, &Device::Cpu)
        .expect("the fixture holds every weight")
}

/// All gradients by the names of transformers; scales by ours.
fn named(model: &Model, gradients: &Gradients) -> BTreeMap<String, Tensor> {
    let mut named = BTreeMap::new();
    let architecture = model.architecture();
    let mut add = |prefix: &str, layout: &Layout, gradients: &[Tensor]| {
        for (entry, gradient) in layout.entries().iter().zip(gradients) {
            let name = format!("{prefix}{}", entry.name);
            if is_scale(entry.name) {
                named.insert(name, gradient.clone());
            } else {
                named.extend(huggingface::tensors(architecture, &name, gradient).expect("memory"));
            }
        }
    };

    let division = model.bank().division();
    add(architecture.shared_prefix(), model.shared().layout(), &gradients.shared);
    for (&slot, tied) in &gradients.slots {
        add(&architecture.block_prefix(slot), division.tied(), tied);
    }
    for (&layer, kept) in &gradients.kept {
        add(&architecture.block_prefix(layer), division.kept(), kept);
    }

    named
}

/// A scale of a case by our name, `model.layers.1.scale.attention`; `None` for another parameter.
fn scale(file: &BufferedSafetensors, case: &str, full: &str) -> Option<Tensor> {
    let (layer, half) = full.split_once(".scale.")?;
    let layer = layer.rsplit('.').next()?;
    let name = format!("{case}/scale/{layer}.{half}");
    Some(file.load(&name, &Device::Cpu).expect("the fixture has it"))
}

#[test]
fn matches_reference_loss_and_every_gradient_of_shared_parts() {
    let oracles = json("parts/oracle.json");
    let file = tensors("parts/oracle.safetensors");
    let load = |name: &str| file.load(name, &Device::Cpu).expect("the fixture has it");
    let oracles = oracles.as_array().expect("cases");
    assert_eq!(oracles.len(), 12);

    for oracle in oracles {
        let name = oracle["name"].as_str().expect("a name");
        let of_model = CASES.into_iter().find(|case| oracle["model"] == *case).expect("a model");
        let case = Case::new(of_model);
        let wanted = case.wanted();
        let batch = Batch { input: case.input(), wanted: wanted.borrow(), windows: case.windows };
        let count = batch.n_predictions() as f64;
        let loss = f64::from(load(&format!("{name}/loss")).to_vec1::<f32>().expect("f32")[0]);

        let scale = |full: &str| scale(&file, name, full);
        let prefix = format!("{name}/gradient/");
        let expected: BTreeMap<_, _> = file
            .tensors()
            .into_iter()
            .filter_map(|(full, _)| Some((full.strip_prefix(&prefix)?.to_owned(), load(&full))))
            .collect();
        let of_all = expected.values().map(largest).fold(0.0, f64::max);

        for kernels in KERNELS {
            let model = model(&case, oracle, kernels, &scale);
            let evaluated = model.loss_sum(&batch).expect("a loss") / count;
            assert!((evaluated - loss).abs() <= LOSS * loss, "{name}: {evaluated} for {loss}");

            for checkpointing in [Checkpointing::None, Checkpointing::Block] {
                let what = format!("{name} {kernels:?} {checkpointing:?}");
                let pass =
                    TrainingPass { checkpointing, dropout: None, scale: 1.0 / count, sketch: None };
                let (sum, gradients) = model.gradients(&batch, &pass).expect("a pass");
                let named = named(&model, &gradients);

                assert!((sum / count - loss).abs() <= LOSS * loss, "{what}: {}", sum / count);
                assert_eq!(
                    named.keys().collect::<Vec<_>>(),
                    expected.keys().collect::<Vec<_>>(),
                    "{what}"
                );
                for (name, gradient) in &expected {
                    let apart = distance(&named[name], gradient);
                    let size = largest(gradient).max(0.1 * of_all);
                    assert!(apart <= GRADIENT * size, "{what} {name}: {apart:e} apart at {size}");
                }
            }
        }
    }
}

/// Every layer is written with what it shares, what it keeps, and its scales in the projections that
/// end its halves. What is read back computes the same.
#[test]
fn law_shared_parts_are_written_out() {
    let oracles = json("parts/oracle.json");
    let file = tensors("parts/oracle.safetensors");
    let folder = tempfile::tempdir().expect("a folder");

    for oracle in oracles.as_array().expect("cases") {
        let name = oracle["name"].as_str().expect("a name");
        let of_model = CASES.into_iter().find(|case| oracle["model"] == *case).expect("a model");
        let case = Case::new(of_model);
        let scale = |full: &str| scale(&file, name, full);
        let model = model(&case, oracle, Kernels::Fused, &scale);
        huggingface::export(&model, &case.spec, &Annotations::default(), folder.path())
            .expect("written");
        let read = load(&case.spec, folder.path(), Kernels::Fused).expect("read");

        let wanted = case.wanted();
        let batch = Batch { input: case.input(), wanted: wanted.borrow(), windows: case.windows };
        let [ours, theirs] = [&model, &read].map(|model| model.loss_sum(&batch).expect("a loss"));
        if oracle["own"].as_array().expect("words").contains(&"scales".into()) {
            // Products of a scale and a weight are rounded once more.
            assert!((ours - theirs).abs() <= LOSS * ours, "{name}: {theirs} for {ours}");
        } else {
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{name}");
        }
    }
}
