//! Factors of residual branches: what they change, what they do not change, and models of the same
//! function without them.

use candle_core::Tensor;
use dlt_kernels::Kernels;
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change};
use dlt_models::huggingface::{Annotations, export};
use dlt_models::{Model, ModelError};
use dlt_spec::Spec;
use dlt_spec::spec::{Activations, Checkpointing};
use dlt_state::State;

use crate::families::{Family, KERNELS, all, bits};
use crate::fixtures::{PAPER, distance};

/// Powers of two: products with them are exact, so it does not matter whether branches or weights
/// are multiplied.
const EXACT: [f64; 4] = [0.5, 0.5, 0.25, 0.25];
const THIRDS: [f64; 4] = [1.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0];

/// Scores are below 4. A factor of a third is rounded differently in branches and in weights.
const SCORE_TOLERANCE: f64 = 1e-5;

/// bf16 has 8 bits. Relative to the loss, and to the norm of all gradients.
const NARROW_TOLERANCE: [f64; 2] = [2e-2, 6e-2];

fn of_state(owners: [usize; 4]) -> Binding {
    Binding::of_state(&State::new(owners.to_vec()).expect("a state"))
}

fn scores(family: Family, model: &Model) -> Tensor {
    model.scores(&family.examples(3).batch()).expect("scores")
}

fn gradients(family: Family, model: &Model, checkpointing: Checkpointing) -> (f64, Gradients) {
    let examples = family.examples(3);
    let batch = examples.batch();
    let settings = TrainingPass {
        checkpointing,
        dropout: None,
        scale: 1.0 / batch.n_predictions() as f64,
        sketch: None,
    };

    model.gradients(&batch, &settings).expect("a pass")
}

#[test]
fn law_factors_of_one_change_no_bit() {
    for family in Family::ALL {
        for kernels in KERNELS {
            let of = |factors: &[f64]| {
                let model = family.drawn_scaled(factors, of_state([0, 1, 0, 1]), PAPER, kernels);
                let (loss, gradients) = gradients(family, &model, Checkpointing::None);
                (
                    loss.to_bits(),
                    all(&gradients).map(bits).collect::<Vec<_>>(),
                    bits(&scores(family, &model)),
                )
            };

            let plain = of(&[]);
            assert_eq!(plain, of(&[1.0; 4]), "{family:?} {kernels:?}");
            assert_ne!(plain.0, of(&[1.0, 1.0, 1.0, 0.5]).0, "{family:?} {kernels:?}");
        }
    }
}

#[test]
fn law_scaled_branches_that_are_computed_again_are_the_same() {
    for family in Family::ALL {
        for (kernels, activations) in [
            (Kernels::Fused, Activations::F32),
            (Kernels::Fused, Activations::Bf16),
            (Kernels::Composed, Activations::F32),
        ] {
            let model = family.drawn_scaled(&THIRDS, of_state([0, 1, 1, 1]), PAPER, kernels);
            let model = model.computing_in(activations);
            let [kept, again] = [Checkpointing::None, Checkpointing::Block].map(|checkpointing| {
                let (loss, gradients) = gradients(family, &model, checkpointing);
                (loss.to_bits(), all(&gradients).map(bits).collect::<Vec<_>>())
            });

            assert_eq!(kept, again, "{family:?} {kernels:?} {activations:?}");
        }
    }
}

/// A frozen layer is always computed again, with its own factor.
#[test]
fn law_frozen_layers_have_their_factors() {
    for family in Family::ALL {
        let model = family.drawn_scaled(&THIRDS, Binding::frozen(4), PAPER, Kernels::Fused);
        let (loss, of_all) = gradients(family, &model, Checkpointing::None);
        let evaluated = model.loss_sum(&family.examples(3).batch()).expect("a loss");

        assert!((evaluated - loss).abs() < 1e-6 * loss, "{family:?}: {evaluated} for {loss}");
        let plain = family.drawn(Binding::frozen(4), PAPER, Kernels::Fused);
        let (_, of_plain) = gradients(family, &plain, Checkpointing::None);
        let a = of_all.norm().expect("a norm");
        let b = of_plain.norm().expect("a norm");

        assert!((a - b).abs() > 1e-3 * b, "{family:?}: {a} and {b}");
    }
}

