//! Where the runs of a study are, and the status of each.
//!
//! A cell `shakespeare/full-1` has, below the store's folder:
//!
//! | | |
//! |---|---|
//! | `shakespeare/full-1/` | the run folder |
//! | `shakespeare/full-1.cell.json` | a [`Note`]: the arguments that the run was started with, and how its last attempt ended |
//! | `shakespeare/full-1.lock` | locked while a process runs the cell: by the launcher, then by the `dlt` that it started |
//! | `shakespeare/full-1.log` | what `dlt` wrote |
//! | `shakespeare/full-1.memory.jsonl` | for a cell that only predicts memory: what `dlt inspect --memory --json` wrote |

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dlt_spec::record::{
    METRICS_FILE, MetricRow, PROVENANCE_FILE, Provenance, SPEC_FILE, STATES_FILE, SUMMARY_FILE,
    Split, Summary,
};
use dlt_state::{Recording, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::basis::{self, Settings};
use crate::cell::{Cell, CellId, Job, Known};
use crate::program::{make_folder, read, replace};
use crate::record::Predicted;

/// Layout of a [`Note`].
const NOTE_SCHEMA: u32 = 1;
/// The file that a process locks while it writes into a run folder.
const LOCK_FILE: &str = "lock";
/// A line of metrics that is an evaluation contains this.
const EVALUATION: &str = "\"kind\":\"evaluation\"";
/// Bytes at the end of a metrics file that are sure to hold a whole line of a step.
const TAIL: u64 = 1 << 16;

/// The folder of all runs of a scale, and the data sets on this machine by name.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
    sources: BTreeMap<String, String>,
}

/// What is stored next to a run folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    pub(crate) schema: u32,
    /// Arguments of `dlt`, with data sets and other cells by their names.
    pub(crate) arguments: Vec<String>,
    /// The arguments of the runs that this one follows, copied from their notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) needs: BTreeMap<String, Vec<String>>,
    /// How the last attempt failed; absent if it did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

/// The status of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CellStatus {
    /// Nothing exists yet.
    Missing,
    /// Runs that it needs have not finished.
    Waiting {
        on: Vec<CellId>,
    },
    /// Its run has started and has stopped after so many steps.
    Begun {
        step: usize,
    },
    /// A process is running it.
    Running {
        step: usize,
    },
    Done,
    Failed {
        reason: String,
    },
    /// The existing run has other settings than the grid has now, or follows a run that has.
    Stale,
    /// One of its files cannot be read, so a person has to decide what to do with it.
    Damaged {
        reason: String,
    },
}

impl Store {
    /// `sources` are the data sets on this machine, by name.
    pub(crate) fn new(root: impl Into<PathBuf>, sources: BTreeMap<String, String>) -> Self {
        Self { root: root.into(), sources }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run(&self, id: &CellId) -> PathBuf {
        self.root.join(id.as_str())
    }

    pub(crate) fn log(&self, id: &CellId) -> PathBuf {
        self.next_to(id, "log")
    }

    pub(crate) fn prediction(&self, id: &CellId) -> PathBuf {
        self.next_to(id, "memory.jsonl")
    }

    /// The path of a file next to a cell's run folder.
    fn next_to(&self, id: &CellId, ending: &str) -> PathBuf {
        self.root.join(format!("{id}.{ending}"))
    }

    /// The note of a cell, if the cell was ever started.
    pub(crate) fn note(&self, id: &CellId) -> Result<Option<Note>> {
        let path = self.note_path(id);
        let Some(note) = read_json::<Note>(&path)? else { return Ok(None) };
        let got = note.schema;

        ensure!(got == NOTE_SCHEMA, "{}: expected layout {NOTE_SCHEMA}, got {got}", path.display());

        Ok(Some(note))
    }

    fn note_path(&self, id: &CellId) -> PathBuf {
        self.next_to(id, "cell.json")
    }

    /// Notes the arguments that a run is started with.
    pub(crate) fn note_begun(&self, cell: &Cell, arguments: Vec<String>) -> Result<()> {
        let mut needs = BTreeMap::new();
        for need in cell.needs() {
            needs.extend(self.note(&need)?.map(|note| (need.to_string(), note.arguments)));
        }
        self.write_note(&cell.id, &Note { schema: NOTE_SCHEMA, arguments, needs, failure: None })
    }

    /// Notes how a run failed. A note that cannot be read is left as it is.
    pub(crate) fn note_failed(&self, cell: &Cell, why: String) -> Result<()> {
        let arguments = || cell.arguments(&ByName(self)).unwrap_or_default();
        let note = match self.note(&cell.id) {
            Ok(Some(note)) => Note { failure: Some(why), ..note },
            Ok(None) => Note {
                schema: NOTE_SCHEMA,
                arguments: arguments(),
                needs: BTreeMap::new(),
                failure: Some(why),
            },
            Err(_) => return Ok(()),
        };

        self.write_note(&cell.id, &note)
    }

    fn write_note(&self, id: &CellId, note: &Note) -> Result<()> {
        let path = self.note_path(id);
        make_parent(&path)?;
        replace(&path, format!("{}\n", serde_json::to_string_pretty(note)?))
    }

    /// The status of a cell.
    pub(crate) fn status(&self, cell: &Cell) -> CellStatus {
        if self.is_held(&cell.id) {
            CellStatus::Running { step: self.step(&cell.id) }
        } else {
            self.at_rest(cell)
        }
    }

    /// The cells that are not done. A cell whose predecessor runs again is not done: it has to be
    /// checked again after that, because the new run may end in another state.
    pub(crate) fn open<'c>(&self, cells: &'c [Cell]) -> Vec<&'c Cell> {
        let mut open: Vec<&Cell> = Vec::new();
        for cell in cells {
            let needs = cell.needs();
            let is_behind = open.iter().any(|other| needs.contains(&other.id));
            if is_behind || self.status(cell) != CellStatus::Done {
                open.push(cell);
            }
        }

