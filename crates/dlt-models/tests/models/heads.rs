//! Heads for classes: a single score, and training of the head alone.

use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::architecture::{DropoutPass, HeadSettings};
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::Binding;
use dlt_models::{Batch, Model};
use dlt_spec::spec::{Checkpointing, Trains};
use dlt_state::State;

use crate::families::{Family, KERNELS, all, bits};
use crate::fixtures::PAPER;

const SINGLE: [Family; 2] = [Family::Gpt2Single, Family::BertSingle];

fn pass(batch: &Batch<'_>) -> TrainingPass {
    let dropout = Some(DropoutPass { probability: 0.2, seed: 5, first_window: 0 });
    TrainingPass {
        checkpointing: Checkpointing::None,
        dropout,
        scale: 1.0 / batch.n_predictions() as f64,
        sketch: None,
    }
}

fn independent() -> Binding {
    Binding::of_state(&State::independent(4))
}

fn gradient<'a>(model: &Model, gradients: &'a Gradients, name: &str) -> &'a Tensor {
    &gradients.shared[model.trained_shared().layout().number(name).expect("it is there")]
}

/// The score z of each window, as f64. Checks that the score before it is 0.
fn single_scores(model: &Model, batch: &Batch<'_>) -> Vec<f64> {
    let rows = model.scores(batch).and_then(|scores| Ok(scores.to_vec2::<f32>()?)).expect("scores");
    rows.into_iter()
        .map(|row| {
            assert_eq!((row.len(), row[0].to_bits()), (2, 0));
            f64::from(row[1])
        })
        .collect()
}

/// PyTorch's `binary_cross_entropy_with_logits`, summed: `max(z, 0) - z y + ln(1 + exp(-|z|))`. Its
/// slope by z is `sigmoid(z) - y`; the slope by the bias is the sum of these.
#[test]
fn matches_reference_binary_cross_entropy_of_a_single_score() {
    /// Scores are f32 of a few tenths.
    const TOLERANCE: f64 = 1e-6;
    let examples = |family: Family| family.examples(6);

    for family in SINGLE {
        for kernels in KERNELS {
            let model = family.drawn(independent(), PAPER, kernels);
            let examples = examples(family);
            let batch = examples.batch();
            let labels: Vec<f64> = (0..6).map(|window| f64::from((window * 5 + 1) % 2)).collect();
            let scores = single_scores(&model, &batch);

            assert!(scores.iter().any(|z| *z > 0.0) || scores.iter().any(|z| *z < 0.0));
            let losses = scores
                .iter()
                .zip(&labels)
                .map(|(z, y)| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p());
            let expected: f64 = losses.sum();

            let loss = model.loss_sum(&batch).expect("a loss");
            assert!(
                (loss - expected).abs() < TOLERANCE * expected,
                "{family:?}: {loss} for {expected}"
            );

            if family == Family::BertSingle {
                let settings = TrainingPass { dropout: None, ..pass(&batch) };
                let (_, gradients) = model.gradients(&batch, &settings).expect("a pass");
                let slopes = scores.iter().zip(&labels).map(|(z, y)| 1.0 / (1.0 + (-z).exp()) - y);
                let expected = slopes.sum::<f64>() * settings.scale;
                let bias =
                    gradient(&model, &gradients, "classifier.bias").to_vec1::<f32>().expect("f32");

                assert_eq!(bias.len(), 1);
                assert!(
                    (f64::from(bias[0]) - expected).abs() < TOLERANCE,
                    "{bias:?} for {expected}"
                );
            }
        }
    }
}