#[test]
fn law_narrow_scaled_branches_come_near_to_wide_ones() {
    for family in Family::ALL {
        for kernels in KERNELS {
            let of = |activations| {
                let model = family.drawn_scaled(&THIRDS, of_state([0, 1, 1, 1]), PAPER, kernels);
                gradients(family, &model.computing_in(activations), Checkpointing::None)
            };

            let (wide, of_wide) = of(Activations::F32);
            let (narrow, of_narrow) = of(Activations::Bf16);
            let what = format!("{family:?} {kernels:?}");
            let [of_loss, of_norm] = NARROW_TOLERANCE;

            assert!(
                wide.to_bits() != narrow.to_bits() && (wide - narrow).abs() < of_loss * wide,
                "{what}"
            );

            let apart: f64 = all(&of_wide)
                .zip(all(&of_narrow))
                .map(|(a, b)| {
                    let apart =
                        (a - b).and_then(|apart| apart.sqr()?.sum_all()?.to_scalar::<f32>());
                    f64::from(apart.expect("f32"))
                })
                .sum();

            let norm = of_wide.norm().expect("a norm");
            assert!(apart.sqrt() < of_norm * norm, "{what}: {} of {norm}", apart.sqrt());
        }
    }
}

/// A factor belongs to a layer, not to a group, so it stays if the layer gets a copy of its block.
#[test]
fn law_a_split_keeps_the_function_of_scaled_branches() {
    let from = State::all_tied(4);
    let to = State::new(vec![0, 1, 0, 1]).expect("a state");

    for family in Family::ALL {
        for kernels in KERNELS {
            let mut model =
                family.drawn_scaled(&[0.25; 4], Binding::of_state(&from), PAPER, kernels);
            let before = scores(family, &model);
            let change = Change { from: &from, to: &to, action: to.as_action(), visited: None };

            assert!(model.keeps_function(&change).expect("a change"));
            model.apply(&change).expect("a change");
            assert_eq!(model.binding().n_distinct(), 2);
            assert_eq!(bits(&before), bits(&scores(family, &model)), "{family:?} {kernels:?}");
        }
    }
}

#[test]
fn law_factors_in_the_weights_compute_the_same() {
    for family in Family::ALL {
        for kernels in KERNELS {
            let model = family.drawn_scaled(&EXACT, of_state([0, 0, 2, 2]), PAPER, kernels);
            let folded =
                model.folded(family.with_head(family.head())).expect("a plain architecture");
            assert!(model.has_residual_factors() && !folded.has_residual_factors());
            assert_eq!(folded.binding().partition(), [0, 0, 2, 2]);

            assert_eq!(
                bits(&scores(family, &model)),
                bits(&scores(family, &folded)),
                "{family:?} {kernels:?}"
            );
            let thirds = family.drawn_scaled(&THIRDS, of_state([0, 1, 1, 1]), PAPER, kernels);

            let folded =
                thirds.folded(family.with_head(family.head())).expect("a plain architecture");
            let apart = distance(&scores(family, &thirds), &scores(family, &folded));
            assert!(apart < SCORE_TOLERANCE, "{family:?} {kernels:?}: {apart}");

            let plain = family.drawn(of_state([0, 1, 1, 1]), PAPER, kernels);
            assert!(
                distance(&scores(family, &thirds), &scores(family, &plain)) > 1e-3,
                "{family:?}"
            );
        }
    }
}

/// One block with two factors becomes two blocks when the factors go into the weights. Frozen
/// weights are stored with their factors.
#[test]
fn blocks_with_different_factors_are_split() {
    for family in Family::ALL {
        for (binding, partition) in
            [(of_state([0, 0, 0, 3]), [0, 0, 2, 3]), (Binding::frozen(4), [0, 1, 2, 3])]
        {
            let model = family.drawn_scaled(&EXACT, binding, PAPER, Kernels::Fused);
            let folded =
                model.folded(family.with_head(family.head())).expect("a plain architecture");
            assert_eq!(folded.binding().partition(), partition);
            assert_eq!(bits(&scores(family, &model)), bits(&scores(family, &folded)), "{family:?}");
        }
    }
}

#[test]
fn rejects_factors_that_a_reader_would_not_know() {
    let model = Family::Gpt2.drawn_scaled(&EXACT, of_state([0, 0, 2, 2]), PAPER, Kernels::Fused);
    let says = |error: ModelError| {
        let text = error.to_string();
        assert!(text.contains("tying.residual_scale") && text.contains("0.5"), "{text}");
    };

    says(
        model
            .folded(Family::Gpt2.scaled(&[1.0, 0.5, 1.0, 1.0]))
            .expect_err("factors would be applied twice"),
    );
    let mut spec = Spec::default();
    spec.model.layers = 4;

    let spec = spec.check().expect("a spec");
    let folder = tempfile::tempdir().expect("a folder");
    says(
        export(&model, &spec, &Annotations::default(), folder.path())
            .expect_err("factors would be lost"),
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
