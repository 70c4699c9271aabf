//! The folder of a run, whose files `dlt_spec::record` describes.

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
pub(crate) use reopened::Cut;

/// The best model on validation, as `dlt_models::file` describes it.
pub const MODEL_FILE: &str = "model.safetensors";

/// A folder that a run writes into.
#[derive(Debug)]
pub struct RunFolder {
    held: Held,
    metrics: File,
    states: File,
    /// Held as long as this process writes into the folder.
    #[expect(dead_code, reason = "dropping it is what frees the folder")]
    lock: Lock,
}

impl RunFolder {
    /// Makes the folder and what stands before step 0: the spec and where the run comes from. It
    /// gets its name once all of that is in it.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] where something is there already, [`TrainError::Held`] where
    /// another process makes it now, [`TrainError::Io`] where it cannot be written.
    pub fn create(path: &Path, spec: &CheckedSpec, provenance: &Provenance) -> Result<Self> {
        Self::create_with(path, spec, provenance, |_| Ok(()))
    }

    /// The same with more in it, which `fill` puts into the folder: it gets its name with all of
    /// that.
    ///
    /// # Errors
    /// As [`create`](Self::create), and what `fill` fails with: nothing is left of the folder then.
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
        let mut folder = Self { held, metrics, states, lock };

        folder.metric(&MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA }))?;
        folder.state_line(&empty_recording(spec).header_line())?;
        fill(&folder)?;
        new.finish().map_err(refused)?;
        folder.held = folder.held.renamed(path);

        Ok(folder)
    }

    /// Keeps the files that belong to the model beside its weights: its tokenizer above all.
    ///
    /// # Errors
    /// [`TrainError::Io`] where they cannot be written.
    pub fn keep(&self, companions: &Companions) -> Result<()> {
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

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.held.path()
    }

    /// Where the model of a run folder stands.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.path().join(MODEL_FILE)
    }

    /// The folder itself, for what follows its files while the run is under way.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The spec of a run folder.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Spec`] where it is no longer a
    /// valid one.
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
            Ok(summary) => {
                Err(refuse(format!("expected layout {RECORD_SCHEMA}, got {}", summary.schema)))
            }
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Reads a recording of decisions.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Format`] where it is damaged.
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

    pub(crate) fn metric(&mut self, row: &MetricRow) -> Result<()> {
        self.held.check()?;
        append(&mut self.metrics, &self.held.path().join(METRICS_FILE), &row.to_line())
    }

    pub(crate) fn state_line(&mut self, line: &str) -> Result<()> {
        self.held.check()?;
        append(&mut self.states, &self.held.path().join(STATES_FILE), line)
    }

    /// Puts the best model so far in place.
    pub(crate) fn save_model(&self, model: &Model, notes: &BTreeMap<String, String>) -> Result<()> {
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

    /// Puts the summary in place: the mark of a finished run.
    pub(crate) fn summary(&self, summary: &Summary) -> Result<()> {
        replace(&self.held, SUMMARY_FILE, &json(summary))
    }
}

/// An error of the model's file under the path that a person knows.
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

/// One write per line, so that a reader never sees a part of one from a living run.
fn append(file: &mut File, path: &Path, line: &str) -> Result<()> {
    file.write_all(format!("{line}\n").as_bytes()).map_err(|source| TrainError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Puts a file of the folder in place, whole.
fn replace(folder: &Held, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.path().join(name);
    folder.check()?;

    let written = durable::replace_with(&folder.real(&path), |file| {
        file.write_all(bytes)?;
        folder.check().map_err(io::Error::other)
    });

    written.map_err(|source| TrainError::Io { action: "write", path, source })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(value).expect("records hold numbers, words and lists only");
    bytes.push(b'\n');
    bytes
}