/// A head of two classes, of which the first always scores 0, has bit for bit the loss of a single
/// score and the same gradients below the head. The gradient of its second row is that of the
/// single score's head.
#[test]
fn law_a_single_score_is_the_second_of_two_whose_first_is_zero() {
    for family in SINGLE {
        for kernels in KERNELS {
            let single = family.drawn(independent(), PAPER, kernels);
            let own: Vec<_> = single.architecture().output().bias.into_iter().collect();
            let own = [vec![single.architecture().output().table], own].concat();
            let prefix = single.architecture().shared_prefix();
            let weights = single.named_tensors().expect("memory");

            let lookup = |name: &str| {
                let weight = weights[name].clone();
                let is_own = own.iter().any(|own| name.strip_prefix(prefix) == Some(*own));
                let zero = weight.zeros_like()?;

                Ok(Some(if is_own { Tensor::cat(&[&zero, &weight], 0)? } else { weight }))
            };

            let HeadSettings { pooling, .. } = family.head();
            let two = family.with_head(HeadSettings::of_classes(2, pooling));
            let two = Model::from_weights(
                two,
                independent(),
                PAPER,
                kernels,
                &lookup,
                None,
                &Device::Cpu,
            );

            let two = two.expect("every weight is there");
            let examples = family.examples(4);
            let batch = examples.batch();
            let run = |model: &Model| model.gradients(&batch, &pass(&batch)).expect("a pass");
            let (loss, ours) = run(&single);
            let (expected_loss, expected) = run(&two);

            assert_eq!(loss.to_bits(), expected_loss.to_bits());
            for (entry, gradient) in two.shared().layout().entries().iter().zip(&expected.shared) {
                // The second row: (2, C) -> (1, C), or (2) -> (1).
                let gradient = if own.contains(&entry.name) {
                    gradient.narrow(0, 1, 1).expect("two rows")
                } else {
                    gradient.clone()
                };

                assert_eq!(
                    bits(self::gradient(&single, &ours, entry.name)),
                    bits(&gradient),
                    "{}",
                    entry.name
                );
            }

            let blocks = |gradients: &Gradients| {
                gradients.slots.values().flatten().map(bits).collect::<Vec<_>>()
            };
            assert_eq!(blocks(&ours), blocks(&expected));

            let scores = |model: &Model| bits(&model.scores(&batch).expect("scores"));
            assert_eq!(scores(&single), scores(&two));
        }
    }
}

#[test]
fn a_single_score_has_a_row_of_parameters_and_distinguishes_two_classes() {
    for family in SINGLE {
        let architecture = family.with_head(family.head());
        let layout = architecture.shared_layout();
        let output = architecture.output();
        let shape = |name| layout.entries()[layout.number(name).expect("there")].shape.clone();

        assert_eq!((shape(output.table), output.rows), (vec![1, 12], 2));
        assert_eq!(output.bias.map(shape), (family == Family::BertSingle).then(|| vec![1]));
        assert_eq!((family.head().classes, family.head().told_classes()), (1, 2));
    }
}

/// If only the head trains, it has the same gradients as in the whole model, and nothing else has
/// any.
#[test]
fn law_training_the_head_alone_is_training_the_whole_model_as_far_as_the_head_goes() {
    for family in Family::of_classes() {
        for kernels in KERNELS {
            let examples = family.examples(4);
            let batch = examples.batch();

            for binding in [independent(), Binding::frozen(4)] {
                let whole = family.drawn(binding.clone(), PAPER, kernels);
                let head = family.drawn(binding, PAPER, kernels).training(Trains::Head);

                for checkpointing in [Checkpointing::None, Checkpointing::Block] {
                    let settings = TrainingPass { checkpointing, ..pass(&batch) };
                    let run = |model: &Model| model.gradients(&batch, &settings).expect("a pass");
                    let (loss, ours) = run(&head);
                    let (expected_loss, expected) = run(&whole);

                    assert_eq!(loss.to_bits(), expected_loss.to_bits(), "{family:?}");
                    assert!(ours.slots.is_empty(), "{family:?}");

                    let own = head.architecture().own_head();
                    let names =
                        head.trained_shared().layout().entries().iter().map(|entry| entry.name);
                    assert_eq!(names.collect::<Vec<_>>(), own, "{family:?}");
                    assert_eq!(ours.shared.len(), own.len());

                    for name in own {
                        let theirs = gradient(&whole, &expected, name);
                        assert_eq!(
                            bits(gradient(&head, &ours, name)),
                            bits(theirs),
                            "{family:?} {name}"
                        );
                    }

                    let trained: usize = all(&ours).map(Tensor::elem_count).sum();
                    assert_eq!(head.n_trainable_parameters(), trained);
                    assert!((0..4).all(|layer| head.slot(layer).is_none()));
                }
            }
        }
    }
}

/// Gradients of pieces add up in the head too.
#[test]
fn law_pieces_add_up_where_the_head_alone_trains() {
    for family in Family::of_classes() {
        let model = family.drawn(independent(), PAPER, Kernels::Fused).training(Trains::Head);
        let examples = family.examples(5);
        let batch = examples.batch();
        let (_, whole) = model.gradients(&batch, &pass(&batch)).expect("a pass");
        let mut summed = Gradients::default();

        for (first_window, piece) in batch.pieces(2) {
            let dropout =
                pass(&batch).dropout.map(|dropout| DropoutPass { first_window, ..dropout });
            let settings = TrainingPass { dropout, ..pass(&batch) };
            model.add_gradients(&piece, &settings, &mut summed).expect("a pass");
        }

        for (a, b) in all(&whole).zip(all(&summed)) {
            assert!(crate::fixtures::distance(a, b) < 1e-6, "{family:?}");
        }
    }
}
