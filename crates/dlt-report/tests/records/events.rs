//! Events have the content of the rows, whatever it is, and every changed byte is noticed.

use std::collections::BTreeMap;

use dlt_report::tensorboard::EventWriter;
use dlt_spec::record::{MetricRow, Split};
use proptest::prelude::*;

use crate::reader::read;
use crate::rows::{STARTED_AT, rows};

fn written(rows: &[MetricRow]) -> Vec<u8> {
    let mut writer = EventWriter::new(Vec::new(), STARTED_AT).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.into_inner()
}

/// The expected event of a row: step, milliseconds, and its numbers by tag. `evaluated` has the last
/// step of each split.
fn expected(
    row: &MetricRow,
    evaluated: &mut BTreeMap<&str, usize>,
) -> (usize, f64, Vec<(String, Option<f64>)>) {
    let named = |numbers: &[(&str, Option<f64>)]| -> Vec<(String, Option<f64>)> {
        numbers.iter().map(|(tag, number)| ((*tag).to_owned(), *number)).collect()
    };

    match row {
        MetricRow::Header(_) => panic!("no rows of this test are headers"),
        MetricRow::Step(row) => {
            let numbers = named(&[
                ("train/loss", Some(row.loss)),
                ("train/learning_rate", Some(row.learning_rate)),
                ("train/gradient_norm", Some(row.gradient_norm)),
                ("train/tokens_per_s", row.tokens_per_s),
                ("tying/independent_layers", Some(row.independent_layers as f64)),
                ("tying/distinct_layers", Some(row.distinct_layers as f64)),
                ("tying/trainable_parameters", Some(row.trainable_parameters as f64)),
                ("tying/block_parameters", Some(row.block_parameters as f64)),
                ("memory/resident_mb", row.current_rss_mb),
            ]);
            (row.step, row.elapsed_ms, numbers)
        }
        MetricRow::Evaluation(row) => {
            let split = match row.split {
                Split::Train => "train_split",
                Split::Validation => "validation",
                Split::Test => "test",
            };

            let group = match evaluated.get(split) {
                Some(&last) if row.step <= last => format!("kept_{split}"),
                _ => split.to_owned(),
            };

            let last = evaluated.entry(split).or_insert(row.step);
            *last = row.step.max(*last);

            let numbers = [
                (format!("{group}/loss"), Some(row.loss)),
                (format!("{group}/perplexity"), Some(row.perplexity)),
                (format!("{group}/accuracy"), row.accuracy),
            ];
            (row.step, row.elapsed_ms, numbers.to_vec())
        }
        MetricRow::Decision(row) => {
            let numbers = named(&[
                ("agent/epsilon", row.epsilon),
                ("agent/reward", row.reward),
                ("agent/q_predicted", row.q_predicted),
                ("agent/q_target", row.q_target),
                ("agent/q_loss", row.q_loss),
                ("agent/tied_events", Some(row.tied_events as f64)),
                ("agent/untied_events", Some(row.untied_events as f64)),
                ("agent/refused", row.loss_before.map(|_| if row.refused { 1.0 } else { 0.0 })),
                ("agent/conflict", row.conflict),
                ("agent/loss_before", row.loss_before),
                ("agent/loss_after", row.loss_after),
                ("agent/unlikeness", row.unlikeness),
                ("agent/search_candidates", row.search.map(|search| search.candidates as f64)),
                ("agent/search_passes", row.search.map(|search| search.passes as f64)),
                ("agent/search_loss_before", row.search.map(|search| search.loss_before)),
                ("agent/search_loss_after", row.search.map(|search| search.loss_after)),
            ]);
            (row.step, row.elapsed_ms, numbers)
        }
    }
}

/// Equal, or both NaN.
fn is_same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

proptest! {
    #[test]
    fn law_what_is_read_is_what_the_rows_say(rows in rows()) {
        let events = read(&written(&rows)).unwrap();
        prop_assert_eq!(events.len(), rows.len() + 1);
        prop_assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        prop_assert_eq!(events[0].writer.as_deref(), Some("dlt"));
        prop_assert_eq!((events[0].step, events[0].wall_time), (0, STARTED_AT as f64));

        let mut evaluated = BTreeMap::new();

        for (row, event) in rows.iter().zip(&events[1..]) {
            let (step, elapsed_ms, numbers) = expected(row, &mut evaluated);
            prop_assert_eq!(event.step, step as u64);
            prop_assert_eq!(event.wall_time, STARTED_AT as f64 + elapsed_ms / 1e3);
            prop_assert_eq!((&event.file_version, &event.writer), (&None, &None));

            let numbers: Vec<_> =
                numbers.into_iter().filter_map(|(tag, number)| Some((tag, number? as f32))).collect();
            prop_assert_eq!(event.values.len(), numbers.len());

            for ((tag, value), (expected_tag, expected)) in event.values.iter().zip(&numbers) {
                prop_assert_eq!(tag, expected_tag);
                prop_assert!(is_same(*value, *expected), "{}: {} is not {}", tag, value, expected);
            }
        }
    }
}

proptest! {
    // Each case tries every byte.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn law_a_byte_that_is_another_is_noticed(rows in rows(), change in 1u8..=255) {
        let bytes = written(&rows);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= change;
            prop_assert!(read(&damaged).is_err(), "byte {} of {}", place, bytes.len());
        }
    }
}

#[test]
fn the_reader_notices_a_file_that_ends_early() {
    let bytes = written(&[]);
    assert!(read(&bytes).is_ok());
    for end in 1..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
}
