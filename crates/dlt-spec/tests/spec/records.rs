use std::collections::BTreeSet;

use dlt_spec::ExitCode;
use dlt_spec::record::*;
use proptest::prelude::*;
use serde_json::Value;

fn step() -> StepRow {
    StepRow {
        step: 14,
        loss: 7.25,
        learning_rate: 1e-3,
        gradient_norm: 0.1 + 0.2,
        tokens: 15_360,
        independent_layers: 3,
        distinct_layers: 4,
        trainable_parameters: 7_000_000,
        block_parameters: 600_000,
        elapsed_ms: 12.5,
        tokens_per_s: Some(2048.0),
        current_rss_mb: Some(210.5),
        skipped_steps: None,
    }
}

fn decision() -> DecisionRow {
    DecisionRow {
        step: 15,
        visit: 0,
        layer: Some(2),
        action: Some(vec![0, 1, 1]),
        state: vec![0, 1, 1],
        explored: true,
        epsilon: Some(1.0),
        reward: Some(-900.5),
        q_predicted: Some(0.25),
        q_target: Some(-900.0),
        q_loss: Some(810_450.06),
        conflict: Some(0.75),
        unlikeness: Some(0.125),
        refused: true,
        loss_before: Some(5.25),
        loss_after: Some(5.75),
        search: Some(SearchRow { candidates: 8, passes: 16, loss_before: 5.25, loss_after: 5.125 }),
        tied_events: 1,
        untied_events: 1,
        elapsed_ms: 13.0,
    }
}

fn evaluation() -> EvaluationRow {
    EvaluationRow {
        step: 15,
        split: Split::Validation,
        loss: 6.5,
        perplexity: 6.5f64.exp(),
        tokens: 8_192,
        accuracy: None,
        elapsed_ms: 20.0,
    }
}

fn scores() -> Scores {
    Scores { accuracy: 0.75, majority_accuracy: 0.5, matthews: Some(-0.25), f1: Some(0.8) }
}

fn summary() -> Summary {
    Summary {
        schema: RECORD_SCHEMA,
        name: "smoke".into(),
        seed: 1,
        steps: 30,
        skipped_steps: None,
        decisions: Some(4),
        search_passes: Some(64),
        final_windows: None,
        best_step: 30,
        validation_loss: 6.5,
        validation_perplexity: 6.5f64.exp(),
        test_perplexity: Some(700.0),
        test_perplexity_selected_on_test: None,
        validation_scores: None,
        test_scores: None,
        unigram_perplexity: 800.0,
        unigram_test_perplexity: Some(810.0),
        bits_per_byte: 2.5,
        trainable_parameters_mean: 1.5e6,
        trainable_parameters_end: 1_500_000,
        block_parameters_mean: 2.5e4,
        block_parameters_end: 25_000,
        conventional_parameters: 1_650_000,
        conventional_block_parameters: 38_000,
        independent_layers_mean: 1.8,
        independent_layers_end: 2,
        distinct_layers_mean: 2.1,
        distinct_layers_end: 2,
        tokens_per_s: Some(5000.0),
        seconds_per_epoch: 45.0,
        elapsed_s: 3.5,
        elapsed_training_s: 3.0,
        elapsed_deciding_s: 0.01,
        elapsed_rewarding_s: 0.1,
        peak_rss_mb: Some(120.0),
        predicted_peak_rss_mb: Some(110.0),
        mean_rss_mb: None,
        weights_gradients_moments_mb_peak: 24.0,
        processes: None,
        sent_bytes_per_step: None,
    }
}

fn provenance() -> Provenance {
    Provenance {
        schema: RECORD_SCHEMA,
        version: "0.1.0".into(),
        revision: None,
        toolchain: "rustc 1.95.0".into(),
        host: Host {
            cpu: "some CPU".into(),
            cores: 2,
            os: "linux x86_64".into(),
            product_engine: Some("AMX".into()),
        },
        threads: 2,
        processes: None,
        device: "cpu".into(),
        seed: 1,
        spec_fingerprint: "0123456789abcdef".into(),
        figures_revision: Some(3),
        data: DataProvenance {
            source: "shakespeare".into(),
            commit: None,
            column: None,
            bad_rows: None,
            sha256: "00".repeat(32),
            tokenizer: "gpt2".into(),
            train_tokens: 225_000,
            validation_tokens: 12_500,
            test_tokens: Some(12_500),
            boundary: None,
            plan: None,
            class_names: Vec::new(),
        },
        command_line: vec!["dlt".into(), "train".into()],
        started_at: 1_700_000_000,
        resumed: Vec::new(),
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn law_rows_read_back_as_they_were_written() {
    let none = DecisionRow {
        layer: None,
        action: None,
        epsilon: None,
        reward: None,
        q_predicted: None,
        q_target: None,
        q_loss: None,
        conflict: None,
        unlikeness: None,
        refused: false,
        loss_before: None,
        loss_after: None,
        search: None,
        ..decision()
    };

    let rows = [
        MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA }),
        MetricRow::Step(step()),
        MetricRow::Step(StepRow { current_rss_mb: None, ..step() }),
        MetricRow::Evaluation(evaluation()),
        MetricRow::Evaluation(EvaluationRow { accuracy: Some(0.1 + 0.2), ..evaluation() }),
        MetricRow::Decision(decision()),
        MetricRow::Decision(none),
    ];

    for row in rows {
        let line = row.to_line();
        assert!(!line.contains('\n') && !line.contains("null"), "{line}");
        assert_eq!(MetricRow::from_line(&line).unwrap(), row);
    }
}

