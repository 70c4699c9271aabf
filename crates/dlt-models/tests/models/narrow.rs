//! bf16 activations over f32 weights, compared with the same model with f32 activations.

use candle_core::{DType, Tensor};
use dlt_kernels::Kernels;
use dlt_models::architecture::DropoutPass;
use dlt_models::backward::{Gradients, PackedWeights, TrainingPass};
use dlt_models::binding::Binding;
use dlt_models::generation::Decoder;
use dlt_models::{Batch, Model, ModelError};
use dlt_spec::spec::{Activations, Checkpointing};
use dlt_state::State;

use crate::families::{Examples, Family, KERNELS, all, bits};
use crate::fixtures::PAPER;

/// bf16 rounds to 8 bits, so by up to 4e-3 of a number. Four layers, forward and back, lose about
/// two more bits. The smallest gradients are what is left when larger ones cancel: a classifier's
/// bias is 5e-2 off, nearly all others are less than 1e-2 off.
const LOSS_TOLERANCE: f64 = 5e-3;
const NORM_TOLERANCE: f64 = 6e-2;
const COSINE: f64 = 0.999;

const DROPOUT: DropoutPass = DropoutPass { probability: 0.2, seed: 5, first_window: 0 };

fn binding(owners: [usize; 4]) -> Binding {
    Binding::of_state(&State::new(owners.to_vec()).expect("a state"))
}

fn model(family: Family, kernels: Kernels, activations: Activations) -> Model {
    let model = family.drawn(binding([0, 1, 0, 1]), PAPER, kernels).computing_in(activations);
    assert_eq!(model.activations(), activations);
    model
}

fn gradients(model: &Model, examples: &Examples, checkpointing: Checkpointing) -> (f64, Gradients) {
    let batch = examples.batch();
    model.gradients(&batch, &pass(&batch, checkpointing)).expect("a pass")
}

fn pass(batch: &Batch<'_>, checkpointing: Checkpointing) -> TrainingPass {
    let scale = 1.0 / batch.n_predictions() as f64;
    TrainingPass { checkpointing, dropout: Some(DROPOUT), scale, sketch: None }
}

fn names(model: &Model, gradients: &Gradients) -> Vec<String> {
    let shared =
        model.trained_shared().layout().entries().iter().map(|entry| entry.name.to_owned());
    let block = |slot: &usize| {
        let slot = *slot;
        model.bank().layout().entries().iter().map(move |entry| format!("{slot} {}", entry.name))
    };

    shared.chain(gradients.slots.keys().flat_map(block)).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F64)?.to_vec1());
    flat.expect("numbers")
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn law_narrow_activations_come_near_to_wide_ones_and_are_not_the_same() {
    for family in Family::ALL {
        for kernels in KERNELS {
            let examples = family.examples(3);
            let of = |activations| {
                let model = model(family, kernels, activations);
                let loss = model.loss_sum(&examples.batch()).expect("a loss");
                let (trained, gradients) = gradients(&model, &examples, Checkpointing::None);

                (loss, trained, names(&model, &gradients), gradients)
            };

            let what = format!("{family:?} {kernels:?}");
            let (wide_loss, wide_trained, names, wide) = of(Activations::F32);
            let (loss, trained, _, narrow) = of(Activations::Bf16);

            for (got, expected) in [(loss, wide_loss), (trained, wide_trained)] {
                let apart = (got / expected - 1.0).abs();
                assert!(apart > 0.0 && apart < LOSS_TOLERANCE, "{what}: {got} for {expected}");
            }

            for ((got, expected), name) in all(&narrow).zip(all(&wide)).zip(&names) {
                assert_eq!(got.dtype(), DType::F32, "{what}: {name}");
                let got = values(got);
                let expected = values(expected);
                let long = norm(&got);
                let length = norm(&expected);
                let product: f64 = got.iter().zip(&expected).map(|(a, b)| a * b).sum();

                let cosine = product / (long * length);
                assert!(cosine > COSINE, "{what}: {name}: cosine {cosine}");
                assert!(
                    (long / length - 1.0).abs() < NORM_TOLERANCE,
                    "{what}: {name}: {long} for {length}"
                );
            }

            assert_eq!(names.len(), all(&wide).count());
            assert!(all(&narrow).zip(all(&wide)).all(|(a, b)| bits(a) != bits(b)), "{what}");
        }
    }
}

/// What is computed again equals what would have been kept, rounding included.
#[test]
fn law_narrow_activations_that_are_computed_again_are_the_same() {
    for family in Family::ALL {
        for kernels in KERNELS {
            let model = model(family, kernels, Activations::Bf16);
            let examples = family.examples(3);
            let (loss, kept) = gradients(&model, &examples, Checkpointing::None);
            let (again, computed) = gradients(&model, &examples, Checkpointing::Block);

            assert_eq!(loss.to_bits(), again.to_bits(), "{family:?} {kernels:?}");
            for (kept, computed) in all(&kept).zip(all(&computed)) {
                assert_eq!(bits(kept), bits(computed), "{family:?} {kernels:?}");
            }
        }
    }
}

/// Weights that were packed for an earlier piece of a batch give the same bits as new ones.
#[test]
fn law_packed_weights_serve_all_pieces_of_a_batch() {
    for family in Family::ALL {
        let model = model(family, Kernels::Fused, Activations::Bf16);
        let examples = family.examples(3);
        let batch = examples.batch();

        for checkpointing in [Checkpointing::None, Checkpointing::Block] {
            let pass = pass(&batch, checkpointing);
            let mut fresh = Gradients::default();
            let mut shared = Gradients::default();
            let mut packed = PackedWeights::of_several_passes();

            for (_, piece) in batch.pieces(1) {
                let loss = model.add_gradients(&piece, &pass, &mut fresh).expect("a pass");
                let again = model
                    .add_gradients_with::<ModelError>(&piece, &pass, &mut shared, &mut packed, None)
                    .expect("a pass");
                assert_eq!(loss.to_bits(), again.to_bits(), "{family:?}");
            }

            for (fresh, shared) in all(&fresh).zip(all(&shared)) {
                assert_eq!(bits(fresh), bits(shared), "{family:?} {checkpointing:?}");
            }
        }
    }
}

/// Scores are f32, computed from bf16 hidden states. A cache changes them only by the rounding of
/// another order of sums.
#[test]
fn law_narrow_models_generate_from_what_they_compute() {
    const TOLERANCE: f32 = 1e-2;
    let tokens = [3, 1, 4, 1, 5, 9, 2];

    for family in [Family::Gpt2, Family::BertCausal, Family::Llama, Family::Qwen3] {
        for kernels in KERNELS {
            let model = model(family, kernels, Activations::Bf16);
            let whole = model.next_logits(&tokens).expect("logits");
            let wide = family.drawn(binding([0, 1, 0, 1]), PAPER, kernels);

            assert_ne!(whole, wide.next_logits(&tokens).expect("logits"));
            let mut decoder = Decoder::new(&model, 1, tokens.len()).expect("a decoder");
            decoder.feed(&[0], &tokens[..4]).expect("logits");
            decoder.feed(&[0], &tokens[4..5]).expect("logits");

            let fed = decoder.feed(&[0], &tokens[5..]).expect("logits").remove(0);
            for (fed, whole) in fed.iter().zip(&whole) {
                assert!(
                    (fed - whole).abs() < TOLERANCE,
                    "{family:?} {kernels:?}: {fed} for {whole}"
                );
            }
        }
    }
}
