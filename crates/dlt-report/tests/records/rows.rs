//! Rows that no run would write: with every number, and with everything absent that may be.

use std::fs;
use std::path::Path;

use dlt_spec::record::{
    DataProvenance, DecisionRow, EvaluationRow, HeaderRow, Host, METRICS_FILE, MetricRow,
    PROVENANCE_FILE, Provenance, RECORD_SCHEMA, SPEC_FILE, SearchRow, Split, StepRow,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Numbers of every kind, NaN and the infinities among them.
fn number() -> BoxedStrategy<f64> {
    prop_oneof![
        any::<f64>(),
        -10.0..10.0,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(0.0),
        Just(-0.0)
    ]
    .boxed()
}

/// Numbers for keys that have no NaN in the metrics.
fn finite() -> BoxedStrategy<f64> {
    number().prop_map(|number| if number.is_finite() { number } else { 0.5 }).boxed()
}

/// Steps and counts. The largest are larger than f32 can distinguish.
fn count() -> BoxedStrategy<usize> {
    prop_oneof![0usize..4, 0usize..1 << 40].boxed()
}

fn step() -> impl Strategy<Value = StepRow> {
    let numbers = (number(), finite(), number(), finite(), 0.0..1e9, option::of(finite()));
    let counts = (count(), count(), count(), count(), count(), count(), option::of(count()));

    (numbers, counts).prop_map(|(numbers, counts)| StepRow {
        step: counts.0,
        loss: numbers.0,
        learning_rate: numbers.1,
        gradient_norm: numbers.2,
        tokens: counts.1 as u64,
        independent_layers: counts.2,
        distinct_layers: counts.3,
        trainable_parameters: counts.4,
        block_parameters: counts.5,
        elapsed_ms: numbers.4,
        tokens_per_s: Some(numbers.3),
        current_rss_mb: numbers.5,
        skipped_steps: counts.6,
    })
}

fn evaluation() -> impl Strategy<Value = EvaluationRow> {
    let split = prop_oneof![Just(Split::Train), Just(Split::Validation), Just(Split::Test)];

    (count(), split, number(), number(), any::<u64>(), option::of(finite()), 0.0..1e9).prop_map(
        |(step, split, loss, perplexity, tokens, accuracy, elapsed_ms)| EvaluationRow {
            step,
            split,
            loss,
            perplexity,
            tokens,
            accuracy,
            elapsed_ms,
        },
    )
}

fn decision() -> impl Strategy<Value = DecisionRow> {
    let layers = || vec(0usize..100, 0..5);
    let present = || option::of(number());
    let who =
        (count(), count(), option::of(count()), option::of(layers()), layers(), any::<bool>());
    let numbers = (option::of(finite()), present(), present(), present(), present());
    let measured = (any::<bool>(), present(), present(), present(), present());
    let search = (count(), count(), finite(), finite()).prop_map(
        |(candidates, passes, loss_before, loss_after)| SearchRow {
            candidates,
            passes,
            loss_before,
            loss_after,
        },
    );
    let ends = (count(), count(), option::of(search));

    (who, numbers, measured, ends, 0.0..1e9).prop_map(
        |((step, visit, layer, action, state, explored), numbers, measured, ends, elapsed_ms)| {
            let (epsilon, reward, q_predicted, q_target, q_loss) = numbers;
            let (refused, conflict, unlikeness, loss_before, loss_after) = measured;
            let (tied_events, untied_events, search) = ends;

            DecisionRow {
                step,
                visit,
                layer,
                // No model has an action without layers, and in a table its cell would be the same
                // as without an action.
                action: action.filter(|action| !action.is_empty()),
                state,
                explored,
                epsilon,
                reward,
                q_predicted,
                q_target,
                q_loss,
                conflict,
                unlikeness,
                refused,
                loss_before,
                loss_after,
                search,
                tied_events,
                untied_events,
                elapsed_ms,
            }
        },
    )
}

/// Any row except a header.
fn row() -> impl Strategy<Value = MetricRow> {
    prop_oneof![
        step().prop_map(MetricRow::Step),
        evaluation().prop_map(MetricRow::Evaluation),
        decision().prop_map(MetricRow::Decision),
    ]
}

/// Some rows in any order.
pub(crate) fn rows() -> impl Strategy<Value = Vec<MetricRow>> {
    vec(row(), 0..20)
}

/// The start of the run of [`write_run`].
pub(crate) const STARTED_AT: u64 = 1_700_000_000;

/// Writes as much of a run folder as a conversion needs. Its metrics have these rows.
pub(crate) fn write_run(run: &Path, rows: &[MetricRow]) {
    let provenance = Provenance {
        schema: RECORD_SCHEMA,
        version: "0".to_owned(),
        revision: None,
        toolchain: String::new(),
        host: Host { cpu: String::new(), cores: 1, os: String::new(), product_engine: None },
        threads: 1,
        processes: None,
        device: "cpu".to_owned(),
        seed: 1,
        spec_fingerprint: String::new(),
        figures_revision: None,
        data: DataProvenance {
            source: String::new(),
            sha256: String::new(),
            commit: None,
            column: None,
            bad_rows: None,
            tokenizer: String::new(),
            train_tokens: 0,
            validation_tokens: 0,
            test_tokens: Some(0),
            boundary: None,
            plan: None,
            class_names: Vec::new(),
        },
        command_line: Vec::new(),
        started_at: STARTED_AT,
        resumed: Vec::new(),
    };

    fs::create_dir_all(run).unwrap();
    fs::write(run.join(SPEC_FILE), "name = \"any\"\n").unwrap();
    fs::write(run.join(PROVENANCE_FILE), serde_json::to_vec(&provenance).unwrap()).unwrap();
    write_metrics(run, rows);
}

/// Writes the metrics again.
pub(crate) fn write_metrics(run: &Path, rows: &[MetricRow]) {
    let header = MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA });
    let lines = std::iter::once(&header).chain(rows).map(|row| row.to_line() + "\n");
    fs::write(run.join(METRICS_FILE), lines.collect::<String>()).unwrap();
}
