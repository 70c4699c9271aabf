//! Lines of metrics, summaries and provenance: a row that is read is written and read back equal.
#![no_main]

use dlt_spec::record::{MetricRow, Provenance, Summary, without_times};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(row) = MetricRow::from_line(text) {
        let line = row.to_line();
        let again = MetricRow::from_line(&line).expect("what is written is read");
        assert_eq!(again.to_line(), line);
    }

    let _ = without_times(text);
    let _ = serde_json::from_str::<Summary>(text);
    let _ = serde_json::from_str::<Provenance>(text);
});
