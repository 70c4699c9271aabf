//! The baselines that the main job prints when it ends: its own runs and those of other methods.
//! They are records of the study of our method, each row at its best learning rate. While that study
//! has no run of the main job, they are records of Table 4.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dlt_spec::baseline::Baseline;
use dlt_spec::{Spec, fields, presets};

use crate::basis;
use crate::cell::{CellId, Plan};
use crate::grid::seeds;
use crate::method::choice::{Choice, Chosen};
use crate::method::{Point, What};
use crate::record::{Done, Outcome, Record, Records};
use crate::row::Row;
use crate::subject::Subject;
use crate::view::View;

/// Rows of Table 4 with their labels. They are the baselines while the study of our method has no
/// run of the main job.
const ROWS: [(Row, &str); 5] = [
    (Row::Conventional, "conventional training"),
    (Row::Short, "the method short"),
    (Row::ShortRandom, "the method short, random policy"),
    (Row::ShortOneBlock, "one block for all layers"),
    (Row::Full, "the paper's schedule at this learning rate"),
];
const THIS_PRESET: &str = "this preset";

/// The rows that the main job is compared with, each with its label.
fn baseline_rows(records: &Records, plan: Plan<'_>) -> Vec<(Subject, Row, String)> {
    let chosen = Chosen::of(&View { records, plan });
    if chosen.of_row(What::MainJob).is_none() {
        return ROWS.map(|(row, label)| (Subject::Shakespeare, row, label.to_owned())).into();
    }

    let of_choice = |choice: &Choice<'_>, label: &str| {
        let point = Point { what: choice.what, pace: choice.pace };
        (Subject::Method, Row::Method(point), label.to_owned())
    };
    let of_row = |what: What, label: &str| Some(of_choice(chosen.of_row(what)?, label));
    let fixed = chosen
        .best_fixed(f64::INFINITY)
        .map(|best| of_choice(best, &format!("best fixed sharing ({})", best.what.name())));

    [
        of_row(What::Conventional, "conventional training"),
        of_row(What::MainJob, THIS_PRESET),
        of_row(What::MainJobRandom, "random policy"),
        fixed,
        of_row(What::Paper, "the paper's method"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The file of the baselines in the repository. `dlt` is built with it.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("data").join("baselines").join("recorded.json")
}

/// The text of that file, with all rows that have been run.
pub(crate) fn text(records: &Records, plan: Plan<'_>) -> Result<String> {
    let mut baselines = Vec::new();
    for (subject, row, label) in baseline_rows(records, plan) {
        for seed in seeds(subject, row, plan) {
            let Some(record) = records.get(&CellId::new(subject, row, seed)) else { continue };
            if let Outcome::Done(done) = &record.outcome {
                baselines
                    .push(baseline(record, done, &label).with_context(|| record.cell.clone())?);
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
        test_perplexity: rounded(
            summary
                .test_perplexity
                .context("expected a test perplexity, but its data have no test split")?,
        ),
        block_parameters_mean: summary.block_parameters_mean,
    })
}

/// A perplexity with one digit more than is printed.
fn rounded(perplexity: f64) -> f64 {
    (perplexity * 1000.0).round() / 1000.0
}

/// The shortest command for the same run: as recorded, or as changes to the preset, with or without
/// a method. The seed and settings that no figure depends on are left out.
fn command(arguments: &[String]) -> Result<String> {
    let spec = basis::spec(arguments)?;
    let preset = presets::preset(presets::DEFAULT_PRESET)?;
    let recorded =
        arguments[1..].chunks(2).filter(|pair| is_said(pair)).flatten().cloned().collect();
    let mut commands: Vec<Vec<String>> = vec![over(&preset.spec()?, &spec), recorded];

    for method in presets::METHODS {
        // Some methods do not fit the preset's model, so they are no way to write this command.
        let Ok(ground) = Spec::assemble(&[preset.overlay()?, method.overlay()?]) else { continue };
        let named = ["--method", method.name()].map(str::to_owned);
        commands.push([named.to_vec(), over(&ground, &spec)].concat());
    }

    let length = |words: &Vec<String>| words.iter().map(|word| word.len() + 1).sum::<usize>();
    let shortest = commands.into_iter().min_by_key(length).unwrap_or_default();
    Ok([vec!["dlt".to_owned(), "train".to_owned()], shortest].concat().join(" "))
}

/// The options that turn one spec into another.
fn over(ground: &Spec, spec: &Spec) -> Vec<String> {
    settings(ground, spec).into_iter().flat_map(|set| ["--set".to_owned(), set]).collect()
}

/// Whether an option of a recorded command is part of the baseline's command.
fn is_said(option: &[String]) -> bool {
    let is_free = |value: &String| value.split('=').next().is_some_and(|key| !basis::counts(key));
    match option {
        [name, _] if name == "--seed" => false,
        [name, preset] if name == "--preset" => preset != presets::DEFAULT_PRESET,
        [name, value] if name == "--set" => !is_free(value),
        _ => true,
    }
}

/// What a spec changes of a preset, as values of `--set`.
fn settings(preset: &Spec, spec: &Spec) -> Vec<String> {
    let pairs = fields::flatten(preset).into_iter().zip(fields::flatten(spec));
    let changed =
        pairs.filter(|((key, then), (_, now))| *key != "seed" && basis::counts(key) && then != now);

    changed
        .map(|(_, (key, value))| format!("{key}={}", value.to_string().trim_matches('"')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid;
    use crate::results::{self, CELLS};
    use crate::scale::Scale;

    #[test]
    fn law_a_baselines_command_gives_the_spec_that_was_recorded() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let records = Records::read(&results::folder(root, Scale::Laptop).join(CELLS)).unwrap();
        let plan = Plan { scale: Scale::Laptop, seeds: None };
        let baselines: Vec<Baseline> =
            serde_json::from_str(&text(&records, plan).unwrap()).unwrap();

        assert!(baselines.len() > ROWS.len(), "{baselines:?}");
        let baseline_rows = baseline_rows(&records, plan);

        for baseline in baselines {
            let found = baseline_rows.iter().find(|(.., label)| *label == baseline.label);
            let &(subject, row, _) = found.unwrap();
            let cell = grid::grid_entry(subject, row, baseline.seed, Scale::Laptop).cell().unwrap();
            let Outcome::Done(done) = &records.get(&cell.id).unwrap().outcome else {
                panic!("{}", cell.id)
            };

            let mut words: Vec<String> =
                baseline.command.split(' ').skip(1).map(str::to_owned).collect();
            let more = ["--preset", presets::DEFAULT_PRESET, "--seed"].map(str::to_owned);
            words.splice(1..1, more.into_iter().chain([baseline.seed.to_string()]));

            let now = basis::of_arguments(&words).unwrap();
            assert_eq!(
                basis::differences(&done.settings, &now),
                Vec::<String>::new(),
                "{}",
                cell.id
            );
        }
    }

    #[test]
    fn once_the_main_job_is_recorded_it_stands_beside_the_best_of_the_rows_of_our_method() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let kept =
            std::fs::read_to_string(results::folder(root, Scale::Laptop).join(CELLS)).unwrap();
        let line = |from: &str, to: &str, perplexity: f64| {
            let begins = format!("\"cell\":\"shakespeare/{from}-1\"");
            let line = kept.lines().find(|line| line.contains(&begins)).unwrap();
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();

            record["cell"] = format!("method/{to}-1").into();
            record["outcome"]["done"]["summary"]["validation_perplexity"] = perplexity.into();
            record.to_string()
        };

        let lines = [
            line("short", "main-job", 150.0),
            line("conventional", "conventional-1e-3", 180.0),
            line("conventional", "conventional-2e-3", 170.0),
            line("short-one-block", "one-block-1e-3", 165.0),
            line("vii", "cycle-4-1e-3", 175.0),
        ];

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CELLS);
        std::fs::write(&path, lines.join("\n")).unwrap();

        let records = Records::read(&path).unwrap();
        let plan = Plan { scale: Scale::Laptop, seeds: None };
        let baselines: Vec<Baseline> =
            serde_json::from_str(&text(&records, plan).unwrap()).unwrap();
        let said: Vec<_> =
            baselines.iter().map(|one| (one.label.as_str(), one.validation_perplexity)).collect();

        let expected = [
            ("conventional training", 170.0),
            ("this preset", 150.0),
            ("best fixed sharing (one-block)", 165.0),
        ];
        assert_eq!(said, expected);
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
