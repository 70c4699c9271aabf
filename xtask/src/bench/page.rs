//! The results, as Markdown for people and as JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write;

use dlt_study::spread::Spread;
use dlt_study::table::{Table, grouped};
use serde_json::{Value, json};

use super::comparison::{Ratio, ratio};
use super::grid::{Program, Shape};
use super::measurement::Measurement;
use super::rounds::Measured;
use crate::provenance::Provenance;

/// Version of the JSON file. It rises when a key is removed or changes its meaning.
const JSON_VERSION: u64 = 1;

/// The heading above the results.
#[derive(Debug)]
pub(crate) struct Heading {
    pub(crate) provenance: Provenance,
    /// The command line as typed.
    pub(crate) command: String,
    pub(crate) rounds: usize,
    /// `Python ..., PyTorch ...`, if the peer took part.
    pub(crate) peer: Option<String>,
}

impl Heading {
    /// The lines below a page's title.
    pub(crate) fn paragraphs(&self) -> String {
        let peer = self.peer.as_ref().map_or(String::new(), |peer| format!(" {peer}."));
        format!(
            "{}{peer} Rounds: {}.\n\nWritten by:\n\n```sh\n{}\n```\n",
            self.provenance.sentences(),
            self.rounds,
            self.command
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "version": JSON_VERSION, "command": self.command, "rounds": self.rounds, "peer": self.peer,
                "host": self.provenance.json() })
    }
}

/// The whole page.
pub(crate) fn markdown(heading: &Heading, measured: &[Measured]) -> String {
    let mut page = format!(
        "# A training step, compared with PyTorch\n\n\
         A step is forward, loss, backward, clipping and AdamW, on random tokens. Figures are medians \
         over rounds, with\ntheir range. The sides of a workload ran in turn, round by round, each in \
         its own process. A ratio is the ratio of\nthe medians; its range is that of the ratios within \
         a round. Memory is the most that a process had resident, in\nunits of 1024 KiB. Parameters \
         are counted once, however many layers use them.\n\n{}",
        heading.paragraphs()
    );

    for measured in measured {
        page += &section(measured);
    }

    page
}

/// The tables of one workload, and its failures.
pub(crate) fn section(measured: &Measured) -> String {
    let Shape { layers, width, heads, tokens, batch, vocabulary } = measured.workload.shape;
    let mut text = format!(
        "\n## {}\n\n{layers} layers of width {width}, {heads} heads, T = {tokens}, B = {batch}, V = {}.\n\n",
        measured.workload.name,
        grouped(vocabulary as u64)
    );
    text += &sides(measured).to_string();

    if let Some(engines) = engines(measured) {
        text += &format!("\nOurs multiplied bf16 matrices by {engines}.\n");
    }

    if !measured.workload.comparisons.is_empty() {
        text += &format!("\n{}", comparisons(measured));
    }

    for (side, outcomes) in measured.workload.sides.iter().zip(&measured.outcomes) {
        for (failure, round) in outcomes
            .iter()
            .zip(1..)
            .filter_map(|(outcome, round)| Some((outcome.as_ref().err()?, round)))
        {
            text +=
                &format!("\nFAILED: {}, round {round}:\n\n```text\n{failure}\n```\n", side.name);
        }
    }

    text += "\n```sh\n";
    for line in &measured.command_lines {
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    }

    text + "```\n"
}

/// What multiplied bf16 matrices, in the words of our sides with bf16 activations; `None` if no side
/// has them.
fn engines(measured: &Measured) -> Option<String> {
    let sides = measured.workload.sides.iter().enumerate();
    let engines: BTreeSet<&str> = sides
        .filter(|(_, side)| side.program == Program::Dlt && side.is_bf16())
        .flat_map(|(index, _)| measured.measurements(index))
        .filter_map(|measurement| measurement.line["product_engine"].as_str())
        .collect();

    let engines: Vec<&str> = engines.into_iter().collect();
    (!engines.is_empty()).then(|| engines.join(" and "))
}

fn sides(measured: &Measured) -> Table {
    let mut table = Table::new(&[
        "side",
        "step, ms",
        "tokens/s",
        "peak memory, MB",
        "parameters",
        "loss",
        "runs",
    ]);

    for (index, side) in measured.workload.sides.iter().enumerate() {
        let spread = |figure: fn(&Measurement) -> Option<f64>, decimals: usize| {
            let spread = Spread::of(measured.measurements(index).filter_map(figure));
            spread.map_or("-".to_owned(), |spread| format!("{spread:.decimals$}"))
        };

        let runs = measured.outcomes[index].len();
        let passed = measured.measurements(index).count();
        let last = measured.measurements(index).last();

        if passed == 0 {
            table.push([side.name.to_owned(), format!("**FAILED** {runs} of {runs}")]);
            continue;
        }

        table.push([
            side.name.to_owned(),
            spread(|measurement| Some(measurement.step_ms_median), 1),
            spread(|measurement| Some(measurement.tokens_per_s), 0),
            spread(|measurement| measurement.peak_rss_mb, 0),
            last.map_or(String::new(), |measurement| grouped(measurement.params)),
            last.map_or(String::new(), |measurement| format!("{:.4}", measurement.loss)),
            if passed < runs {
                format!("**FAILED** {} of {runs}", runs - passed)
            } else {
                runs.to_string()
            },
        ]);
    }

    table
}