        open
    }

    /// The status of a cell that no process runs, or that this process has claimed.
    pub(crate) fn at_rest(&self, cell: &Cell) -> CellStatus {
        let damaged = |error: &anyhow::Error, path: &Path| CellStatus::Damaged {
            reason: format!("damaged: {error:#}; move {} away to run it again", path.display()),
        };
        let note = match self.note(&cell.id) {
            Ok(note) => note,
            Err(error) => return damaged(&error, &self.note_path(&cell.id)),
        };

        let Some(arguments) = cell.arguments(&ByName(self)) else {
            let is_open = |need: &CellId| self.last_state(need).is_none();
            return CellStatus::Waiting { on: cell.needs().into_iter().filter(is_open).collect() };
        };

        match note {
            Some(note) if note.arguments != arguments || self.follows_another(&note, cell) => {
                CellStatus::Stale
            }
            Some(_) if self.has_ended(cell) => match self.read_all(cell) {
                Ok(()) => CellStatus::Done,
                Err(error) => damaged(&error, &self.result(cell)),
            },
            Some(Note { failure: Some(reason), .. }) => CellStatus::Failed { reason },
            Some(_) if self.has_begun(&cell.id) => CellStatus::Begun { step: self.step(&cell.id) },
            // A result without a note was not made by a study, so it must not be overwritten.
            None if self.result(cell).exists() => CellStatus::Stale,
            Some(_) | None => CellStatus::Missing,
        }
    }

    /// Whether a run that this one follows was run again since, with other settings.
    fn follows_another(&self, note: &Note, cell: &Cell) -> bool {
        let is_another = |need: &CellId| match (note.needs.get(need.as_str()), self.note(need)) {
            (Some(then), Ok(Some(now))) => *then != now.arguments,
            _ => false,
        };
        cell.needs().iter().any(is_another)
    }

    fn has_ended(&self, cell: &Cell) -> bool {
        match cell.job {
            Job::Predict { .. } => self.prediction(&cell.id).is_file(),
            _ => self.run(&cell.id).join(SUMMARY_FILE).is_file(),
        }
    }

    /// The folder or file that holds a cell's outcome.
    fn result(&self, cell: &Cell) -> PathBuf {
        match cell.job {
            Job::Predict { .. } => self.prediction(&cell.id),
            _ => self.run(&cell.id),
        }
    }

    /// Reads everything that the tables need from a cell that has ended.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged.
    fn read_all(&self, cell: &Cell) -> Result<()> {
        if let Job::Predict { .. } = cell.job {
            return self.predictions(&cell.id).map(drop);
        }
        if let Job::Train { .. } = cell.job {
            self.settings(&cell.id)?;
        }

        self.summary(&cell.id)?;
        self.recording(&cell.id)?;
        self.provenance(&cell.id).map(drop)
    }

    /// Whether the run can be resumed: all files that are written before step 0 exist.
    pub(crate) fn has_begun(&self, id: &CellId) -> bool {
        [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE]
            .iter()
            .all(|file| self.run(id).join(file).is_file())
    }

    /// Claims a cell for this process; `None` if another process has it.
    ///
    /// The lock belongs to the open file, so a child that inherits the file keeps the lock. A child
    /// that outlives its parent is therefore never run twice, not even before it has made its run
    /// folder.
    pub(crate) fn claim(&self, id: &CellId) -> Result<Option<File>> {
        let path = self.next_to(id, LOCK_FILE);
        make_parent(&path)?;

        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            // A file system without locks: here the user must not start two processes at once.
            Ok(()) | Err(TryLockError::Error(_)) => Some(file).filter(|_| !self.is_written(id)),
        })
    }

    /// Whether a process runs the cell: one that a launcher has started, or one that a person has
    /// started by hand.
    fn is_held(&self, id: &CellId) -> bool {
        is_locked(&self.next_to(id, LOCK_FILE)) || self.is_written(id)
    }

    /// Whether a process writes into the run folder.
    fn is_written(&self, id: &CellId) -> bool {
        is_locked(&self.run(id).join(LOCK_FILE))
    }

    /// The last step in the run's metrics; 0 if there is none.
    pub(crate) fn step(&self, id: &CellId) -> usize {
        let last = || -> Option<usize> {
            let mut file = File::open(self.run(id).join(METRICS_FILE)).ok()?;
            let length = file.metadata().ok()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;

            let mut tail = String::new();
            file.read_to_string(&mut tail).ok()?;
            tail.lines().rev().find_map(|line| match MetricRow::from_line(line) {
                Ok(MetricRow::Step(row)) => Some(row.step),
                _ => None,
            })
        };

        last().unwrap_or(0)
    }

    /// Renames an existing result to `...before-N`, so that nothing is lost. Returns the new path.
    pub(crate) fn set_aside(&self, cell: &Cell) -> Result<Option<PathBuf>> {
        let found = self.result(cell);
        if !found.exists() {
            return Ok(None);
        }

        let name = |number: usize| self.next_to(&cell.id, &format!("before-{number}"));
        let aside = (1..)
            .map(name)
            .find(|path| !path.exists())
            .context("found no free name for the old result")?;
        fs::rename(&found, &aside)
            .with_context(|| format!("cannot move {} to {}", found.display(), aside.display()))?;

        Ok(Some(aside))
    }

    /// The outcome of a finished run; `None` while it has not finished.
    pub(crate) fn summary(&self, id: &CellId) -> Result<Option<Summary>> {
        read_json(&self.run(id).join(SUMMARY_FILE))
    }

    /// The provenance of a run.
    pub(crate) fn provenance(&self, id: &CellId) -> Result<Provenance> {
        let path = self.run(id).join(PROVENANCE_FILE);
        read_json(&path)?.with_context(|| format!("{} does not exist", path.display()))
    }

    /// The settings in the spec file of a run.
    pub(crate) fn settings(&self, id: &CellId) -> Result<Settings> {
        basis::of_spec_file(&read(&self.run(id).join(SPEC_FILE))?)
    }

    /// The validation perplexity after the last step, as a multiple of the best one during training.
    /// It is above 1 if training continued past its best. Both are over the same windows.
    pub(crate) fn last_to_best(&self, id: &CellId) -> Result<Option<f64>> {
        let text = read(&self.run(id).join(METRICS_FILE))?;
        let perplexity = |line: &str| match MetricRow::from_line(line) {
            Ok(MetricRow::Evaluation(row)) if row.split == Split::Validation => {
                Some(row.perplexity)
            }
            _ => None,
        };

        let mut all: Vec<f64> =
            text.lines().filter(|line| line.contains(EVALUATION)).filter_map(perplexity).collect();

        // The last row is the kept model, which is evaluated after training. Counting it would make
        // every run end at its best.
        all.pop();
        let best = all.iter().copied().fold(f64::INFINITY, f64::min);

        Ok(all.last().map(|last| last / best))
    }

    /// What was predicted, for a cell that only predicts memory. At least one state.
    pub(crate) fn predictions(&self, id: &CellId) -> Result<Vec<Predicted>> {
        let path = self.prediction(id);
        let text = read(&path)?;
        let lines = text.lines().zip(1..).map(|(line, number)| {
            predicted(line).with_context(|| format!("{}: line {number}", path.display()))
        });

        let predictions: Vec<_> = lines.collect::<Result<_>>()?;
        let path = path.display();
        ensure!(!predictions.is_empty(), "{path}: expected one state per line, got nothing");

        Ok(predictions)
    }

    /// The decisions of a run.
    pub(crate) fn recording(&self, id: &CellId) -> Result<Recording> {
        let path = self.run(id).join(STATES_FILE);
        Recording::parse(&read(&path)?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }
}

