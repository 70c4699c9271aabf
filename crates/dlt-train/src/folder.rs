//! The folder of a run, whose files `dlt_spec::record` describes.

mod reopened;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use dlt_data::{COMPANIONS_FOLDER, Companions};
use dlt_spec::record::{
    HeaderRow, METRICS_FILE, MetricRow, PROVENANCE_FILE, Provenance, RECORD_SCHEMA, SPEC_FILE, STATES_FILE,
    SUMMARY_FILE, Summary,
};
use dlt_spec::{CheckedSpec, Spec, durable};
use dlt_state::Recording;

use crate::lock::Lock;
use crate::{Result, TrainError};

pub(crate) use reopened::Cut;

/// The best model on validation, as `dlt_models::file` describes it.
pub const MODEL_FILE: &str = "model.safetensors";

/// A folder that a run writes into.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    states: File,
    /// Held as long as this process writes into the folder.
    #[expect(dead_code, reason = "dropping it is what frees the folder")]
    lock: Lock,
}

impl RunFolder {
    /// Makes the folder and what stands before step 0: the spec and where the run comes from.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] where something is there already, [`TrainError::Io`] where it cannot be
    /// written.
    pub fn create(path: &Path, spec: &CheckedSpec, provenance: &Provenance) -> Result<Self> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Io { action: "create", path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        fs::create_dir(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => TrainError::RunExists { path: path.to_owned() },
            _ => io(path)(source),
        })?;
        let open = |name: &str| {
            let path = path.join(name);
            OpenOptions::new().create_new(true).append(true).open(&path).map_err(io(&path))
        };
        let lock = Lock::take(path)?;
        replace(&path.join(SPEC_FILE), dlt_spec::fields::render(spec).as_bytes())?;
        replace(&path.join(PROVENANCE_FILE), &json(provenance))?;
        let (metrics, states) = (open(METRICS_FILE)?, open(STATES_FILE)?);
        let mut folder = Self { path: path.to_owned(), metrics, states, lock };
        folder.metric(&MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA }))?;
        folder.state_line(&Recording::starting_from(spec.initial_state()).header_line())?;
        Ok(folder)
    }

    /// Keeps the files that belong to the model beside its weights: its tokenizer above all.
    ///
    /// # Errors
    /// [`TrainError::Io`] where they cannot be written.
    pub fn keep(&self, companions: &Companions) -> Result<()> {
        for (name, content) in companions.iter() {
            let path = self.path().join(COMPANIONS_FOLDER).join(name);
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            folder.and_then(|()| durable::replace(&path, content)).map_err(|source| TrainError::Io {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the model of a run folder stands.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL_FILE)
    }

    /// The spec of a run folder.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Spec`] where it is no longer a valid one.
    pub fn read_spec(run: &Path) -> Result<CheckedSpec> {
        let path = run.join(SPEC_FILE);
        let text = dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES)
            .map_err(|source| TrainError::Io { action: "read", path: path.clone(), source })?;
        let overlay =
            dlt_spec::Overlay::from_toml(dlt_spec::Origin::File(path.display().to_string()), &text)?;
        Ok(Spec::assemble(&[overlay])?.check()?)
    }

    /// The summary of a run folder; `None` where the run has not finished.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Format`] where it is damaged.
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
            Ok(summary) => Err(refuse(format!("expected layout {RECORD_SCHEMA}, came {}", summary.schema))),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Reads a recording of decisions.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Format`] where it is damaged.
    pub fn read_recording(path: &Path) -> Result<Recording> {
        let text = dlt_spec::file::read_text(path, dlt_spec::file::RECORD_BYTES)
            .map_err(|source| TrainError::Io { action: "read", path: path.to_owned(), source })?;
        let reason = |error: dlt_state::StateError| error.to_string();
        Recording::parse(&text)
            .map_err(|error| TrainError::Format { path: path.to_owned(), reason: reason(error) })
    }

    pub(crate) fn metric(&mut self, row: &MetricRow) -> Result<()> {
        append(&mut self.metrics, &self.path.join(METRICS_FILE), &row.to_line())
    }

    pub(crate) fn state_line(&mut self, line: &str) -> Result<()> {
        append(&mut self.states, &self.path.join(STATES_FILE), line)
    }

    /// Puts the summary in place: the mark of a finished run.
    pub(crate) fn summary(&self, summary: &Summary) -> Result<()> {
        replace(&self.path.join(SUMMARY_FILE), &json(summary))
    }
}

/// One write per line, so that a reader never sees a part of one from a living run.
fn append(file: &mut File, path: &Path, line: &str) -> Result<()> {
    file.write_all(format!("{line}\n").as_bytes()).map_err(|source| TrainError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Writes a temporary sibling, syncs it, and renames it into place.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| TrainError::Io { action: "write", path: path.to_owned(), source })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("records hold numbers, words and lists only");
    bytes.push(b'\n');
    bytes
}
