//! What the figures of a record depend on, and whether that has changed: the spec of the run, and
//! the revision of the program's draws and arithmetic. A changed preset, method, default or kernel
//! makes a record stale.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dlt_spec::record::FIGURES_REVISION;
use dlt_spec::{Origin, Overlay, Spec, fields, presets};

use crate::record::{Done, Outcome, Record};

/// Values of a spec by key, as a spec file prints them.
pub(crate) type Settings = BTreeMap<String, String>;

/// Keys that are not compared: keys that no figure depends on, and keys that hold a path of one
/// machine. The latter are compared as arguments.
const FREE: [&str; 6] =
    ["schema", "name", "data.source", "data.tokenizer", "model.start", "agent.recording"];
/// A section that no figure depends on.
const FREE_SECTION: &str = "checkpoint.";

/// Whether a changed value of the key makes a record stale.
pub(crate) fn counts(key: &str) -> bool {
    !FREE.contains(&key) && !key.starts_with(FREE_SECTION)
}

/// The settings of a run, from its spec file.
pub(crate) fn of_spec_file(text: &str) -> Result<Settings> {
    let overlay = Overlay::from_toml(Origin::File("spec.toml".to_owned()), text)?;
    let values = overlay.values().filter(|(key, _)| counts(key));
    Ok(values.map(|(key, value)| (key.to_owned(), value.to_string())).collect())
}

/// The settings that `dlt train` with these arguments has now.
pub(crate) fn of_arguments(arguments: &[String]) -> Result<Settings> {
    let spec = spec(arguments)?;
    let values = fields::flatten(&spec).into_iter().filter(|(key, _)| counts(key));
    Ok(values.map(|(key, value)| (key.to_owned(), value.to_string())).collect())
}

/// The spec that `dlt train` with these arguments has now. `--data` is ignored.
pub(crate) fn spec(arguments: &[String]) -> Result<Spec> {
    let [train, options @ ..] = arguments else {
        anyhow::bail!("expected arguments of dlt train, got none")
    };
    ensure!(train == "train", "expected arguments of dlt train, got those of dlt {train}");

    let mut grounds = Vec::new();
    let mut settings = Vec::new();

    for pair in options.chunks(2) {
        let [option, value] = pair else { anyhow::bail!("expected a value after {}", pair[0]) };
        match option.as_str() {
            "--preset" => grounds.push(presets::preset(value)?.overlay()?),
            "--method" => grounds.push(presets::method(value)?.overlay()?),
            "--set" => settings.push(Overlay::from_assignment(value)?),
            "--seed" => settings.push(Overlay::from_option("--seed", "seed", value)?),
            "--data" => {}
            other => {
                anyhow::bail!("expected --preset, --method, --data, --set or --seed, got {other}")
            }
        }
    }

    Spec::assemble(&[grounds, settings].concat()).context("a spec")
}

/// What has changed since a run was recorded, in words that follow the cell's name. Empty if nothing
/// has.
pub(crate) fn changes(record: &Record, done: &Done) -> Vec<String> {
    let mut changes = Vec::new();
    let revision = done.provenance.figures_revision();
    if revision != FIGURES_REVISION {
        changes.push(format!(
            "was recorded with revision {revision} of the program's figures, now {FIGURES_REVISION}"
        ));
    }

    if record.arguments.first().is_some_and(|command| command == "train") {
        match of_arguments(&record.arguments) {
            Ok(now) => changes.extend(differences(&done.settings, &now)),
            Err(error) => {
                changes.push(format!("has arguments that are not a valid spec now: {error:#}"))
            }
        }
    }

    changes
}

/// Runs on other data than the first run of their subject, in words. No table may compare them.
/// Cells are named `subject/row-seed`.
pub(crate) fn strangers<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<String> {
    let mut firsts: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut strangers = Vec::new();

    for record in records {
        let Outcome::Done(done) = &record.outcome else { continue };
        let subject = record.cell.split('/').next().unwrap_or_default();
        let own = (record.cell.as_str(), done.provenance.data.sha256.as_str());
        let (first, sha256) = *firsts.entry(subject).or_insert(own);

        if own.1 != sha256 {
            strangers.push(format!("{} has other data than {first}", record.cell));
        }
    }

    strangers
}

