//! The outcomes of the cells, as they are kept with the tables that are made from them: one line of
//! JSON per cell.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dlt_spec::record::{Provenance, Summary};
use serde::{Deserialize, Serialize};

use crate::basis::Settings;
use crate::cell::{Cell, CellId, Job};
use crate::child::portable;
use crate::program::{self, replace};
use crate::store::{ByName, CellStatus, Store};
use crate::subject::Subject;

/// Layout of a [`Record`].
const RECORD_SCHEMA: u32 = 1;

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) cell: String,
    /// Arguments of `dlt`, with data sets and other cells by name. Empty while they are not known.
    pub(crate) arguments: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// The outcome of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Done(Box<Done>),
    /// The predicted memory of each state.
    Predicted(Vec<Predicted>),
    Failed {
        reason: String,
        log: String,
    },
    /// It was not run, or has not finished.
    Open,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    pub(crate) provenance: Provenance,
    /// The settings that its figures depend on, for a `dlt train`.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub(crate) settings: Settings,
    pub(crate) decisions: usize,
    pub(crate) tied_events: usize,
    pub(crate) untied_events: usize,
    /// Owners of the last state.
    pub(crate) state: Vec<usize>,
    /// The validation perplexity after the last step, as a multiple of the best during training. Only
    /// for the study of our method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_to_best: Option<f64>,
}

/// A state whose memory was predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Predicted {
    pub(crate) state: String,
    /// Memory at the peak.
    pub(crate) peak_bytes: u64,
    /// Memory of weights, gradients and moments.
    pub(crate) state_bytes: u64,
}

/// The records of a scale, by cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Records(BTreeMap<String, Record>);

impl Records {
    /// The records of these cells in a store.
    pub(crate) fn of_store(store: &Store, cells: &[Cell]) -> Result<Self> {
        let mut records = Self::default();
        for cell in cells {
            let outcome = outcome(store, cell).with_context(|| format!("{}", cell.id))?;
            let record = Record {
                schema: RECORD_SCHEMA,
                cell: cell.id.to_string(),
                arguments: cell.arguments(&ByName(store)).unwrap_or_default(),
                outcome,
            };

            records.0.insert(record.cell.clone(), record);
        }

        Ok(records)
    }

    /// Reads a file of records.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = program::read(path)?;
        let mut records = Self::default();

        for (index, line) in text.lines().enumerate() {
            let at = || format!("{}: line {}", path.display(), index + 1);
            let record: Record = serde_json::from_str(line).with_context(at)?;
            let got = record.schema;

            ensure!(got == RECORD_SCHEMA, "{}: expected layout {RECORD_SCHEMA}, got {got}", at());
            records.0.insert(record.cell.clone(), record);
        }

        Ok(records)
    }

    /// Writes the records, without cells that have no outcome.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        for record in self.0.values().filter(|record| record.outcome != Outcome::Open) {
            text += &serde_json::to_string(record).context("a record")?;
            text.push('\n');
        }

        replace(path, text)
    }

    /// These records, and those of `older` for cells that have no outcome here.
    pub(crate) fn over(mut self, older: Self) -> Self {
        for (cell, record) in older.0 {
            match self.0.get(&cell) {
                Some(newer) if newer.outcome != Outcome::Open => {}
                _ => drop(self.0.insert(cell, record)),
            }
        }

        self
    }

    /// All records, sorted by the names of their cells.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> {
        self.0.values()
    }

    pub(crate) fn get(&self, cell: &CellId) -> Option<&Record> {
        self.0.get(cell.as_str())
    }
}

fn outcome(store: &Store, cell: &Cell) -> Result<Outcome> {
    let log = || portable(&store.log(&cell.id).display().to_string());

    Ok(match store.status(cell) {
        CellStatus::Failed { reason } | CellStatus::Damaged { reason } => {
            Outcome::Failed { reason: portable_words(&reason), log: log() }
        }
        CellStatus::Done => match cell.job {
            Job::Predict { .. } => Outcome::Predicted(store.predictions(&cell.id)?),
            Job::Train { .. } => {
                let settings = store.settings(&cell.id)?;
                let done = Done { settings, ..done(store, &cell.id)? };
                let last_to_best = match cell.subject {
                    Subject::Method => store.last_to_best(&cell.id)?,
                    _ => None,
                };

                Outcome::Done(Box::new(Done { last_to_best, ..done }))
            }
            Job::Finetune { .. } => Outcome::Done(Box::new(done(store, &cell.id)?)),
        },
        _ => Outcome::Open,
    })
}

