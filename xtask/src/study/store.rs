//! Where the runs of a study lie, and what has become of each.
//!
//! A cell `shakespeare/full-1` has, below the store's folder:
//!
//! | | |
//! |---|---|
//! | `shakespeare/full-1/` | the run folder |
//! | `shakespeare/full-1.cell.json` | a [`Note`]: the arguments that the run was begun with, and how its last attempt ended |
//! | `shakespeare/full-1.lock` | what a process holds while it is at the cell: the launcher, then the `dlt` that it started |
//! | `shakespeare/full-1.log` | what `dlt` wrote |
//! | `shakespeare/full-1.memory.jsonl` | of a cell that only predicts memory: what `dlt inspect --memory --json` wrote |

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

use super::basis;
use super::cell::{Cell, CellId, Job, Known};
use super::record::Predicted;

/// Layout of a [`Note`].
const NOTE_SCHEMA: u32 = 1;
/// The file that a process holds while it writes into a run folder.
const LOCK_FILE: &str = "lock";
/// What a line of metrics with an evaluation holds.
const EVALUATION: &str = "\"kind\":\"evaluation\"";
/// Of a metrics file, the end holds a whole line of a step.
const TAIL: u64 = 1 << 16;

/// The folder of all runs of a scale.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
    sources: BTreeMap<String, String>,
}

/// What stands beside a run folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    pub(crate) schema: u32,
    /// Arguments of `dlt`, with data sets and other cells by their names.
    pub(crate) arguments: Vec<String>,
    /// The same of the runs that it follows: a copy of what stood in their notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) needs: BTreeMap<String, Vec<String>>,
    /// How the last attempt failed; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

/// What has become of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Nothing is there.
    Missing,
    /// Runs that it needs have not finished.
    Waiting {
        on: Vec<CellId>,
    },
    /// Its run has begun and stopped, after so many steps.
    Begun {
        step: usize,
    },
    /// A process is at it.
    Running {
        step: usize,
    },
    Done,
    Failed {
        reason: String,
    },
    /// What is there was made with other settings than the grid's, or follows a run that was.
    Stale,
    /// A file of it cannot be read: only a person knows what became of it.
    Damaged {
        reason: String,
    },
}

