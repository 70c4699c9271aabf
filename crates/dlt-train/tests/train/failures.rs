//! Reasons for which a run is refused or stops, and the exit code of each.

use candle_core::Device;
use dlt_agent::AgentError;
use dlt_models::ModelError;
use dlt_spec::ExitCode;
use dlt_train::{RunFolder, TrainError};

use dlt_train::checkpoint::CheckpointFolder;

use crate::bench::{Bench, provenance};

/// A learning rate so large that nothing is finite after one step.
const OVERFLOWS: [&str; 2] = ["optimizer.learning_rate=1e30", "optimizer.clip_norm=inf"];

/// Runs into an error. Returns the number of steps reported before it, what diverged, and where.
fn divergence(settings: &[&str]) -> (usize, usize, String) {
    let bench = Bench::new();
    let mut trainer = bench.trainer("d", &[&OVERFLOWS[..], settings].concat(), None);
    let mut reported = 0;
    let error = loop {
        match trainer.advance() {
            Ok(Some(report)) => reported = report.step,
            Ok(None) => panic!("it should have diverged"),
            Err(error) => break error,
        }
    };

    drop(trainer);
    assert_eq!(error.exit_code(), ExitCode::Diverged);
    assert!(error.to_string().contains("diverged at step"), "{error}");
    assert!(!bench.path("d").join("summary.json").exists(), "a diverged run is not done");
    bench.metrics("d");

    match error {
        TrainError::Diverged { step, loss, tensor } => {
            assert!(!loss.is_finite(), "{tensor}: {loss}");
            (reported, step, tensor)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn rejects_a_run_that_diverges_in_training() {
    let (reported, step, tensor) = divergence(&[]);
    assert_eq!((reported, step), (1, 1));
    assert!(!tensor.contains("evaluation") && !tensor.contains("reward"), "{tensor}");
}

/// The only step is sound, but the weights that it leads to are not.
#[test]
fn rejects_a_run_that_diverges_in_validation() {
    let (reported, step, tensor) = divergence(&["training.steps=1"]);
    assert_eq!((reported, step), (0, 1));
    assert!(tensor.contains("evaluation"), "{tensor}");
}

#[test]
fn rejects_a_run_that_diverges_in_a_reward() {
    let (reported, step, tensor) = divergence(&["tying.first_decision=at-step-0"]);
    assert_eq!((reported, step), (1, 1));
    assert!(tensor.contains("reward"), "{tensor}");

    let late = ["tying.first_decision=before-first-step", "agent.reward_timing=after-steps"];
    let (reported, step, tensor) = divergence(&[&late[..], &["tying.decide_every=1"]].concat());
    assert_eq!((reported, step), (0, 1));
    assert!(tensor.contains("reward"), "{tensor}");
}

#[test]
fn a_step_that_is_not_finite_can_be_skipped_and_is_counted() {
    let bench = Bench::new();
    let settings =
        ["training.non_finite=skip", "evaluation.every_steps=100", "tying.decide_every=100"];
    let mut trainer = bench.trainer("d", &[&OVERFLOWS[..], &settings].concat(), None);

    trainer.advance().expect("the first loss is finite");
    let before = std::fs::read(bench.keep(trainer.model(), "before")).expect("there");
    (0..3).for_each(|_| drop(trainer.advance().expect("skipped")));
    assert!(
        before == std::fs::read(bench.keep(trainer.model(), "after")).expect("there"),
        "weights stay"
    );

    let rows = bench.steps("d");
    assert_eq!(
        rows.iter().map(|row| row.skipped_steps).collect::<Vec<_>>(),
        [None, Some(1), Some(2), Some(3)]
    );
    assert!(rows[0].loss.is_finite() && rows[1..].iter().all(|row| row.loss.is_nan()));
}

#[test]
fn skipping_changes_nothing_where_all_is_finite_and_survives_a_resume() {
    let bench = Bench::new();
    bench.run("stop", &[]);
    bench.run("skip", &["training.non_finite=skip"]);
    assert_eq!(
        bench.steps("stop").last().map(|row| row.loss),
        bench.steps("skip").last().map(|row| row.loss)
    );

    let settings =
        ["evaluation.every_steps=100", "tying.decide_every=100", "training.non_finite=skip"];
    let settings = [&OVERFLOWS[..], &settings, &["optimizer.learning_rate=1e12"]].concat();
    let mut trainer = bench.trainer("a", &settings, None);

    (0..6).for_each(|_| drop(trainer.advance().expect("skipped at worst")));
    let skipped = bench.steps("a").last().and_then(|row| row.skipped_steps);
    assert!(skipped.is_some(), "the test needs skipped steps");
    trainer.save_checkpoint().expect("weights are finite");
    drop(trainer);

    let (mut trainer, _) = bench.resume("a", &settings, None);
    trainer.advance().expect("skipped at worst");

    let later = bench.steps("a").last().and_then(|row| row.skipped_steps);
    assert!(later >= skipped, "{later:?} after {skipped:?}");
}

/// A checkpoint from which no finite loss was computed is not the last good one.
#[test]
fn a_run_that_diverges_leaves_its_last_good_checkpoint() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("d", &["checkpoint.every_steps=2"], None);
    (0..5).for_each(|_| drop(trainer.advance().expect("it goes well")));
    drop(trainer);

    // What too large a rate would do to the weights after step 5, without a change of the spec.
    let (mut trainer, _) = bench.resume("d", &["checkpoint.every_steps=2"], None);
    assert_eq!(trainer.step(), 4);
    trainer.advance().expect("step 5");

    let huge = candle_core::Tensor::full(1e38f32, (21, 16), &Device::Cpu).expect("a tensor");
    trainer.model().shared().variables()[0].set(&huge).expect("the token table");
    trainer.save_checkpoint().expect("its weights are finite numbers");

    let error = trainer.advance().expect_err("it has diverged");
    assert!(matches!(error, TrainError::Diverged { step: 5, .. }), "{error}");
    assert_eq!(trainer.last_good_checkpoint(&error).expect("readable"), Some(4));
    drop(trainer);

    let steps = CheckpointFolder::of(&bench.path("d")).list().expect("readable");
    assert_eq!(steps.first().map(|(step, _)| *step), Some(4));

    let (trainer, _) = bench.resume("d", &["checkpoint.every_steps=2"], None);
    crate::bench::finish(trainer);
    bench.run("alone", &["checkpoint.every_steps=2"]);
    bench.outcome("d").assert_same(&bench.outcome("alone"), "from the last good one");
}

#[test]
fn rejects_a_checkpoint_of_weights_that_are_not_finite() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("d", &[], None);
    trainer.advance().expect("step 1");
    trainer.save_checkpoint().expect("good");
    trainer.advance().expect("step 2");

    let wrong = candle_core::Tensor::full(f32::NAN, (21, 16), &Device::Cpu).expect("a tensor");
    trainer.model().shared().variables()[0].set(&wrong).expect("the token table");

    let error = trainer.save_checkpoint().expect_err("not good");
    assert_eq!(error.exit_code(), ExitCode::Diverged);
    assert!(error.to_string().contains("weights transformer.wte.weight"), "{error}");
    assert_eq!(trainer.last_checkpoint(), Some(1));
}

/// There is also no summary if the run is ended before any loss shows the damage to the model.
#[test]
fn rejects_the_end_of_a_run_that_has_diverged() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("d", &OVERFLOWS, None);
    trainer.advance().expect("the first loss is finite");

    let error = trainer.finish().expect_err("it has diverged");
    assert_eq!(error.exit_code(), ExitCode::Diverged);
    assert!(!bench.path("d").join("summary.json").exists());
}

