//! Every figure of a summary, compared with the rows of the metrics or with a count by hand.

use std::collections::BTreeSet;

use dlt_data::Split;
use dlt_spec::record::{self, StepRow, Summary};
use dlt_train::evaluation;

use crate::bench::{Bench, finish};

/// Relative: the same sums in f64, in another order.
const ROUNDING: f64 = 1e-9;

/// Width 16, vocabulary 21, 8 positions: token and position tables and the final norm's scale and
/// shift.
const SHARED: usize = 21 * 16 + 8 * 16 + 2 * 16;
/// Two norms, query-key-value and output, both halves of a feed-forward layer four times as wide;
/// with biases.
const BLOCK: usize = 4 * 16 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16);

fn close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < ROUNDING
}

fn mean(rows: &[StepRow], figure: impl Fn(&StepRow) -> usize) -> f64 {
    rows.iter().map(|row| figure(row) as f64).sum::<f64>() / rows.len() as f64
}

/// Means are over the rows of steps; figures of the end are those of the last row.
fn check_means_and_ends(summary: &Summary, rows: &[StepRow]) {
    assert_eq!(summary.steps, rows.len());
    for (name, figure, mean_figure, end) in [
        (
            "trainable_parameters",
            (|row| row.trainable_parameters) as fn(&StepRow) -> usize,
            summary.trainable_parameters_mean,
            summary.trainable_parameters_end,
        ),
        (
            "block_parameters",
            |row| row.block_parameters,
            summary.block_parameters_mean,
            summary.block_parameters_end,
        ),
        (
            "independent_layers",
            |row| row.independent_layers,
            summary.independent_layers_mean,
            summary.independent_layers_end,
        ),
        (
            "distinct_layers",
            |row| row.distinct_layers,
            summary.distinct_layers_mean,
            summary.distinct_layers_end,
        ),
    ] {
        assert!(close(mean_figure, mean(rows, figure)), "{name}: {mean_figure}");
        assert_eq!(end, figure(rows.last().expect("steps")), "{name}");
    }

    for row in rows {
        assert_eq!(row.trainable_parameters, SHARED + row.block_parameters);
    }
}

#[test]
fn means_and_ends_are_those_of_the_steps() {
    let bench = Bench::new();
    let summary = bench.run("a", &["agent.policy=random"]);
    let rows = bench.steps("a");

    check_means_and_ends(&summary, &rows);
    for row in &rows {
        assert_eq!(row.block_parameters, row.independent_layers * BLOCK);
    }

    let differ =
        |figure: fn(&StepRow) -> usize| rows.iter().map(figure).collect::<BTreeSet<_>>().len() > 1;
    assert!(differ(|row| row.independent_layers) && differ(|row| row.distinct_layers));
    assert_eq!(rows[0].distinct_layers, 4, "frozen layers are distinct");
    assert_ne!(summary.trainable_parameters_mean, summary.trainable_parameters_end as f64);

    let settings =
        ["method reference", "data.pipeline=stream", "tying.decide_every=3", "training.steps=60"];
    let summary = bench.run("r", &settings);
    let rows = bench.steps("r");

    check_means_and_ends(&summary, &rows);
    let shares = |row: &StepRow| row.distinct_layers < row.independent_layers;
    assert!(rows.iter().any(shares), "the test needs independent layers that share storage");

    let once = |row: &&StepRow| row.block_parameters > row.distinct_layers * BLOCK;
    assert_eq!(rows.iter().find(once), None, "a storage counts once, however many layers train it");
}

#[test]
fn parameters_of_a_conventional_run_are_counted_by_hand() {
    let bench = Bench::new();
    let summary = bench.run("c", &["agent.policy=none", "tying.initial=independent"]);
    assert_eq!(summary.conventional_parameters, SHARED + 4 * BLOCK);
    assert_eq!(summary.conventional_block_parameters, 4 * BLOCK);
    assert_eq!(summary.trainable_parameters_end, SHARED + 4 * BLOCK);
    assert_eq!(summary.trainable_parameters_mean, (SHARED + 4 * BLOCK) as f64);
    assert_eq!(summary.block_parameters_mean, (4 * BLOCK) as f64);
    check_means_and_ends(&summary, &bench.steps("c"));
}

/// Weight, gradient and two moments, of four bytes each, in 10^6 bytes.
fn megabytes(parameters: usize) -> f64 {
    16.0 * parameters as f64 / 1e6
}