#[test]
fn numbers_that_are_not_finite_are_null_and_read_as_nan() {
    let line = MetricRow::Step(StepRow { loss: f64::NAN, gradient_norm: f64::INFINITY, ..step() })
        .to_line();
    assert!(line.contains("\"loss\":null") && line.contains("\"gradient_norm\":null"), "{line}");

    let MetricRow::Step(row) = MetricRow::from_line(&line).unwrap() else { panic!("{line}") };
    assert!(row.loss.is_nan() && row.gradient_norm.is_nan());

    let line = MetricRow::Decision(DecisionRow { reward: Some(f64::NEG_INFINITY), ..decision() })
        .to_line();
    let MetricRow::Decision(row) = MetricRow::from_line(&line).unwrap() else { panic!("{line}") };
    assert!(row.reward.is_some_and(f64::is_nan));
}

#[test]
fn rejects_lines_of_another_form() {
    for line in [
        "",
        "{",
        "{\"step\":1}",
        "{\"kind\":\"steps\",\"step\":1}",
        "{\"kind\":\"header\"}",
        "{\"kind\":\"header\",\"schema\":1,\"other\":2}",
        "{\"kind\":\"header\",\"schema\":\"1\"}",
    ] {
        assert!(MetricRow::from_line(line).is_err(), "{line}");
    }

    let short = MetricRow::Evaluation(evaluation()).to_line().replace("\"loss\":6.5,", "");
    assert!(MetricRow::from_line(&short).unwrap_err().to_string().contains("missing field `loss`"));
}

/// A speed is left out if the clock does not advance. The null of earlier builds is read as absent.
#[test]
fn a_rate_that_is_not_known_is_left_out() {
    let row = StepRow { tokens_per_s: None, ..step() };
    let line = MetricRow::Step(row.clone()).to_line();
    assert!(!line.contains("tokens_per_s"), "{line}");

    let before = line.replace("\"elapsed_ms\"", "\"tokens_per_s\":null,\"elapsed_ms\"");
    for line in [line, before] {
        assert_eq!(MetricRow::from_line(&line).unwrap(), MetricRow::Step(row.clone()), "{line}");
    }

    let timeless = Summary { tokens_per_s: None, ..summary() };
    let text = serde_json::to_string(&timeless).unwrap();
    let before =
        text.replace("\"seconds_per_epoch\"", "\"tokens_per_s\":null,\"seconds_per_epoch\"");

    for text in [text, before] {
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), timeless, "{text}");
    }
}

#[test]
fn the_summary_has_every_promised_key() {
    let value = serde_json::to_value(summary()).unwrap();
    let promised = "validation_perplexity test_perplexity unigram_perplexity \
                    trainable_parameters_mean trainable_parameters_end block_parameters_mean \
                    block_parameters_end conventional_parameters conventional_block_parameters \
                    independent_layers_mean independent_layers_end distinct_layers_mean \
                    distinct_layers_end tokens_per_s seconds_per_epoch elapsed_s \
                    elapsed_training_s elapsed_deciding_s elapsed_rewarding_s bits_per_byte \
                    peak_rss_mb predicted_peak_rss_mb mean_rss_mb \
                    weights_gradients_moments_mb_peak steps seed schema name best_step \
                    validation_loss";
    for key in promised.split_whitespace() {
        assert!(value.get(key).is_some(), "{key}");
    }
    assert!(value.get("test_perplexity_selected_on_test").is_none());

    let labelled = Summary { test_perplexity_selected_on_test: Some(650.0), ..summary() };
    assert_eq!(serde_json::to_value(&labelled).unwrap()["test_perplexity_selected_on_test"], 650.0);

    for summary in [summary(), labelled] {
        assert_eq!(
            serde_json::from_str::<Summary>(&serde_json::to_string(&summary).unwrap()).unwrap(),
            summary
        );
    }
}

#[test]
fn figures_of_a_test_split_that_is_not_there_are_absent() {
    let without = Summary { test_perplexity: None, unigram_test_perplexity: None, ..summary() };
    let value = serde_json::to_value(&without).unwrap();
    assert!(value.as_object().unwrap().keys().all(|key| !key.contains("test")), "{value}");
    assert_eq!(serde_json::from_value::<Summary>(value).unwrap(), without);

    // A figure that exists but is not a number is different from an absent one.
    let broken = Summary { test_perplexity: Some(f64::NAN), ..summary() };
    let value = serde_json::to_value(&broken).unwrap();
    assert!(value["test_perplexity"].is_null());
    assert!(serde_json::from_value::<Summary>(value).unwrap().test_perplexity.unwrap().is_nan());
}