#[test]
fn rejects_a_folder_that_is_there() {
    let bench = Bench::new();
    bench.run("a", &["training.steps=2"]);

    let before = std::fs::read(bench.path("a").join("summary.json")).expect("there");
    let spec = bench.spec(&[]);
    let error =
        RunFolder::create(&bench.path("a"), &spec, &provenance()).expect_err("it already exists");

    assert!(matches!(error, TrainError::RunExists { .. }));
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert_eq!(std::fs::read(bench.path("a").join("summary.json")).expect("there"), before);
}

#[test]
fn rejects_a_vocabulary_that_is_too_small() {
    let bench = Bench::new();
    let error = bench.refusal(&["model.vocabulary=5"], None);
    assert_eq!(
        error.to_string(),
        "model.vocabulary: expected at least the tokenizer's 21 entries, got 5"
    );
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    for (error, code) in [
        (
            TrainError::from(AgentError::NotFinite { quantity: "the reward", value: f64::NAN }),
            ExitCode::Diverged,
        ),
        (TrainError::from(AgentError::DecisionPending), ExitCode::BadSpec),
        (TrainError::from(ModelError::Depth { expected: 4, got: 3 }), ExitCode::BadData),
        (
            TrainError::from(ModelError::Weight {
                name: String::new(),
                expected: vec![],
                got: String::new(),
            }),
            ExitCode::BadData,
        ),
        (TrainError::OtherStart { recorded: vec![0], run: vec![0] }, ExitCode::BadSpec),
        (
            TrainError::Diverged { step: 0, loss: f64::NAN, tensor: String::new() },
            ExitCode::Diverged,
        ),
        (TrainError::Vocabulary { tokenizer: 2, spec: 1 }, ExitCode::BadSpec),
    ] {
        assert_eq!(error.exit_code(), code, "{error}");
    }
}