fn done(store: &Store, id: &CellId) -> Result<Done> {
    let summary = store.summary(id)?.context("the run has no summary")?;
    let recording = store.recording(id)?;
    let mut provenance = store.provenance(id)?;

    without_machine(&mut provenance);
    let events = recording.event_counts();

    Ok(Done {
        state: recording.state_at(summary.steps).owners().to_vec(),
        decisions: recording.rows().len(),
        tied_events: events.tied,
        untied_events: events.untied,
        summary,
        provenance,
        settings: Settings::new(),
        last_to_best: None,
    })
}

/// Removes folders from paths, because folders are those of one machine.
pub(crate) fn without_machine(provenance: &mut Provenance) {
    let resumed = provenance.resumed.iter_mut().map(|resumed| &mut resumed.command_line);
    for words in resumed.chain([&mut provenance.command_line]) {
        words.iter_mut().for_each(|word| *word = without_folders(word));
    }

    let data = &mut provenance.data;
    for path in [&mut data.source, &mut data.tokenizer] {
        *path = without_folders(path);
    }
}

/// A word of a command line, with each path reduced to its last part.
pub(crate) fn without_folders(word: &str) -> String {
    match word.split_once('=') {
        Some((key, value)) if !value.starts_with('[') => {
            format!("{key}={}", without_folders(value))
        }
        _ if Path::new(word).is_absolute() || word.starts_with("..") => portable_name(word),
        _ => word.to_owned(),
    }
}

/// A sentence, with each absolute path reduced to its last part.
fn portable_words(sentence: &str) -> String {
    let of_path = |letter: char| !letter.is_whitespace() && !"\"'`,;:()".contains(letter);
    let mut text = String::new();
    let mut rest = sentence;

    while !rest.is_empty() {
        let word = rest.find(|letter| !of_path(letter)).map_or(rest, |end| &rest[..end]);
        let between = &rest[word.len()..];
        let between = between.find(of_path).map_or(between, |end| &between[..end]);

        text += &if Path::new(word).is_absolute() { portable_name(word) } else { word.to_owned() };
        text += between;
        rest = &rest[word.len() + between.len()..];
    }

    text
}

fn portable_name(path: &str) -> String {
    Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_record_names_no_folder_of_this_machine() {
        for (word, expected) in [
            ("--data", "--data"),
            ("/a/b/wiki", "wiki"),
            ("../shared/wiki", "wiki"),
            ("agent.recording=/x/shakespeare/full-1", "agent.recording=full-1"),
            ("tying.initial=[0, 0]", "tying.initial=[0, 0]"),
            ("runs/study/laptop/shakespeare/i-1", "runs/study/laptop/shakespeare/i-1"),
        ] {
            assert_eq!(without_folders(word), expected);
        }

        let sentence = portable_words("damaged: /a/b/c.json: no `x/y`, 1 / 2; move \"/a/b\" away");
        assert_eq!(sentence, "damaged: c.json: no `x/y`, 1 / 2; move \"b\" away");
    }

    #[test]
    fn newer_records_replace_older_ones_unless_they_have_no_outcome() {
        let record = |cell: &str, outcome| Record {
            schema: 1,
            cell: cell.into(),
            arguments: vec![],
            outcome,
        };

        let failed = |reason: &str| Outcome::Failed { reason: reason.into(), log: String::new() };
        let of = |records: Vec<Record>| {
            Records(records.into_iter().map(|one| (one.cell.clone(), one)).collect())
        };
        let old = of(vec![record("a", failed("old")), record("b", failed("old"))]);
        let new = of(vec![record("a", failed("new")), record("b", Outcome::Open)]);

        let both = new.over(old);
        let reasons: Vec<_> = both.0.values().map(|one| &one.outcome).collect();
        assert_eq!(reasons, [&failed("new"), &failed("old")]);
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.jsonl");
        let outcome = Outcome::Predicted(vec![Predicted {
            state: "s".into(),
            peak_bytes: 3,
            state_bytes: 2,
        }]);

        let record =
            Record { schema: 1, cell: "a/b-1".into(), arguments: vec!["train".into()], outcome };
        let records = Records([("a/b-1".to_owned(), record)].into());
        records.write(&path).unwrap();
        assert_eq!(Records::read(&path).unwrap(), records);
        fs::write(&path, "{\"schema\":2}\n").unwrap();
        assert!(format!("{:#}", Records::read(&path).unwrap_err()).contains("line 1"));
    }
}
