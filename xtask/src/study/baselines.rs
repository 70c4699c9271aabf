//! The baselines that the main job prints when it ends: its own runs and those of other methods, from the records of Table 4.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dlt_spec::baseline::Baseline;
use dlt_spec::{Spec, fields, presets};

use super::basis;
use super::cell::{CellId, Plan};
use super::grid::seeds;
use super::record::{Done, Outcome, Record, Records};
use super::row::Row;
use super::subject::Subject;

/// The rows, with what they are beside the preset's own runs.
const ROWS: [(Row, &str); 5] = [
    (Row::Conventional, "conventional training"),
    (Row::Short, "this preset"),
    (Row::ShortRandom, "random policy"),
    (Row::ShortOneBlock, "one block for all layers"),
    (Row::Full, "the paper's schedule at this learning rate"),
];

/// Where they are in the repository; the program is built with them.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("data").join("baselines").join("recorded.json")
}

/// The file, of all rows that have been run.
pub(crate) fn text(records: &Records, plan: Plan<'_>) -> Result<String> {
    let mut baselines = Vec::new();
    for (row, label) in ROWS {
        for seed in seeds(Subject::Shakespeare, row, plan) {
            let Some(record) = records.get(&CellId::new(Subject::Shakespeare, row, seed)) else { continue };
            if let Outcome::Done(done) = &record.outcome {
                baselines.push(baseline(record, done, label).with_context(|| record.cell.clone())?);
            }
        }
    }
    Ok(serde_json::to_string_pretty(&baselines)? + "\n")
}

fn baseline(record: &Record, done: &Done, label: &str) -> Result<Baseline> {
    let summary = &done.summary;
    Ok(Baseline {
        preset: presets::DEFAULT_PRESET.to_owned(),
        label: label.to_owned(),
        command: command(&record.arguments)?,
        seed: summary.seed,
        steps: summary.steps,
        validation_perplexity: rounded(summary.validation_perplexity),
        test_perplexity: rounded(summary.test_perplexity.context("its data have no test split")?),
        block_parameters_mean: summary.block_parameters_mean,
    })
}

/// As much of a perplexity as is printed, and one digit more.
fn rounded(perplexity: f64) -> f64 {
    (perplexity * 1000.0).round() / 1000.0
}

/// The shorter of two commands for the same run: as it was recorded, or what it changes of the preset. Neither has the seed,
/// nor settings that no figure depends on.
fn command(arguments: &[String]) -> Result<String> {
    let spec = basis::spec(arguments)?;
    let preset = presets::preset(presets::DEFAULT_PRESET)?.spec()?;
    let changed = settings(&preset, &spec);
    let over_preset: Vec<String> = changed.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect();
    let recorded: Vec<String> =
        arguments[1..].chunks(2).filter(|pair| is_said(pair)).flatten().cloned().collect();
    let length = |words: &[String]| words.iter().map(|word| word.len() + 1).sum::<usize>();
    let words = if length(&over_preset) <= length(&recorded) { over_preset } else { recorded };
    Ok([vec!["dlt".to_owned(), "train".to_owned()], words].concat().join(" "))
}

/// Whether an option of a recorded command is repeated.
fn is_said(option: &[String]) -> bool {
    let is_free = |value: &String| value.split('=').next().is_some_and(|key| !basis::counts(key));
    match option {
        [name, _] if name == "--seed" => false,
        [name, preset] if name == "--preset" => preset != presets::DEFAULT_PRESET,
        [name, value] if name == "--set" => !is_free(value),
        _ => true,
    }
}

/// What a spec sets otherwise than a preset, as values of `--set`.
fn settings(preset: &Spec, spec: &Spec) -> Vec<String> {
    let pairs = fields::flatten(preset).into_iter().zip(fields::flatten(spec));
    let changed = pairs.filter(|((key, then), (_, now))| *key != "seed" && basis::counts(key) && then != now);
    changed.map(|(_, (key, value))| format!("{key}={}", value.to_string().trim_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::grid;
    use crate::study::results::{self, CELLS};
    use crate::study::scale::Scale;

    #[test]
    fn law_a_baselines_command_gives_the_spec_that_was_recorded() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let records = Records::read(&results::folder(root, Scale::Laptop).join(CELLS)).unwrap();
        let plan = Plan { scale: Scale::Laptop, seeds: None };
        let baselines: Vec<Baseline> = serde_json::from_str(&text(&records, plan).unwrap()).unwrap();
        assert!(baselines.len() > ROWS.len(), "{baselines:?}");
        for baseline in baselines {
            let row = ROWS.iter().find(|(_, label)| *label == baseline.label).unwrap().0;
            let cell = grid::place(Subject::Shakespeare, row, baseline.seed, Scale::Laptop).cell().unwrap();
            let Outcome::Done(done) = &records.get(&cell.id).unwrap().outcome else { panic!("{}", cell.id) };
            let mut words: Vec<String> = baseline.command.split(' ').skip(1).map(str::to_owned).collect();
            let more = ["--preset", presets::DEFAULT_PRESET, "--seed"].map(str::to_owned);
            words.splice(1..1, more.into_iter().chain([baseline.seed.to_string()]));
            let now = basis::of_arguments(&words).unwrap();
            assert_eq!(basis::differences(&done.settings, &now), Vec::<String>::new(), "{}", cell.id);
        }
    }

    #[test]
    fn a_command_is_said_the_shorter_way_and_without_what_no_figure_depends_on() {
        let said = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            command(&words).unwrap()
        };
        let recorded = "train --preset shakespeare-12 --set checkpoint.every_minutes=2.0 --set agent.policy=random --seed 2";
        assert_eq!(said(recorded), "dlt train --set agent.policy=random");
        let paper = "train --preset shakespeare-12 --method paper --set agent.policy=none --seed 2";
        assert_eq!(said(paper), "dlt train --method paper --set agent.policy=none");
        assert_eq!(said("train --preset shakespeare-12 --seed 1"), "dlt train");
    }
}