#[test]
fn weights_gradients_and_moments_are_counted_by_hand() {
    let bench = Bench::new();

    for (initial, blocks) in
        [("independent", 4), ("cycle", 2), ("tied", 1), ("frozen", 1), ("[0, 0, 2, 3]", 3)]
    {
        let setting = format!("tying.initial={initial}");
        let summary =
            bench.run(&format!("{blocks}{}", initial.len()), &["agent.policy=none", &setting]);
        let expected = megabytes(SHARED + blocks * BLOCK);

        assert!(
            close(summary.weights_gradients_moments_mb_peak, expected),
            "{initial}: {summary:?}"
        );
    }
}

/// With fresh moments, the bytes held are those of what trains. With resumed moments, those of
/// every layer that was ever independent stay.
#[test]
fn weights_gradients_and_moments_of_a_tied_run_are_those_of_its_largest_step() {
    let bench = Bench::new();

    for moments in ["fresh", "inherit", "resume"] {
        let setting = format!("tying.moments={moments}");
        let summary = bench.run(moments, &["agent.policy=random", "seed=3", &setting]);
        let recording = bench.recording(moments);
        let mut ever = BTreeSet::new();
        let mut largest = 0.0;

        for step in 0..summary.steps {
            let trained: BTreeSet<_> = recording.state_at(step).independent_layers().collect();
            ever.extend(trained.iter().copied());

            let held = if moments == "resume" { ever.len() } else { trained.len() };
            let [trained, held] = [trained.len(), held].map(|blocks| SHARED + blocks * BLOCK);
            largest = f64::max(largest, (megabytes(trained) + megabytes(held)) / 2.0);
        }

        let peak = summary.weights_gradients_moments_mb_peak;
        assert!(close(peak, largest), "{moments}: {peak} for {largest}");
        assert!(peak <= megabytes(summary.conventional_parameters));

        if moments == "resume" {
            let trained = mean(&bench.steps(moments), |row| row.trainable_parameters) as usize;
            assert!(peak > megabytes(trained));
        }
    }
}

#[test]
fn bits_per_byte_are_the_loss_over_the_bytes_of_the_text() {
    /// The text of the first token, which is not predicted, can be longer or shorter than the mean:
    /// by a byte or so of several hundred.
    const FIRST_TOKEN: f64 = 0.005;
    let bench = Bench::new();
    let summary = bench.run("a", &[]);
    let validation = bench.splits(&bench.spec(&[])).validation;

    let row = bench.evaluations("a", record::Split::Validation).pop().expect("the last evaluation");
    assert_eq!(row.tokens as usize, validation.len() - 1, "every token but the first is predicted");
    assert!(close(row.loss, summary.validation_loss));
    assert!(close(summary.validation_perplexity, summary.validation_loss.exp()));

    let bits = summary.validation_loss * row.tokens as f64 / std::f64::consts::LN_2;
    // Words are "w0 " to "w19 ", so there are several times as many bytes as tokens.
    let bytes = validation.bytes() as f64 * row.tokens as f64 / validation.len() as f64;
    assert!(bytes > 3.0 * row.tokens as f64);
    assert!((summary.bits_per_byte / (bits / bytes) - 1.0).abs() < FIRST_TOKEN, "{summary:?}");
}

fn rate(summary: &record::Summary) -> f64 {
    summary.tokens_per_s.expect("a clock that runs")
}

#[test]
fn times_agree_with_one_another() {
    let bench = Bench::new();
    let summary = bench.run("a", &[]);
    let spec = bench.spec(&[]);
    let windows = bench.material(&spec).examples(Split::Train).count();

    // A pass is whole batches only: 4 windows of 8 tokens.
    let tokens_of_a_pass = (windows / 4 * 4 * 8) as f64;
    assert!(summary.seconds_per_epoch > 0.0 && rate(&summary) > 0.0);
    assert!(close(summary.seconds_per_epoch, tokens_of_a_pass / rate(&summary)));

    let training_s = (24 * 4 * 8) as f64 / rate(&summary);
    assert!(training_s < summary.elapsed_s, "evaluations take time too");

    let last = bench.steps("a").pop().expect("steps");
    assert_eq!(last.tokens, 24 * 4 * 8);

    // The row is written shortly before the step ends; the rest of its time counts for the summary
    // only.
    assert!(rate(&summary) <= last.tokens_per_s.expect("a clock that runs"), "{last:?}");
}

