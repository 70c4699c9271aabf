//! Opening a run folder again. Its two growing files are cut back to their length at the
//! checkpoint.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use dlt_spec::record::{
    HeaderRow, METRICS_FILE, MetricRow, PROVENANCE_FILE, Provenance, RECORD_SCHEMA,
    ResumeProvenance, SPEC_FILE, STATES_FILE, SUMMARY_FILE,
};
use dlt_spec::{CheckedSpec, durable, fields};
use dlt_state::Recording;

use super::{Held, RunFolder, Writing, json, replace};
use crate::lock::Lock;
use crate::{Result, TrainError};

/// How much of a run folder is kept.
pub(crate) struct Cut<'a> {
    /// Training steps that are kept.
    pub(crate) step: usize,
    /// Bytes of the metrics that are kept; `None` without a checkpoint, when only the header is
    /// kept.
    pub(crate) metrics_bytes: Option<u64>,
    /// Decisions that are kept.
    pub(crate) recording: &'a Recording,
}

impl RunFolder {
    /// Opens a folder again for writing. The second value says what was cut off or repaired.
    pub(crate) fn reopen(held: Held, lock: Lock, cut: &Cut<'_>) -> Result<(Self, Vec<String>)> {
        held.check()?;
        let path = held.path();
        let mut notices = Vec::new();

        super::remove_leftovers(&held.real(path));
        for name in [METRICS_FILE, STATES_FILE] {
            // These two files are changed in place. A backup made of hard links must keep its
            // content, so such a file is copied first.
            let file = path.join(name);
            durable::unshare(&held.real(&file)).map_err(io("write", &file))?;
        }

        notices.extend(cut_metrics(&held, cut)?);
        notices.extend(cut_states(&held, cut)?);

        let summary = path.join(SUMMARY_FILE);
        if held.real(&summary).exists() {
            // It marks a finished run, which this no longer is.
            let aside = path.join(format!("summary-{}.json", cut.step));
            fs::rename(held.real(&summary), held.real(&aside)).map_err(io("write", &summary))?;
            notices.push(format!("the former summary is kept as {}", aside.display()));
        }

        let open = |name: &str| {
            let path = path.join(name);
            durable::no_links().append(true).open(held.real(&path)).map_err(io("write", &path))
        };

        let metrics = open(METRICS_FILE)?;
        let states = open(STATES_FILE)?;
        Ok((Self { held, writing: Some(Writing { metrics, states, lock }) }, notices))
    }

    /// Writes the spec that the run continues with, if it differs from the present one.
    pub(crate) fn rewrite_spec(&self, spec: &CheckedSpec) -> Result<()> {
        let real = self.held.real(&self.path().join(SPEC_FILE));
        let text = fields::render(spec);
        match dlt_spec::file::read_text(&real, dlt_spec::file::CONFIGURATION_BYTES) {
            Ok(before) if before == text => Ok(()),
            _ => replace(&self.held, SPEC_FILE, text.as_bytes()),
        }
    }

    /// Adds to the folder's provenance that the run was resumed. `fresh` replaces a provenance that
    /// is missing or damaged.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be written.
    pub fn note_resumed(&self, fresh: Provenance, resumed: ResumeProvenance) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }

        let mut provenance = Self::read_provenance(&self.held.lasting_path()).unwrap_or(fresh);
        provenance.resumed.push(resumed);
        replace(&self.held, PROVENANCE_FILE, &json(&provenance))
    }

    /// The provenance of a run.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Format`] if it is damaged.
    pub fn read_provenance(run: &Path) -> Result<Provenance> {
        let path = run.join(PROVENANCE_FILE);
        let text = dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES)
            .map_err(io("read", &path))?;
        serde_json::from_str(&text)
            .map_err(|error| TrainError::Format { path, reason: error.to_string() })
    }

    /// Syncs what was appended so far to the disk, and returns the length of the metrics in bytes.
    pub(crate) fn sync(&self) -> Result<u64> {
        let Some(Writing { metrics, states, .. }) = &self.writing else { return Ok(0) };
        self.held.check()?;
        let path = self.path().join(METRICS_FILE);
        states.sync_data().map_err(io("write", &self.path().join(STATES_FILE)))?;
        metrics.sync_data().map_err(io("write", &path))?;
        Ok(metrics.metadata().map_err(io("read", &path))?.len())
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io { action, path, source }
}

fn cut_metrics(folder: &Held, cut: &Cut<'_>) -> Result<Option<String>> {
    let path = &folder.path().join(METRICS_FILE);
    let real = folder.real(path);
    let Some(bytes) = cut.metrics_bytes else {
        let had = dlt_spec::file::read_text(&real, dlt_spec::file::RECORD_BYTES)
            .map_or(0, |text| text.lines().count().saturating_sub(1));
        let header = MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA }).to_line();
        replace(folder, METRICS_FILE, format!("{header}\n").as_bytes())?;
        return Ok((had > 0).then(|| format!("{}: {had} lines cut off", path.display())));
    };

    let mut file = open_metrics(folder, bytes)?;
    let rest = rest(&mut file).map_err(io("read", path))?;
    file.set_len(bytes).and_then(|()| file.sync_data()).map_err(io("write", path))?;
    Ok(rest.map(|rest| format!("{}: {rest} after step {} cut off", path.display(), cut.step)))
}

/// Refuses metrics that cannot be cut back to this length.
pub(crate) fn check_metrics(folder: &Held, bytes: u64) -> Result<()> {
    open_metrics(folder, bytes).map(drop)
}

/// Opens the metrics for writing, after their first `bytes` bytes.
fn open_metrics(folder: &Held, bytes: u64) -> Result<File> {
    let path = &folder.path().join(METRICS_FILE);
    let mut file = durable::no_links()
        .read(true)
        .write(true)
        .open(folder.real(path))
        .map_err(io("write", path))?;

    let mut last = [0];
    // A file of the right length may still be another one. This byte was a line end when the
    // checkpoint was made.
    let ends_a_line = file
        .seek(SeekFrom::Start(bytes.saturating_sub(1)))
        .and_then(|_| file.read_exact(&mut last));

    ends_a_line.map_err(io("read", path))?;
    if last != *b"\n" {
        let reason =
            format!("expected a line end at byte {bytes}, where the file ended at the checkpoint");
        return Err(TrainError::Format { path: path.to_owned(), reason });
    }

    Ok(file)
}

/// What is after the present position of a file, in words; `None` if nothing is.
fn rest(file: &mut File) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;

    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let is_torn = bytes.last().is_some_and(|&last| last != b'\n');

    Ok(match (lines, is_torn) {
        (0, false) => None,
        (0, true) => Some("half a line".to_owned()),
        (lines, false) => Some(format!("{lines} lines")),
        (lines, true) => Some(format!("{lines} lines and half a line")),
    })
}

fn cut_states(folder: &Held, cut: &Cut<'_>) -> Result<Option<String>> {
    let path = folder.path().join(STATES_FILE);
    let text = cut.recording.to_text();
    let before =
        dlt_spec::file::read(&folder.real(&path), dlt_spec::file::RECORD_BYTES).unwrap_or_default();

    if before == text.as_bytes() {
        return Ok(None);
    }

    let repaired = !before.starts_with(text.as_bytes());
    replace(folder, STATES_FILE, text.as_bytes())?;

    let path = path.display();
    let step = cut.step;

    Ok(Some(if !repaired {
        format!("{path}: decisions after step {step} cut off")
    } else if cut.metrics_bytes.is_some() {
        format!("{path}: written again from the checkpoint")
    } else {
        format!("{path}: written again")
    }))
}