#[test]
fn scores_of_classes_stand_in_rows_and_summaries_that_have_some() {
    assert!(!MetricRow::Evaluation(evaluation()).to_line().contains("accuracy"));
    let row = MetricRow::Evaluation(EvaluationRow { accuracy: Some(0.75), ..evaluation() });
    assert!(
        row.to_line().contains("\"tokens\":8192,\"accuracy\":0.75,\"elapsed_ms\""),
        "{}",
        row.to_line()
    );

    let plain = serde_json::to_value(summary()).unwrap();
    assert!(plain.get("validation_scores").is_none() && plain.get("test_scores").is_none());

    let many = Scores { matthews: None, f1: None, ..scores() };
    let scored =
        Summary { validation_scores: Some(scores()), test_scores: Some(many), ..summary() };
    let value = serde_json::to_value(&scored).unwrap();
    let keys_of = |split: &str| keys(&value[split]).into_iter().collect::<Vec<_>>();

    assert_eq!(keys_of("validation_scores"), ["accuracy", "f1", "majority_accuracy", "matthews"]);
    assert_eq!(keys_of("test_scores"), ["accuracy", "majority_accuracy"]);
    assert_eq!(serde_json::from_value::<Summary>(value).unwrap(), scored);
}

#[test]
fn provenance_reads_back() {
    let text = serde_json::to_string_pretty(&provenance()).unwrap();
    assert_eq!(serde_json::from_str::<Provenance>(&text).unwrap(), provenance());
    let kept = without_times(&text);
    assert!(!kept.contains("started_at") && kept.contains("spec_fingerprint"));
}

#[test]
fn times_are_exactly_the_keys_that_equal_runs_need_not_share() {
    let times = |text: String| {
        let before = keys(&serde_json::from_str(&text).unwrap());
        let after = keys(&serde_json::from_str(&without_times(&text)).unwrap());
        before.difference(&after).cloned().collect::<Vec<_>>()
    };

    assert_eq!(
        times(MetricRow::Step(step()).to_line()),
        ["current_rss_mb", "elapsed_ms", "tokens_per_s"]
    );
    assert_eq!(times(MetricRow::Evaluation(evaluation()).to_line()), ["elapsed_ms"]);
    assert_eq!(times(MetricRow::Decision(decision()).to_line()), ["elapsed_ms"]);

    assert_eq!(
        times(serde_json::to_string(&summary()).unwrap()),
        [
            "elapsed_deciding_s",
            "elapsed_rewarding_s",
            "elapsed_s",
            "elapsed_training_s",
            "mean_rss_mb",
            "peak_rss_mb",
            "predicted_peak_rss_mb",
            "seconds_per_epoch",
            "tokens_per_s"
        ]
    );
}

#[test]
fn counts_and_sizes_are_no_times() {
    for key in
        ["weights_mb", "weights_gradients_moments_mb_peak", "tokens", "step", "elapsed", "rss_mb"]
    {
        assert!(!is_time_key(key), "{key}");
    }
}

#[test]
fn without_times_keeps_what_is_not_json_and_looks_inside() {
    assert_eq!(without_times("no {json"), "no {json");
    assert_eq!(
        without_times("[{\"a_ms\":1,\"b\":{\"elapsed_s\":2,\"c\":3}}]"),
        "[{\"b\":{\"c\":3}}]"
    );
    assert_eq!(without_times("{\"b\":1,\"a\":2}"), without_times("{ \"a\": 2, \"b\": 1 }"));
}

#[test]
fn exit_codes_are_the_documented_numbers() {
    assert_eq!(ExitCode::ALL.map(ExitCode::number), [0, 2, 3, 4, 5, 6, 130]);
    for code in ExitCode::ALL {
        assert_eq!(ExitCode::from_number(code.number()), Some(code));
    }
    assert_eq!(ExitCode::from_number(1), None);
}

proptest! {
    #[test]
    fn law_rows_that_differ_in_the_last_bit_of_a_loss_stay_different(
        bits in 1u64..0x7fef_ffff_ffff_ffff
    ) {
        let line =
            |bits| MetricRow::Step(StepRow { loss: f64::from_bits(bits), ..step() }).to_line();
        prop_assert_ne!(without_times(&line(bits)), without_times(&line(bits - 1)));
        let row = StepRow { loss: f64::from_bits(bits), elapsed_ms: 99.0, ..step() };
        let again = MetricRow::Step(row).to_line();
        prop_assert_eq!(without_times(&line(bits)), without_times(&again));
    }
}

/// 0 means equal, so the key names how different two groups are.
#[test]
fn a_swap_says_how_unlike_its_groups_were() {
    let line = MetricRow::Decision(decision()).to_line();
    assert!(line.contains(r#""unlikeness":0.125"#), "{line}");
    let former = line.replace("unlikeness", "likeness");
    assert!(MetricRow::from_line(&former).unwrap_err().to_string().contains("likeness"));
}