/// What differs, key by key. A key that the record lacks is not compared: its family of transformer
/// does not use it, or it is newer than the record. Its default must then mean what the program did
/// before; otherwise the revision of the figures has to rise.
pub(crate) fn differences(then: &Settings, now: &Settings) -> Vec<String> {
    let difference = |(key, value): (&String, &String)| match now.get(key) {
        Some(current) if current == value => None,
        Some(current) => Some(format!("was run with {key} = {value}, now {current}")),
        None => Some(format!("was run with {key} = {value}, a key that no longer exists")),
    };

    then.iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::Records;
    use crate::results::{self, CELLS};
    use crate::scale::Scale;

    fn recorded() -> Records {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        Records::read(&results::folder(root, Scale::Laptop).join(CELLS)).unwrap()
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_records_of_this_repository_say_what_their_figures_depend_on() {
        let trained =
            |record: &&Record| record.arguments.first().is_some_and(|command| command == "train");
        let records = recorded();
        let mut count = 0;

        for record in records.all().filter(trained) {
            let Outcome::Done(done) = &record.outcome else { continue };
            assert!(done.settings.len() > 60, "{}: {} settings", record.cell, done.settings.len());
            count += 1;
        }

        assert!(count > 90, "{count} records");
        assert_eq!(strangers(records.all()), Vec::<String>::new());
    }

    #[test]
    fn rejects_a_record_whose_preset_default_or_revision_has_changed() {
        let records = recorded();
        let record = records.all().find(|record| record.cell == "shakespeare/full-1").unwrap();
        let Outcome::Done(done) = &record.outcome else { panic!("it is recorded") };

        assert_eq!(changes(record, done), Vec::<String>::new());

        let mut other = (**done).clone();
        other.settings.insert("model.width".to_owned(), "256".to_owned());
        other.settings.insert("tying.gone".to_owned(), "true".to_owned());
        other.provenance.figures_revision = Some(FIGURES_REVISION + 1);

        let expected = [
            format!("was recorded with revision {} of the program's figures", FIGURES_REVISION + 1),
            "was run with model.width = 256, now 128".to_owned(),
            "was run with tying.gone = true, a key that no longer exists".to_owned(),
        ];
        let said = changes(record, &other);
        assert_eq!(said.len(), expected.len(), "{said:?}");

        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn rejects_runs_of_a_subject_on_different_data() {
        let text = std::fs::read_to_string("../../results/laptop/cells.jsonl").unwrap();
        let of_subject: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("\"cell\":\"shakespeare/vi"))
            .take(2)
            .collect();

        let mut records: Vec<Record> =
            of_subject.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(strangers(records.iter()), Vec::<String>::new());

        if let Outcome::Done(done) = &mut records[1].outcome {
            done.provenance.data.sha256 = "another".to_owned();
        }

        let said = format!("{} has other data than {}", records[1].cell, records[0].cell);
        assert_eq!(strangers(records.iter()), [said]);
    }

    #[test]
    fn settings_are_those_that_figures_depend_on() {
        let of = |text: &str| of_arguments(&words(text)).unwrap();
        let plain = of("train --preset smoke");
        assert_eq!(
            plain,
            of("train --preset smoke --data elsewhere --set name=x --set checkpoint.keep_last=5")
        );
        assert_ne!(plain, of("train --preset smoke --set tying.gradient=owner"));
        assert_ne!(plain, of("train --preset smoke --seed 2"));

        let spec = spec(&words("train --preset smoke")).unwrap();
        let shown = of_spec_file(&fields::render(&spec)).unwrap();
        assert!(!shown.contains_key("model.rotary_base"), "a GPT-2 has none");
        assert!(shown.contains_key("model.gelu") && differences(&shown, &plain).is_empty());

        // Files of earlier versions have the fields of every family.
        let lines = fields::flatten(&spec).into_iter();
        let every: String = lines.map(|(key, value)| format!("{key} = {value}\n")).collect();
        assert_eq!(of_spec_file(&every).unwrap(), plain);
    }

    #[test]
    fn rejects_arguments_that_are_no_training() {
        for (text, said) in [
            ("finetune a --task b", "got those of dlt finetune"),
            ("train --preset smoke --steps", "expected a value after --steps"),
            (
                "train --steps 3",
                "expected --preset, --method, --data, --set or --seed, got --steps",
            ),
            ("train --preset gone", "gone"),
        ] {
            let error = spec(&words(text)).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
