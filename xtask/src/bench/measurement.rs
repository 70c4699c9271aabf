//! What a side prints about its run: one line of JSON.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The figures that both programs print.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measurement {
    /// Who measured: program, version, mode.
    pub(crate) peer: String,
    /// Distinct trainable numbers.
    pub(crate) params: u64,
    pub(crate) step_ms_median: f64,
    pub(crate) tokens_per_s: f64,
    /// Absent if the system does not report it.
    pub(crate) peak_rss_mb: Option<f64>,
    pub(crate) loss: f64,
    /// What only several processes have. Without a key it is unknown.
    pub(crate) among: Among,
    /// The whole line, with everything that the program prints.
    pub(crate) line: Value,
}

/// The figures of a run of several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Among {
    pub(crate) processes: Option<u64>,
    /// Share of a step in which a process waits for the exchange, from 0 to 1.
    pub(crate) exchange_share: Option<f64>,
    /// Bytes that a process sends in a step.
    pub(crate) bytes_per_step: Option<f64>,
    /// Peak memory of the process with the most.
    pub(crate) rank_rss_mb: Option<f64>,
}

impl Measurement {
    /// Peak memory of the process with the most. A single process has its own.
    pub(crate) fn memory_of_process(&self) -> Option<f64> {
        self.among.rank_rss_mb.or(self.peak_rss_mb)
    }

    /// Parses the line from the output of a program. Other lines that are no JSON objects are ignored.
    pub(crate) fn parse(stdout: &str) -> Result<Self> {
        let lines: Vec<&str> =
            stdout.lines().filter(|line| line.trim_start().starts_with('{')).collect();
        let [line] = lines[..] else {
            let end = stdout.trim().lines().last().unwrap_or("nothing");
            bail!("expected one line of JSON, got {}; the last line is: {end}", lines.len());
        };

        let value: Value =
            serde_json::from_str(line).with_context(|| format!("expected JSON, got {line}"))?;

        Ok(Self {
            peer: value["peer"].as_str().context("expected a text for 'peer'")?.to_owned(),
            params: value["params"].as_u64().context("expected a whole number for 'params'")?,
            step_ms_median: positive(&value, "step_ms_median")?,
            tokens_per_s: positive(&value, "tokens_per_s")?,
            peak_rss_mb: match value.get("peak_rss_mb") {
                Some(Value::Null) => None,
                _ => Some(positive(&value, "peak_rss_mb")?),
            },
            loss: positive(&value, "loss")?,
            among: Among {
                processes: optional(&value, "processes", 1.0..=f64::MAX)?.map(|count| count as u64),
                exchange_share: optional(&value, "exchange_share", 0.0..=1.0)?,
                bytes_per_step: optional(&value, "bytes_per_step", 0.0..=f64::MAX)?,
                rank_rss_mb: optional(&value, "rank_rss_mb", 0.0..=f64::MAX)?,
            },
            line: value,
        })
    }
}

fn positive(value: &Value, key: &str) -> Result<f64> {
    let got = value.get(key).with_context(|| format!("expected the key '{key}', got {value}"))?;
    let number =
        got.as_f64().with_context(|| format!("expected a number for '{key}', got {got}"))?;
    ensure!(number > 0.0, "expected a number above zero for '{key}', got {number}");
    Ok(number)
}

/// A number that need not be there.
fn optional(value: &Value, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
    let got = match value.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(got) => got,
    };

    let number = got.as_f64().filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    ensure!(number.is_some(), "expected a number from {least} to {most:e} for '{key}', got {got}");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line() -> Value {
        json!({ "peer": "dlt", "params": 7, "step_ms_median": 2.5, "tokens_per_s": 8.0, "peak_rss_mb": 3,
                "loss": 10.8, "mean_rss_mb": 2.0 })
    }

    #[test]
    fn the_line_is_found_among_others() {
        let measurement = Measurement::parse(&format!("a warning\n  {}\nbye\n", line())).unwrap();
        assert_eq!((measurement.params, measurement.step_ms_median), (7, 2.5));
        assert_eq!((measurement.tokens_per_s, measurement.peak_rss_mb), (8.0, Some(3.0)));
        assert_eq!(measurement.line["mean_rss_mb"], 2.0);
    }

    #[test]
    fn a_system_that_does_not_report_its_memory_is_no_failure() {
        let mut line = line();
        line["peak_rss_mb"] = Value::Null;
        assert_eq!(Measurement::parse(&line.to_string()).unwrap().peak_rss_mb, None);
    }

    #[test]
    fn figures_of_several_processes_need_not_be_there() {
        let one = Measurement::parse(&line().to_string()).unwrap();
        assert_eq!((one.among, one.memory_of_process()), (Among::default(), Some(3.0)));

        let mut line = line();
        line["processes"] = json!(2);
        line["exchange_share"] = json!(0.25);
        line["rank_rss_mb"] = json!(5);
        let two = Measurement::parse(&line.to_string()).unwrap();
        assert_eq!((two.among.processes, two.among.exchange_share), (Some(2), Some(0.25)));
        assert_eq!((two.among.bytes_per_step, two.memory_of_process()), (None, Some(5.0)));
    }

    #[test]
    fn rejects_an_answer_without_any_of_the_keys() {
        for key in ["peer", "params", "step_ms_median", "tokens_per_s", "peak_rss_mb", "loss"] {
            let mut line = line();
            line.as_object_mut().unwrap().remove(key);

            let error = Measurement::parse(&line.to_string()).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn rejects_figures_that_cannot_be() {
        for (key, value) in [
            ("loss", Value::Null),
            ("tokens_per_s", json!(0)),
            ("params", json!(-1)),
            ("processes", json!(0)),
            ("exchange_share", json!(1.5)),
            ("rank_rss_mb", json!("many")),
        ] {
            let mut line = line();
            line[key] = value;

            let error = Measurement::parse(&line.to_string()).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn rejects_garbage_and_two_answers() {
        for stdout in ["", "no JSON\n", "{ half", &format!("{0}\n{0}\n", line())] {
            assert!(Measurement::parse(stdout).is_err(), "{stdout}");
        }
        let error = Measurement::parse("Traceback\nlast words\n").unwrap_err().to_string();
        assert_eq!(error, "expected one line of JSON, got 0; the last line is: last words");
    }
}
