//! The folder of a run. `dlt_spec::record` describes its files.

mod held;
mod leftovers;
mod reopened;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use dlt_data::{COMPANIONS_FOLDER, Companions};
use dlt_models::file::ModelFile;
use dlt_models::{Model, ModelError};
use dlt_spec::durable::{self, NewFolder};
use dlt_spec::record::{
    self, HeaderRow, METRICS_FILE, MetricRow, PROVENANCE_FILE, Provenance, RECORD_SCHEMA,
    SPEC_FILE, STATES_FILE, SUMMARY_FILE, Summary,
};
use dlt_spec::{CheckedSpec, Spec};
use dlt_state::Recording;

use crate::assembly::empty_recording;
use crate::lock::Lock;
use crate::{Result, TrainError};

pub use held::Held;
pub(crate) use leftovers::{leftovers, remove_leftovers};
pub(crate) use reopened::{Cut, check_metrics};

/// The best model on validation, as `dlt_models::file` describes it.
pub const MODEL_FILE: &str = "model.safetensors";

/// A folder that a run writes into.
#[derive(Debug)]
pub struct RunFolder {
    held: Held,
    /// `None` in a process that only follows what process 0 writes.
    writing: Option<Writing>,
}

/// What a process holds as long as it writes into a folder.
#[derive(Debug)]
struct Writing {
    metrics: File,
    states: File,
    #[expect(dead_code, reason = "dropping it is what frees the folder")]
    lock: Lock,
}

impl RunFolder {
    /// Makes the folder with what exists before step 0: the spec and the provenance. The folder
    /// gets its name once they are in it.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] if the path already exists, [`TrainError::Held`] if another
    /// process is making the folder, [`TrainError::Io`] if it cannot be written.
    pub fn create(path: &Path, spec: &CheckedSpec, provenance: &Provenance) -> Result<Self> {
        Self::create_with(path, spec, provenance, |_| Ok(()))
    }

    /// [`create`](Self::create) with more files, which `fill` puts into the folder before it gets
    /// its name.
    ///
    /// # Errors
    /// As [`create`](Self::create), and any error of `fill`. Nothing is left of the folder then.
    pub fn create_with<E: From<TrainError>>(
        path: &Path,
        spec: &CheckedSpec,
        provenance: &Provenance,
        fill: impl FnOnce(&Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let refused = |source: io::Error| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::AlreadyExists => TrainError::RunExists { path },
                io::ErrorKind::WouldBlock => {
                    TrainError::Held { path, holder: "another process".to_owned() }
                }
                _ => TrainError::Io { action: "create", path, source },
            }
        };

        let new = NewFolder::begin(path).map_err(refused)?;
        let held = Held::open(new.path()).map_err(refused)?;
        let open = |name: &str| {
            let path = held.real(&new.path().join(name));
            OpenOptions::new().create_new(true).append(true).open(path).map_err(refused)
        };

        let lock = Lock::take(&held)?;
        replace(&held, SPEC_FILE, dlt_spec::fields::render(spec).as_bytes())?;
        replace(&held, PROVENANCE_FILE, &json(provenance))?;

        let metrics = open(METRICS_FILE)?;
        let states = open(STATES_FILE)?;
        let mut folder = Self { held, writing: Some(Writing { metrics, states, lock }) };