/// Makes the folder of a file.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_folder)
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The contents of a JSON file; `None` if the file does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A line of `dlt inspect --memory --json`.
fn predicted(line: &str) -> Result<Predicted> {
    let row: Value = serde_json::from_str(line)?;
    let bytes = |key: &str| row[key].as_u64().with_context(|| format!("no `{key}`"));
    Ok(Predicted {
        state: row["state"].as_str().context("no `state`")?.to_owned(),
        peak_bytes: bytes("peak_bytes")?,
        state_bytes: bytes("weights_bytes")? + bytes("gradient_bytes")? + bytes("moment_bytes")?,
    })
}

impl Known for Store {
    fn last_state(&self, cell: &CellId) -> Option<State> {
        let summary = self.summary(cell).ok()??;
        Some(self.recording(cell).ok()?.state_at(summary.steps).clone())
    }

    fn folder(&self, cell: &CellId) -> String {
        self.run(cell).display().to_string()
    }

    fn source(&self, data: &str) -> Option<String> {
        self.sources.get(data).cloned()
    }
}

/// The store, but with other cells and data sets by name. These arguments do not depend on the
/// machine, so that records can be compared.
pub(crate) struct ByName<'a>(pub(crate) &'a Store);

impl Known for ByName<'_> {
    fn last_state(&self, cell: &CellId) -> Option<State> {
        self.0.last_state(cell)
    }

    fn folder(&self, cell: &CellId) -> String {
        cell.to_string()
    }

    fn source(&self, _data: &str) -> Option<String> {
        None
    }
}