#[test]
fn perplexity_selected_on_test_is_the_smallest_of_the_test_rows() {
    let bench = Bench::new();
    // The rate is too large, so that the last row is not the smallest.
    let settings = [
        "optimizer.learning_rate=0.3",
        "evaluation.every_steps=2",
        "training.steps=20",
        "evaluation.select_on=validation-and-test",
    ];

    let summary = bench.run("a", &settings);
    let mut rows = bench.evaluations("a", record::Split::Test);
    let last = rows.pop().expect("that of the kept model");

    assert_eq!(rows.len(), 10, "one an evaluation");
    let smallest = rows.iter().map(|row| row.perplexity).min_by(f64::total_cmp);
    assert_eq!(summary.test_perplexity_selected_on_test, smallest);
    assert!(smallest < rows.last().map(|row| row.perplexity), "the test needs one before the last");
    assert_eq!(summary.test_perplexity, Some(last.perplexity));
    assert!(smallest <= summary.test_perplexity);
    assert_eq!(bench.run("b", &settings[..3]).test_perplexity_selected_on_test, None);
}

/// Validations in training read a part of the split. The reported figure is over all of it,
/// including the rest after the last window.
#[test]
fn evaluation_of_a_subset_says_so_and_the_summary_is_of_the_whole() {
    let bench = Bench::new();
    let settings = ["evaluation.windows=5"];
    let summary = bench.run("a", &settings);
    let mut rows = bench.evaluations("a", record::Split::Validation);
    let last = rows.pop().expect("that of the kept model");

    assert_eq!(rows.iter().map(|row| row.tokens).collect::<Vec<_>>(), [5 * 8; 3]);
    let splits = bench.splits(&bench.spec(&settings));
    assert_eq!(last.tokens as usize, splits.validation.len() - 1);
    assert_eq!(summary.validation_loss, last.loss);

    let best = rows.iter().find(|row| row.step == summary.best_step).expect("a row in training");
    let model = bench.model(&bench.path("a").join(dlt_train::MODEL_FILE), &settings);
    let windows =
        splits.windows(Split::Validation).and_then(|windows| windows.first(5)).expect("windows");
    let subset = evaluation::evaluate(&model, &windows.into(), 4).expect("an evaluation");

    assert!(close(best.loss, subset.loss()), "{best:?} for {subset:?}");
    assert_ne!(best.loss, last.loss);
}

/// A run that is stopped early has a summary of the steps done.
#[test]
fn a_run_that_ends_early_says_how_far_it_came() {
    let bench = Bench::new();
    let mut trainer =
        bench.trainer("a", &["agent.policy=random", "evaluation.every_steps=4"], None);
    for _ in 0..7 {
        trainer.advance().expect("it does not diverge").expect("24 steps are to be made");
    }

    let summary = trainer.finish().expect("it finishes");
    let rows = bench.steps("a");
    check_means_and_ends(&summary, &rows);
    assert_eq!((summary.steps, summary.best_step), (7, 4));

    let tokens_of_a_pass = {
        let windows = bench.material(&bench.spec(&[])).examples(Split::Train).count();
        (windows / 4 * 4 * 8) as f64
    };

    assert!(close(summary.seconds_per_epoch, tokens_of_a_pass / rate(&summary)));
    let tokens_per_s = rows.last().and_then(|row| row.tokens_per_s).expect("a clock that runs");
    assert!(rate(&summary) <= tokens_per_s, "tokens of steps that were not made: {summary:?}");
    assert_eq!(
        Some(summary),
        dlt_train::RunFolder::read_summary(&bench.path("a")).expect("readable")
    );

    assert!(
        bench.decisions("a").iter().all(|row| row.reward.is_some()),
        "no decision waits any more"
    );

    let never = bench.trainer("b", &[], None);
    let summary = never.finish().expect("a run without a step finishes");

    assert_eq!((summary.steps, summary.best_step), (0, 0));
    assert!(summary.validation_loss.is_finite());
}

#[test]
fn evaluation_batches_larger_than_the_data_are_the_data() {
    /// Relative: a batch of another size can sum in another order, in f32.
    const BATCHES: f64 = 1e-6;
    let bench = Bench::new();
    let small = ["evaluation.batch=3"];
    let large = ["evaluation.batch=2147483647"];
    let summaries = [("a", small), ("b", large)].map(|(run, settings)| bench.run(run, &settings));

    let near = |a: f64, b: f64| (a / b - 1.0).abs() < BATCHES;
    assert!(near(summaries[0].validation_loss, summaries[1].validation_loss), "{summaries:?}");

    let trainer = bench.trainer("c", &large, None);
    let windows = bench.material(&bench.spec(&large)).examples(Split::Validation).clone();
    let evaluate =
        |batch| evaluation::evaluate(trainer.model(), &windows, batch).expect("an evaluation");
    let all = evaluate(usize::MAX);

    assert!(near(all.loss_sum, evaluate(1).loss_sum));
    assert_eq!(all.tokens, evaluate(1).tokens);
    finish(trainer);
}