        folder.metric(&MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA }))?;
        folder.state_line(&empty_recording(spec).header_line())?;
        fill(&folder)?;
        new.finish().map_err(refused)?;
        folder.held = folder.held.renamed(path);

        Ok(folder)
    }

    /// A folder that another process of the same run writes into. What this process appends or
    /// replaces is dropped, so that the loop is the same in all of them.
    ///
    /// # Errors
    /// [`TrainError::Io`] if this process cannot see the folder.
    pub fn followed(path: &Path) -> Result<Self> {
        match Held::open(path) {
            Ok(held) => Ok(Self { held, writing: None }),
            Err(source) => Err(TrainError::Io { action: "read", path: path.to_owned(), source }),
        }
    }

    /// Whether this process writes into the folder.
    pub(crate) fn writes(&self) -> bool {
        self.writing.is_some()
    }

    /// Keeps the files that belong to the model besides its weights, above all its tokenizer.
    ///
    /// # Errors
    /// [`TrainError::Io`] if they cannot be written.
    pub fn keep(&self, companions: &Companions) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }

        self.held.check()?;
        for (name, content) in companions.iter() {
            let path = self.path().join(COMPANIONS_FOLDER).join(name);
            let real = self.held.real(&path);
            let folder = real.parent().map_or(Ok(()), fs::create_dir_all);

            folder
                .and_then(|()| durable::replace(&real, content))
                .map_err(|source| TrainError::Io { action: "write", path, source })?;
        }

        Ok(())
    }

    /// Path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.held.path()
    }

    /// Path of the run's model file.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.path().join(MODEL_FILE)
    }

    /// The open folder itself, for code that follows its files during the run.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The spec of a run folder.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Spec`] if it is no longer valid.
    pub fn read_spec(run: &Path) -> Result<CheckedSpec> {
        let path = run.join(SPEC_FILE);
        let text = dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES)
            .map_err(|source| TrainError::Io { action: "read", path: path.clone(), source })?;
        let overlay = dlt_spec::Overlay::from_toml(
            dlt_spec::Origin::File(path.display().to_string()),
            &text,
        )?;

        Ok(Spec::assemble(&[overlay])?.check()?)
    }

    /// The summary of a run folder; `None` if the run has not finished.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Format`] if it is damaged.
    pub fn read_summary(run: &Path) -> Result<Option<Summary>> {
        let path = run.join(SUMMARY_FILE);
        let text = match dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TrainError::Io { action: "read", path, source }),
        };

        let refuse = |reason: String| TrainError::Format { path, reason };

        match serde_json::from_str::<Summary>(&text) {
            Ok(summary) if summary.schema == RECORD_SCHEMA => Ok(Some(summary)),
            Ok(summary) => {
                Err(refuse(format!("expected layout {RECORD_SCHEMA}, got {}", summary.schema)))
            }
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Reads a recording of decisions.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Format`] if it is damaged.
    pub fn read_recording(path: &Path) -> Result<Recording> {
        let file = dlt_spec::file::regular(path, dlt_spec::file::RECORD_BYTES).map(BufReader::new);
        let text = file.and_then(record::text_of_lines).map_err(|source| TrainError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;

        let reason = |error: dlt_state::StateError| error.to_string();
        Recording::parse(&text)
            .map_err(|error| TrainError::Format { path: path.to_owned(), reason: reason(error) })
    }

    /// Appends a row to the metrics.
    pub(crate) fn metric(&mut self, row: &MetricRow) -> Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        self.held.check()?;
        append(&mut writing.metrics, &self.held.path().join(METRICS_FILE), &row.to_line())
    }

    /// Appends a line to the recording of decisions.
    pub(crate) fn state_line(&mut self, line: &str) -> Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        self.held.check()?;
        append(&mut writing.states, &self.held.path().join(STATES_FILE), line)
    }

    /// Puts the best model so far in place.
    pub(crate) fn save_model(&self, model: &Model, notes: &BTreeMap<String, String>) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }

        self.held.check()?;
        let path = self.model_path();
        Ok(model.save(&self.held.real(&path), notes).map_err(named(path))?)
    }

    /// The best model so far.
    pub(crate) fn read_model(&self) -> Result<ModelFile> {
        self.held.check()?;
        let path = self.model_path();
        Ok(ModelFile::open(&self.held.real(&path)).map_err(named(path))?)
    }

    /// Writes the summary, which marks the run as finished.
    pub(crate) fn summary(&self, summary: &Summary) -> Result<()> {
        if self.writes() { replace(&self.held, SUMMARY_FILE, &json(summary)) } else { Ok(()) }
    }
}

/// Names the model file in an error by the path that the user knows, not by that of the open
/// folder.
fn named(path: PathBuf) -> impl FnOnce(ModelError) -> ModelError {
    |error| match error {
        ModelError::Io { action, source, .. } => ModelError::Io { action, path, source },
        ModelError::Format { reason, .. } => ModelError::Format { path, reason },
        ModelError::NotFinite { tensor, count, of, .. } => {
            ModelError::NotFinite { path, tensor, count, of }
        }
        error => error,
    }
}

/// Appends a line in one write, so that a reader of a running run never sees half a line.
fn append(file: &mut File, path: &Path, line: &str) -> Result<()> {
    file.write_all(format!("{line}\n").as_bytes()).map_err(|source| TrainError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file of the folder, or makes it; a reader sees the old content or the new, never a
/// part.
fn replace(folder: &Held, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.path().join(name);
    folder.check()?;

    // Checked again after the bytes are written and before the rename: the folder may be moved in
    // between.
    let written = durable::replace_with(&folder.real(&path), |file| {
        file.write_all(bytes)?;
        folder.check().map_err(io::Error::other)
    });

    written.map_err(|source| TrainError::Io { action: "write", path, source })
}

/// A record as indented JSON with a line end.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(value).expect("records hold only numbers, words and lists");
    bytes.push(b'\n');
    bytes
}
