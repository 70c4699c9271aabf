//! Keys in which two equal runs may differ: times, speeds and resident memory.

use serde_json::Value;

/// Whether a key has a time, a speed or resident memory, in which two equal runs may differ.
#[must_use]
pub fn is_time_key(key: &str) -> bool {
    key.starts_with("elapsed_")
        || ["_ms", "_rss_mb"].iter().any(|end| key.ends_with(end))
        || ["tokens_per_s", "seconds_per_epoch", "started_at"].contains(&key)
}

/// A line of JSON without the keys that [`is_time_key`] knows, at any depth. The other keys are in
/// a fixed order. A line that is not JSON stays as it is.
///
/// ```
/// use dlt_spec::record::without_times;
/// let line = r#"{"step": 3, "elapsed_ms": 1.5, "loss": 0.25}"#;
/// assert_eq!(without_times(line), r#"{"loss":0.25,"step":3}"#);
/// ```
#[must_use]
pub fn without_times(line: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    drop_times(&mut value);

    // The keys are already sorted, unless some crate of the program enables the feature of
    // serde_json that keeps their order.
    value.sort_all_objects();

    value.to_string()
}

fn drop_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !is_time_key(key));
            map.values_mut().for_each(drop_times);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_times),
        _ => {}
    }
}