impl Store {
    /// `sources` are data sets that lie on this machine, by name.
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
        self.beside(id, "log")
    }

    pub(crate) fn prediction(&self, id: &CellId) -> PathBuf {
        self.beside(id, "memory.jsonl")
    }

    fn beside(&self, id: &CellId, ending: &str) -> PathBuf {
        self.root.join(format!("{id}.{ending}"))
    }

    /// The note of a cell, if it was ever begun.
    pub(crate) fn note(&self, id: &CellId) -> Result<Option<Note>> {
        let path = self.note_path(id);
        let Some(note) = read_json::<Note>(&path)? else { return Ok(None) };
        let got = note.schema;

        ensure!(got == NOTE_SCHEMA, "{}: expected layout {NOTE_SCHEMA}, got {got}", path.display());

        Ok(Some(note))
    }

    fn note_path(&self, id: &CellId) -> PathBuf {
        self.beside(id, "cell.json")
    }

    /// Notes what a run is begun with.
    pub(crate) fn note_begun(&self, cell: &Cell, arguments: Vec<String>) -> Result<()> {
        let mut needs = BTreeMap::new();
        for need in cell.needs() {
            needs.extend(self.note(&need)?.map(|note| (need.to_string(), note.arguments)));
        }
        self.write_note(&cell.id, &Note { schema: NOTE_SCHEMA, arguments, needs, failure: None })
    }

    /// Notes how a run failed. What cannot be read is left as it is.
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
        crate::program::replace(&path, format!("{}\n", serde_json::to_string_pretty(note)?))
    }

    /// What has become of a cell.
    pub(crate) fn standing(&self, cell: &Cell) -> Standing {
        match self.is_held(&cell.id) {
            true => Standing::Running { step: self.step(&cell.id) },
            false => self.at_rest(cell),
        }
    }

    /// The same where no process is at it, or that process is ours.
    pub(crate) fn at_rest(&self, cell: &Cell) -> Standing {
        let damaged = |error: &anyhow::Error, path: &Path| Standing::Damaged {
            reason: format!("damaged: {error:#}; move {} away to have it run anew", path.display()),
        };
        let note = match self.note(&cell.id) {
            Ok(note) => note,
            Err(error) => return damaged(&error, &self.note_path(&cell.id)),
        };

        let Some(arguments) = cell.arguments(&ByName(self)) else {
            let is_open = |need: &CellId| self.last_state(need).is_none();
            return Standing::Waiting { on: cell.needs().into_iter().filter(is_open).collect() };
        };

        match note {
            Some(note) if note.arguments != arguments || self.follows_another(&note, cell) => {
                Standing::Stale
            }
            Some(_) if self.has_ended(cell) => match self.read_all(cell) {
                Ok(()) => Standing::Done,
                Err(error) => damaged(&error, &self.result(cell)),
            },
            Some(Note { failure: Some(reason), .. }) => Standing::Failed { reason },
            Some(_) if self.has_begun(&cell.id) => Standing::Begun { step: self.step(&cell.id) },
            // What nobody noted is somebody else's.
            None if self.result(cell).exists() => Standing::Stale,
            Some(_) | None => Standing::Missing,
        }
    }

    /// Whether a run that it follows has been made anew since, with other settings.
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

    /// The folder or file of a cell's outcome.
    fn result(&self, cell: &Cell) -> PathBuf {
        match cell.job {
            Job::Predict { .. } => self.prediction(&cell.id),
            _ => self.run(&cell.id),
        }
    }

    /// Reads what tables are made from, of a cell that has ended.
    fn read_all(&self, cell: &Cell) -> Result<()> {
        if let Job::Predict { .. } = cell.job {
            return self.predictions(&cell.id).map(drop);
        }
        if let Job::Train { .. } = cell.job {
            basis::of_spec_file(&self.spec(&cell.id)?)?;
        }

        self.summary(&cell.id)?;
        self.recording(&cell.id)?;
        self.provenance(&cell.id).map(drop)
    }

    /// Whether there is something to go on with: what stands before step 0 was written.
    pub(crate) fn has_begun(&self, id: &CellId) -> bool {
        [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE]
            .iter()
            .all(|file| self.run(id).join(file).is_file())
    }

    /// Takes a cell for this process; `None` where another has it. Whoever inherits the file goes
    /// on holding it, so that a child that outlives its parent is never doubled, not even before it
    /// has made its run folder.
    pub(crate) fn claim(&self, id: &CellId) -> Result<Option<File>> {
        let path = self.beside(id, LOCK_FILE);
        make_parent(&path)?;

        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            // A file system without locks: two processes are then the person's to avoid.
            Ok(()) | Err(TryLockError::Error(_)) => Some(file).filter(|_| !self.is_written(id)),
        })
    }

    /// Whether a process is at the cell: one that this launcher or another has started, or one that
    /// somebody did.
    fn is_held(&self, id: &CellId) -> bool {
        is_locked(&self.beside(id, LOCK_FILE)) || self.is_written(id)
    }

    /// Whether a process writes into the run folder.
    fn is_written(&self, id: &CellId) -> bool {
        is_locked(&self.run(id).join(LOCK_FILE))
    }

    /// Steps that the run has noted.
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

    /// Moves what is there out of the way, under a name that says so; nothing is lost.
    pub(crate) fn set_aside(&self, cell: &Cell) -> Result<Option<PathBuf>> {
        let found = self.result(cell);
        if !found.exists() {
            return Ok(None);
        }

        let name = |number: usize| self.beside(&cell.id, &format!("before-{number}"));
        let aside =
            (1..).map(name).find(|path| !path.exists()).context("no name is left for it")?;
        fs::rename(&found, &aside)
            .with_context(|| format!("cannot move {} to {}", found.display(), aside.display()))?;

        Ok(Some(aside))
    }

    /// The outcome of a finished run.
    pub(crate) fn summary(&self, id: &CellId) -> Result<Option<Summary>> {
        read_json(&self.run(id).join(SUMMARY_FILE))
    }

    /// Where a run comes from.
    pub(crate) fn provenance(&self, id: &CellId) -> Result<Provenance> {
        let path = self.run(id).join(PROVENANCE_FILE);
        read_json(&path)?.with_context(|| format!("there is no {}", path.display()))
    }

    /// The spec file of a run.
    pub(crate) fn spec(&self, id: &CellId) -> Result<String> {
        let path = self.run(id).join(SPEC_FILE);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The perplexity on validation after the last step, as a multiple of the best during training:
    /// above 1 where training went on past its best. Both are of the same windows.
    pub(crate) fn last_to_best(&self, id: &CellId) -> Result<Option<f64>> {
        let path = self.run(id).join(METRICS_FILE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let perplexity = |line: &str| match MetricRow::from_line(line) {
            Ok(MetricRow::Evaluation(row)) if row.split == Split::Validation => {
                Some(row.perplexity)
            }
            _ => None,
        };

        let mut all: Vec<f64> =
            text.lines().filter(|line| line.contains(EVALUATION)).filter_map(perplexity).collect();

        // The kept model, evaluated after training.
        all.pop();
        let best = all.iter().copied().fold(f64::INFINITY, f64::min);

        Ok(all.last().map(|last| last / best))
    }

    /// Of a cell that only predicts memory, what was predicted.
    pub(crate) fn predictions(&self, id: &CellId) -> Result<Vec<Predicted>> {
        let path = self.prediction(id);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().enumerate().map(|(index, line)| {
            predicted(line).with_context(|| format!("{}: line {}", path.display(), index + 1))
        });

        let predictions: Vec<_> = lines.collect::<Result<_>>()?;
        ensure!(
            !predictions.is_empty(),
            "{}: expected a state a line, got nothing",
            path.display()
        );

        Ok(predictions)
    }

    /// The decisions of a run.
    pub(crate) fn recording(&self, id: &CellId) -> Result<Recording> {
        let path = self.run(id).join(STATES_FILE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Recording::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }
}

/// Makes the folder of a file.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
        }
        None => Ok(()),
    }
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// What stands in a file of JSON; `None` where there is no file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
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

/// The same with other cells and data sets by their names: what does not hang on the machine.
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
