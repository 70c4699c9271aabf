//! Models of transformers: what they compute, how they are read and written, and what is refused.

mod cases;
mod configs;
mod exported;
mod parts;
mod second_opinion;
mod spellings;
mod torch_files;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::batch::{Input, Tokens, Wanted};
use dlt_models::parameters::Layout;
use dlt_models::{Batch, Model, huggingface};
use dlt_spec::spec::{Checkpointing, Objective};

use crate::fixtures::distance;
use cases::{CASES, Case};

const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composed];

/// Largest difference of a logit, as a share of the largest logit. Sums of at most a few hundred
/// f32 products are made in another order, through at most three blocks.
const LOGITS: f64 = 1e-5;

/// The same for the loss, as a share of it.
const LOSS: f64 = 1e-6;

/// The same for the entries of a gradient, as a share of its largest entry, or of a tenth of the
/// largest entry of all. Some gradients are only rounding, of larger numbers that cancel.
const GRADIENT: f64 = 1e-5;

fn largest(tensor: &Tensor) -> f64 {
    distance(tensor, &tensor.zeros_like().expect("memory"))
}

#[test]
fn matches_reference_logits() {
    for name in CASES {
        let case = Case::new(name);
        let expected = case.oracle("logits");

        for kernels in KERNELS {
            let ids = case.ids();
            let wanted = match case.spec.model.objective {
                Objective::Classes => Wanted::Classes(&case.labels),
                _ => Wanted::Every(&ids),
            };

            let batch = Batch { input: case.input(), wanted, windows: case.windows };
            let scores = case.model(kernels).scores(&batch).expect("scores");
            let scores = scores.reshape(expected.dims()).expect("as many");
            let apart = distance(&scores, &expected);
            let size = largest(&expected);

            assert!(apart <= LOGITS * size, "{name} {kernels:?}: {apart:e} apart at {size}");
        }
    }
}

/// Rotary frequencies may depend on the length of a text, so its beginning alone has others.
#[test]
fn matches_reference_logits_of_a_shorter_text() {
    for name in ["llama-dynamic", "llama-longrope"] {
        let case = Case::new(name);
        let expected = case.oracle("short_logits");
        let ids = case.ids()[..expected.dims()[1]].to_vec();
        let batch = Batch {
            input: Input::Tokens(Tokens::of(&ids)),
            wanted: Wanted::Every(&ids),
            windows: 1,
        };

        for kernels in KERNELS {
            let scores = case.model(kernels).scores(&batch).expect("scores");
            let scores = scores.reshape(expected.dims()).expect("as many");
            let apart = distance(&scores, &expected);
            let size = largest(&expected);

            assert!(apart <= LOGITS * size, "{name} {kernels:?}: {apart:e} apart at {size}");
        }
    }
}

#[test]
fn matches_reference_loss_and_every_gradient() {
    for name in CASES {
        let case = Case::new(name);
        let wanted = case.wanted();
        let batch = Batch { input: case.input(), wanted: wanted.borrow(), windows: case.windows };
        let count = batch.n_predictions() as f64;
        let loss = f64::from(case.oracle("loss").to_vec1::<f32>().expect("f32")[0]);

        for kernels in KERNELS {
            let model = case.model(kernels);
            let evaluated = model.loss_sum(&batch).expect("a loss") / count;
            assert!((evaluated - loss).abs() <= LOSS * loss, "{name}: {evaluated} for {loss}");

            for checkpointing in [Checkpointing::None, Checkpointing::Block] {
                let pass =
                    TrainingPass { checkpointing, dropout: None, scale: 1.0 / count, sketch: None };
                let (sum, gradients) = model.gradients(&batch, &pass).expect("a pass");
                assert!(
                    (sum / count - loss).abs() <= LOSS * loss,
                    "{name}: {} for {loss}",
                    sum / count
                );

                check_gradients(
                    &case,
                    &model,
                    &gradients,
                    &format!("{name} {kernels:?} {checkpointing:?}"),
                );
            }
        }
    }
}

/// Compares the gradients, by the names of transformers, with all gradients of the fixture.
fn check_gradients(case: &Case, model: &Model, gradients: &Gradients, what: &str) {
    let mut named = BTreeMap::new();
    let architecture = model.architecture();
    let mut add = |prefix: &str, layout: &Layout, gradients: &[Tensor]| {
        for (entry, gradient) in layout.entries().iter().zip(gradients) {
            let name = format!("{prefix}{}", entry.name);
            named.extend(huggingface::tensors(architecture, &name, gradient).expect("memory"));
        }
    };

    add(architecture.shared_prefix(), model.shared().layout(), &gradients.shared);
    for (&layer, block) in &gradients.slots {
        add(&architecture.block_prefix(layer), model.bank().layout(), block);
    }

    let expected: BTreeMap<_, _> = case.gradients().into_iter().collect();
    assert_eq!(named.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");

    let of_all = expected.values().map(largest).fold(0.0, f64::max);

    for (name, gradient) in &expected {
        let apart = distance(&named[name], gradient);
        let size = largest(gradient).max(0.1 * of_all);
        assert!(apart <= GRADIENT * size, "{what} {name}: {apart:e} apart at {size}");
    }
}

/// The weights of a model as bits, by our names.
fn bits(model: &Model) -> BTreeMap<String, Vec<u32>> {
    let named = model.named_tensors().expect("memory");
    let bits = |tensor: &Tensor| {
        let tensor =
            tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.flatten_all()).expect("memory");
        tensor.to_vec1::<f32>().expect("f32").into_iter().map(f32::to_bits).collect()
    };

    named.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}
