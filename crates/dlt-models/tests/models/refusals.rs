//! Batches that do not fit a model.

use dlt_kernels::Kernels;
use dlt_models::Batch;
use dlt_models::batch::{Input, Tokens, Wanted};
use dlt_models::binding::Binding;

use crate::families::{Examples, Family, PICTURE, Predicted};
use crate::fixtures::PAPER;

/// The error of a batch, which is the same in evaluation and in training.
fn refusal(family: Family, batch: &Batch<'_>) -> String {
    let model = family.drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let error = model.loss_sum(batch).expect_err("does not fit").to_string();
    let pass = dlt_models::backward::TrainingPass {
        checkpointing: dlt_spec::spec::Checkpointing::None,
        dropout: None,
        scale: 1.0,
        sketch: None,
    };

    assert_eq!(model.gradients(batch, &pass).expect_err("does not fit").to_string(), error);
    error
}

/// The error of a family's own examples after a change.
fn changed(family: Family, change: impl Fn(&mut Examples)) -> String {
    let mut examples = family.examples(2);
    change(&mut examples);
    refusal(family, &examples.batch())
}

/// Families that read tokens.
fn readers() -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|family| !matches!(family, Family::VitFirst | Family::VitMean))
}

#[test]
fn rejects_tokens_outside_the_vocabulary() {
    for family in readers() {
        assert_eq!(
            changed(family, |examples| examples.ids[4] = 31),
            "batch: expected token ids below 31, got 31"
        );
    }
}

#[test]
fn rejects_windows_that_are_too_long_or_uneven() {
    for family in [Family::Gpt2, Family::BertCausal, Family::Llama, Family::Qwen3] {
        let batch =
            |ids, targets, windows| refusal(family, &Batch::next_token(ids, targets, windows));
        assert_eq!(
            batch(&[1; 10], &[1; 10], 1),
            "batch: expected at most 9 tokens a window, got 10"
        );

        let shape = "batch: expected tokens in windows of one length, got ";
        assert_eq!(batch(&[], &[], 0), format!("{shape}0 tokens in 0 windows"));
        assert_eq!(batch(&[1, 2, 3], &[1, 2, 3], 2), format!("{shape}3 tokens in 2 windows"));
        assert_eq!(batch(&[1, 2], &[1], 1), "batch: expected 2 targets, got 1");
        assert_eq!(batch(&[1, 2], &[1, 31], 1), "batch: expected token ids below 31, got 31");
    }
}

#[test]
fn rejects_padding_that_cannot_be() {
    for family in Family::of_classes().filter(|family| readers().any(|reader| reader == *family)) {
        let lengths = |lengths: Vec<usize>| {
            changed(family, |examples| examples.lengths = Some(lengths.clone()))
        };
        let expected = "batch: expected 2 lengths from 1 to 9, got ";
        assert_eq!(lengths(vec![9, 0]), format!("{expected}[9, 0]"));
        assert_eq!(lengths(vec![10, 9]), format!("{expected}[10, 9]"));
        assert_eq!(lengths(vec![9]), format!("{expected}[9]"));
    }
}

#[test]
fn rejects_types_of_tokens_that_are_none() {
    for family in [Family::BertFirst, Family::BertMean, Family::BertMasked] {
        let types =
            |types: Vec<u32>| changed(family, |examples| examples.types = Some(types.clone()));
        let expected = "batch: expected 18 token types below 2, got ";
        assert_eq!(types(vec![2; 18]), format!("{expected}18 of them, up to Some(2)"));
        assert_eq!(types(vec![1; 17]), format!("{expected}17 of them, up to Some(1)"));
    }
}

#[test]
fn rejects_hidden_tokens_that_are_none() {
    let targets = |targets: Vec<Option<u32>>| {
        changed(Family::BertMasked, |examples| {
            examples.predicted = Predicted::Some(targets.clone())
        })
    };

    assert_eq!(targets(vec![None; 18]), "batch: expected at least one target, got none");
    assert_eq!(targets(vec![Some(1); 17]), "batch: expected 18 places of targets, got 17");
    assert_eq!(targets(vec![Some(31); 18]), "batch: expected token ids below 31, got 31");
}

#[test]
fn rejects_classes_that_are_none() {
    for family in Family::of_classes() {
        let labels = |labels: Vec<u32>| {
            changed(family, |examples| examples.predicted = Predicted::Classes(labels.clone()))
        };

        // A single score distinguishes two classes.
        let count = if matches!(family, Family::Gpt2Single | Family::BertSingle) { 2 } else { 3 };
        assert_eq!(
            labels(vec![0, count]),
            format!("batch: expected classes below {count}, got {count}")
        );
        assert_eq!(labels(vec![0]), "batch: expected 2 targets, got 1");
    }
}

#[test]
fn rejects_pictures_of_another_size_and_inputs_of_another_kind() {
    let expected = format!("batch: expected pictures of 3 x {PICTURE} x {PICTURE}, got ");
    for family in [Family::VitFirst, Family::VitMean] {
        let short = changed(family, |examples| examples.pixels.truncate(200));
        assert_eq!(short, format!("{expected}200 numbers in 2 pictures"));

        let none = Batch { input: Input::Pictures(&[]), wanted: Wanted::Classes(&[]), windows: 0 };
        assert_eq!(refusal(family, &none), format!("{expected}0 numbers in 0 pictures"));

        let tokens = Batch {
            input: Input::Tokens(Tokens::of(&[1, 2])),
            wanted: Wanted::Classes(&[1]),
            windows: 1,
        };

        assert_eq!(refusal(family, &tokens), "batch: expected pictures, got tokens");
    }

    let pixels = [0.0; 3 * PICTURE * PICTURE];
    let picture =
        Batch { input: Input::Pictures(&pixels), wanted: Wanted::Classes(&[0]), windows: 1 };

    for family in readers() {
        assert_eq!(refusal(family, &picture), "batch: expected tokens, got pictures");
    }
}
