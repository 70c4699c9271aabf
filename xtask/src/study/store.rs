//! Where the runs of a study lie, and what has become of each.
//!
//! A cell `shakespeare/full-1` has, below the store's folder:
//!
//! | | |
//! |---|---|
//! | `shakespeare/full-1/` | the run folder |
//! | `shakespeare/full-1.cell.json` | a [`Note`]: the arguments that the run was begun with, and how its last attempt ended |
//! | `shakespeare/full-1.log` | what `dlt` wrote |
//! | `shakespeare/full-1.memory.jsonl` | of a cell that only predicts memory: what `dlt inspect --memory --json` wrote |

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dlt_spec::record::{
    METRICS_FILE, MetricRow, PROVENANCE_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE, Summary,
};
use dlt_state::{Recording, State};
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellId, Job, Known};

/// Layout of a [`Note`].
const NOTE_SCHEMA: u32 = 1;
/// The file that a process holds while it writes into a run folder.
const LOCK_FILE: &str = "lock";
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
    /// How the last attempt failed; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

/// What has become of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Nothing is there.
    Missing,
    /// A run that it needs has not finished.
    Waiting,
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
    /// What is there was made with other settings than the grid's.
    Stale,
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
        let path = self.beside(id, "cell.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let note: Note = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let came = note.schema;
        ensure!(came == NOTE_SCHEMA, "{}: expected layout {NOTE_SCHEMA}, came {came}", path.display());
        Ok(Some(note))
    }

    pub(crate) fn write_note(
        &self,
        id: &CellId,
        arguments: Vec<String>,
        failure: Option<String>,
    ) -> Result<()> {
        let path = self.beside(id, "cell.json");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let note = Note { schema: NOTE_SCHEMA, arguments, failure };
        crate::program::replace(&path, format!("{}\n", serde_json::to_string_pretty(&note)?))
    }

    /// What has become of a cell.
    pub(crate) fn standing(&self, cell: &Cell) -> Result<Standing> {
        if self.holder(&cell.id) {
            return Ok(Standing::Running { step: self.step(&cell.id) });
        }
        let is_done = match cell.job {
            Job::Predict { .. } => self.prediction(&cell.id).is_file(),
            _ => self.run(&cell.id).join(SUMMARY_FILE).is_file(),
        };
        let note = self.note(&cell.id)?;
        let Some(arguments) = cell.arguments(&ByName(self)) else { return Ok(Standing::Waiting) };
        Ok(match note {
            Some(note) if note.arguments != arguments => Standing::Stale,
            Some(_) if is_done => Standing::Done,
            Some(Note { failure: Some(reason), .. }) => Standing::Failed { reason },
            Some(_) if self.has_begun(&cell.id) => Standing::Begun { step: self.step(&cell.id) },
            // A folder that nobody noted is somebody else's.
            None if self.run(&cell.id).exists() => Standing::Stale,
            Some(_) | None => Standing::Missing,
        })
    }

    /// Whether there is something to go on with: what stands before step 0 was written.
    pub(crate) fn has_begun(&self, id: &CellId) -> bool {
        [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE]
            .iter()
            .all(|file| self.run(id).join(file).is_file())
    }

    /// Whether a process writes into the run folder.
    pub(crate) fn holder(&self, id: &CellId) -> bool {
        let Ok(file) = File::open(self.run(id).join(LOCK_FILE)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
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
    pub(crate) fn set_aside(&self, id: &CellId) -> Result<PathBuf> {
        let number = (1..).find(|number| !self.beside(id, &format!("before-{number}")).exists()).unwrap_or(1);
        let aside = self.beside(id, &format!("before-{number}"));
        let run = self.run(id);
        if run.exists() {
            fs::rename(&run, &aside)
                .with_context(|| format!("cannot move {} to {}", run.display(), aside.display()))?;
        }
        Ok(aside)
    }

    /// The outcome of a finished run.
    pub(crate) fn summary(&self, id: &CellId) -> Result<Option<Summary>> {
        let path = self.run(id).join(SUMMARY_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The decisions of a run.
    pub(crate) fn recording(&self, id: &CellId) -> Result<Recording> {
        let path = self.run(id).join(STATES_FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Recording::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }
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