fn comparisons(measured: &Measured) -> Table {
    let mut table = Table::new(&["ratio", "of", "to", "is", "must be", ""]);
    for comparison in &measured.workload.comparisons {
        let names = [
            comparison.measure.to_string(),
            comparison.side.to_owned(),
            comparison.against.to_owned(),
        ];
        let must = comparison.target.to_string();

        let (is, verdict) = match ratio(measured, comparison) {
            Some(Ratio { spread, verdict }) => (format!("{spread:.2}"), verdict.to_string()),
            None => ("-".to_owned(), "not judged: a side FAILED".to_owned()),
        };

        table.push(names.into_iter().chain([is, must, verdict]));
    }

    table
}

/// Everything that was measured, each run as its program printed it.
pub(crate) fn json(heading: &Heading, measured: &[Measured]) -> Value {
    let mut value = heading.json();
    value["workloads"] = measured.iter().map(workload_json).collect();
    value
}

fn workload_json(measured: &Measured) -> Value {
    let runs = |side: usize| -> Value {
        let run = |outcome: &super::rounds::Outcome| match outcome {
            Ok(measurement) => measurement.line.clone(),
            Err(failure) => json!({ "failed": failure.reason, "diagnostics": failure.diagnostics }),
        };

        measured.outcomes[side].iter().map(run).collect()
    };

    let sides = measured.workload.sides.iter().enumerate().map(|(index, side)| {
        json!({ "name": side.name, "command": measured.command_lines[index], "runs": runs(index) })
    });
    let comparisons = measured.workload.comparisons.iter().map(|comparison| {
        let ratio = ratio(measured, comparison);
        let target = comparison.target.json();

        json!({
            "measure": comparison.measure.to_string(), "side": comparison.side, "against": comparison.against,
            "ratio": ratio.as_ref().map(|ratio| ratio.spread.median),
            "least": ratio.as_ref().map(|ratio| ratio.spread.least),
            "most": ratio.as_ref().map(|ratio| ratio.spread.most),
            "at_least": target["at_least"], "at_most": target["at_most"], "aim": target["aim"],
            "verdict": ratio.as_ref().map(|ratio| format!("{:?}", ratio.verdict)),
        })
    });

    json!({ "name": measured.workload.name, "sides": sides.collect::<Value>(), "comparisons": comparisons.collect::<Value>() })
}

#[cfg(test)]
mod tests {
    use super::super::comparison::tests::{measured, run};
    use super::*;
    use dlt_study::child::Failure;

    #[test]
    fn a_section_shows_medians_ranges_ratios_and_targets() {
        let section = section(&measured(
            vec![run(5_000, 30.0, 10.0), run(5_000, 40.0, 10.0)],
            vec![run(5_000, 20.0, 40.0), run(5_000, 25.0, 40.0)],
        ));

        for line in [
            "6 layers of width 768, 12 heads, T = 128, B = 16, V = 50,257.",
            "| dlt none | 29.2 (25.0 to 33.3) | 35 (30 to 40) | 10 | 5,000 | 10.0000 | 2 |",
            "| tokens/s | dlt none | pytorch eager none | 1.56 (1.50 to 1.60) | at least 1.50 | met |",
            "| peak memory | dlt none | pytorch eager none | 0.25 |  |  |",
        ] {
            assert!(section.contains(line), "no {line} in\n{section}");
        }

        assert!(!section.contains("mean_rss_mb") && !section.contains("FAILED"), "{section}");
    }

    #[test]
    fn a_failure_stays_in_the_table_with_its_diagnostics() {
        let failure =
            Failure { reason: "exit code 1".to_owned(), diagnostics: "out of memory".to_owned() };
        let measured = measured(
            vec![run(5, 30.0, 10.0), Err(failure.clone())],
            vec![Err(failure.clone()), Err(failure)],
        );

        let section = section(&measured);

        for text in [
            "| 10.0000 | **FAILED** 1 of 2 |",
            "| pytorch eager none | **FAILED** 2 of 2 |",
            "| tokens/s | dlt none | pytorch eager none | - | at least 1.50 | not judged: a side FAILED |",
            "FAILED: dlt none, round 2:\n\n```text\nexit code 1\n    out of memory\n```",
        ] {
            assert!(section.contains(text), "no {text} in\n{section}");
        }
    }
}
