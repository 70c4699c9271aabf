//! A run as its folder shows it, finished or under way.

use std::io::{self, BufReader};
use std::iter;
use std::path::{Path, PathBuf};

use dlt_spec::record::{
    METRICS_FILE, PROVENANCE_FILE, Provenance, RECORD_SCHEMA, SPEC_FILE, STATES_FILE, SUMMARY_FILE,
    Summary, whole_lines,
};
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec};
use dlt_state::binding::{Binding, Change, Rules};
use dlt_state::{Recording, State};
use serde::de::DeserializeOwned;

use crate::error::{ReportError, Result};
use crate::metrics::Metrics;

/// The model file of a run folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// The content of a run folder.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub path: PathBuf,
    /// The spec of the run.
    pub spec: CheckedSpec,
    /// How it was made.
    pub provenance: Provenance,
    /// Its rows so far.
    pub metrics: Metrics,
    /// Its decisions so far.
    pub recording: Recording,
    /// Its outcome; `None` while it has not finished.
    pub summary: Option<Summary>,
}

impl Run {
    /// Reads a run folder. A half-written last line of a run under way is left out.
    ///
    /// # Errors
    /// [`ReportError::NoRun`] if it is not a run folder; [`ReportError::Io`] if a file cannot be
    /// read; [`ReportError::Format`] if a file is damaged or has another version.
    pub fn read(path: &Path) -> Result<Self> {
        for file in [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE] {
            if !path.join(file).is_file() {
                return Err(ReportError::NoRun { path: path.to_owned(), file });
            }
        }

        let spec = read_spec(&path.join(SPEC_FILE))?;

        Ok(Self {
            path: path.to_owned(),
            provenance: read_json(&path.join(PROVENANCE_FILE))?,
            metrics: Metrics::read(&path.join(METRICS_FILE))?,
            recording: read_recording(&path.join(STATES_FILE), &spec)?,
            summary: read_summary(path)?,
            spec,
        })
    }

    /// Reads the decisions and the outcome again. The caller adds the metrics.
    pub(crate) fn update(&mut self) -> Result<()> {
        self.recording = read_recording(&self.path.join(STATES_FILE), &self.spec)?;
        self.summary = read_summary(&self.path)?;
        Ok(())
    }

    /// Name of the folder, which distinguishes runs of the same spec.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        name.file_name()
            .map_or_else(|| self.spec.name.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// Training steps done so far.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.summary.as_ref().map_or_else(
            || self.metrics.steps.last().map_or(0, |row| row.step),
            |summary| summary.steps,
        )
    }

    /// The state after the last step so far.
    #[must_use]
    pub fn state(&self) -> &State {
        self.recording.state_at(self.steps_done())
    }

    /// What is in place before the first decision, and after each.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = Binding> {
        let rules = Rules::from(&self.spec.tying);
        let mut binding = self.spec.initial_binding();
        let mut from = self.recording.initial();

        iter::once(binding.clone()).chain(self.recording.rows().iter().map(move |row| {
            let (to, visited) = (row.state(), row.layer());

            // An undone decision changes nothing.
            if row.refused().is_none() {
                let change = Change { from, to, action: row.action(), visited };
                binding.apply(&rules, &change).expect("a recording has the depth of its spec");
            }

            from = to;
            binding.clone()
        }))
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|error| ReportError::format(path, error))
}

pub(crate) fn read_spec(path: &Path) -> Result<CheckedSpec> {
    let refuse = |error: dlt_spec::SpecError| ReportError::format(path, error);
    let overlay = Overlay::from_toml(Origin::File(path.display().to_string()), &read_text(path)?);
    Spec::assemble(&[overlay.map_err(refuse)?]).and_then(|spec| spec.check()).map_err(refuse)
}

fn read_summary(path: &Path) -> Result<Option<Summary>> {
    let path = path.join(SUMMARY_FILE);
    if !path.is_file() {
        return Ok(None);
    }

    let summary: Summary = read_json(&path)?;
    if summary.schema != RECORD_SCHEMA {
        let reason = format!("expected layout {RECORD_SCHEMA}, got {}", summary.schema);
        return Err(ReportError::format(&path, reason));
    }

    Ok(Some(summary))
}

/// Reads whole lines only: a run under way may be in the middle of its last line.
fn read_recording(path: &Path, spec: &CheckedSpec) -> Result<Recording> {
    let file = dlt_spec::file::regular(path, dlt_spec::file::RECORD_BYTES);
    let file = file.map_err(ReportError::io("read", path))?;
    let whole = whole_lines(BufReader::new(file)).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => ReportError::format(path, error),
        _ => ReportError::io("read", path)(error),
    })?;

    let recording = Recording::parse(&whole).map_err(|error| ReportError::format(path, error))?;
    let expected = spec.model.layers;
    let got = recording.n_layers();

    if expected != got {
        let reason =
            format!("expected decisions about the {expected} layers of {SPEC_FILE}, got {got}");
        return Err(ReportError::format(path, reason));
    }

    Ok(recording)
}

fn read_text(path: &Path) -> Result<String> {
    dlt_spec::file::read_text(path, dlt_spec::file::RECORD_BYTES)
        .map_err(ReportError::io("read", path))
}
