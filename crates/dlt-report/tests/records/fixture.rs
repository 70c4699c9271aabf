//! What TensorBoard reads in our event file, as recorded in `data/fixtures/tensorboard`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dlt_report::tensorboard::{FOLDER, convert};
use dlt_spec::record::METRICS_FILE;
use serde_json::Value;

use crate::rows::STARTED_AT;

/// The kind of row and the key that each tag belongs to.
const TAGS: [(&str, &str, &str); 16] = [
    ("train/loss", "step", "loss"),
    ("train/learning_rate", "step", "learning_rate"),
    ("train/gradient_norm", "step", "gradient_norm"),
    ("train/tokens_per_s", "step", "tokens_per_s"),
    ("tying/independent_layers", "step", "independent_layers"),
    ("tying/distinct_layers", "step", "distinct_layers"),
    ("tying/trainable_parameters", "step", "trainable_parameters"),
    ("tying/block_parameters", "step", "block_parameters"),
    ("memory/resident_mb", "step", "current_rss_mb"),
    ("agent/epsilon", "decision", "epsilon"),
    ("agent/reward", "decision", "reward"),
    ("agent/q_predicted", "decision", "q_predicted"),
    ("agent/q_target", "decision", "q_target"),
    ("agent/q_loss", "decision", "q_loss"),
    ("agent/tied_events", "decision", "tied_events"),
    ("agent/untied_events", "decision", "untied_events"),
];

/// The evaluations of the fixture: the first part of their tags, split, step, and the index among
/// those of this split and step.
const EVALUATIONS: [(&str, &str, u64, usize); 5] = [
    ("validation", "validation", 2, 0),
    ("validation", "validation", 4, 0),
    ("kept_validation", "validation", 4, 1),
    ("test", "test", 2, 0),
    ("test", "test", 4, 0),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures/tensorboard")
}

/// Step, time and number as TensorBoard's page has them: the number in f32, or a word if it is not
/// finite.
fn point(row: &Value, key: &str) -> Option<Value> {
    let number = match row.get(key)? {
        Value::Null => Value::from("nan"),
        number => match number.as_f64().unwrap() as f32 {
            f32::INFINITY => Value::from("inf"),
            number => Value::from(f64::from(number)),
        },
    };

    let time = STARTED_AT as f64 + row["elapsed_ms"].as_f64().unwrap() / 1e3;
    Some(Value::from(vec![row["step"].clone(), time.into(), number]))
}

#[test]
fn matches_reference_tensorboard_reads_what_the_metrics_say() {
    let read: Value =
        serde_json::from_str(&fs::read_to_string(folder().join("read.json")).unwrap()).unwrap();
    assert_eq!((&read["file_version"], &read["writer"]), (&"brain.Event:2".into(), &"dlt".into()));

    let text = fs::read_to_string(folder().join("run").join(METRICS_FILE)).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();

    for (tag, kind, key) in TAGS {
        let of_kind = rows.iter().filter(|row| row["kind"] == kind);
        expected.insert(tag.to_owned(), of_kind.filter_map(|row| point(row, key)).collect());
    }

    for (group, split, step, place) in EVALUATIONS {
        let mut of_split = rows.iter().filter(|row| row["split"] == split && row["step"] == step);
        let row = of_split.nth(place).unwrap();
        for key in ["loss", "perplexity", "accuracy"] {
            if let Some(point) = point(row, key) {
                expected.entry(format!("{group}/{key}")).or_default().push(point);
            }
        }
    }

    let found: BTreeMap<String, Vec<Value>> =
        serde_json::from_value(read["scalars"].clone()).unwrap();
    assert_eq!(found, expected);
    assert_eq!(found["train/loss"][2][2], "nan");
    assert_eq!(found["train/gradient_norm"][3][2], "inf");
}

#[test]
fn matches_reference_bytes_that_tensorboard_read() {
    let place = tempfile::tempdir().unwrap();
    let made = convert(&folder().join("run"), place.path()).unwrap();
    let committed = folder().join("run").join(FOLDER).join(made.file_name().unwrap());
    assert_eq!(fs::read(made).unwrap(), fs::read(committed).unwrap());
}
