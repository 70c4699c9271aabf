//! Event files for TensorBoard, made only from the metrics of a run.
//!
//! An event file is a sequence of records. A record is the length of its message (8 bytes), a
//! checksum of these bytes (4), the message, and a checksum of the message (4). Numbers are
//! little-endian. Checksums are CRC-32C, rotated right by 15 bits, plus 0xa282ead8. The messages
//! are `Event`s of TensorFlow's event.proto. The first one has the version `brain.Event:2` and the
//! name of the writer. Each of the others has the numbers of one row with its step; its time is the
//! start of the run plus the time of training since then.
//!
//! | row | tags |
//! |---|---|
//! | step | `train/` `loss`, `learning_rate`, `gradient_norm`, `tokens_per_s`; `tying/` `independent_layers`, `distinct_layers`, `trainable_parameters`, `block_parameters`; `memory/resident_mb` |
//! | evaluation | `validation/` or `test/` (`train_split/` of the training split) `loss`, `perplexity`, `accuracy` |
//! | evaluation of the kept model at the end, at a step that its split was evaluated at before | the same below `kept_validation/` or `kept_test/` |
//! | decision | `agent/` `epsilon`, `reward`, `q_predicted`, `q_target`, `q_loss`, `tied_events`, `untied_events`, `conflict`, `unlikeness`; where the gate measured, `refused` (0 or 1), `loss_before`, `loss_after`; of a search `search_candidates`, `search_passes`, `search_loss_before`, `search_loss_after` |
//!
//! Numbers are f32, as TensorBoard's scalars are. A value that a row lacks has no tag. NaN and the
//! infinities are written as they are, and `null` in the metrics is NaN.
//!
//! The same metrics give the same bytes. A resumed run therefore writes its file again from the
//! remaining rows: their events are overwritten by the same bytes, the rest is cut off, and no step
//! occurs twice. A TensorBoard that reads the file meanwhile is not disturbed.

mod events;
mod wire;

use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use dlt_spec::durable;
use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, Provenance, SPEC_FILE};

use crate::error::{ReportError, Result};
use crate::metrics::Follower;
use crate::run::{read_json, read_spec};

pub use events::EventWriter;

/// The folder for event files in a run folder.
pub const FOLDER: &str = "tensorboard";

/// Beginning of the name of every event file.
const PREFIX: &str = "events.out.tfevents";

/// The event file of a run. The run may be under way: the file follows its metrics.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    metrics: Follower,
    events: EventWriter<BufWriter<File>>,
}

impl EventFile {
    /// Writes the event file of a run, as far as the run has got. An event file that dlt wrote
    /// before is written again; other files in the folder stay unchanged.
    ///
    /// # Errors
    /// [`ReportError::NoRun`] if `run` is not a run folder; [`ReportError::Io`] if a file cannot be
    /// read or written; [`ReportError::Format`] if a file is damaged, if dlt did not write an
    /// existing file of the event file's name, or if another process is writing it.
    pub fn open(run: &Path, folder: &Path) -> Result<Self> {
        for file in [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE] {
            if !run.join(file).is_file() {
                return Err(ReportError::NoRun { path: run.to_owned(), file });
            }
        }

        let spec = read_spec(&run.join(SPEC_FILE))?;
        let provenance: Provenance = read_json(&run.join(PROVENANCE_FILE))?;
        let started_at = provenance.started_at;

        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        let path = match written_before(folder)? {
            Some(path) => path,
            None => folder.join(format!("{PREFIX}.{started_at:010}.{}.0", spec.name)),
        };

        let cannot = || ReportError::io("write", &path);
        let file = claim(&path)?;
        let events = EventWriter::new(BufWriter::new(file), started_at).map_err(cannot())?;
        let mut file = Self { metrics: Follower::new(run.join(METRICS_FILE)), events, path };

        file.follow()?;
        file.cut()?;
        Ok(file)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the events of new rows. If the metrics were cut back, it writes all events again.
    ///
    /// # Errors
    /// Those of [`Follower::rows`], and [`ReportError::Io`] if the event file cannot be written.
    pub fn follow(&mut self) -> Result<()> {
        let cannot = || ReportError::io("write", &self.path);
        let (rows, is_from_start) = match self.metrics.rows()? {
            Some(rows) => (rows, false),
            None => (self.metrics.rows()?.unwrap_or_default(), true),
        };

        if is_from_start {
            self.events.out().rewind().and_then(|()| self.events.begin()).map_err(cannot())?;
        }

        for row in &rows {
            self.events.write(row).map_err(cannot())?;
        }

        if is_from_start {
            return self.cut();
        }

        self.events.out().flush().map_err(cannot())
    }

    /// Cuts off what is after the last event.
    fn cut(&mut self) -> Result<()> {
        let out = self.events.out();
        let end = out.stream_position();
        end.and_then(|end| out.get_ref().set_len(end)).map_err(ReportError::io("write", &self.path))
    }
}

/// Writes the event file of a run into a folder, as [`EventFile::open`] does, and returns its path.
///
/// # Errors
/// Those of [`EventFile::open`].
pub fn convert(run: &Path, folder: &Path) -> Result<PathBuf> {
    Ok(EventFile::open(run, folder)?.path)
}

/// The event file that dlt wrote in this folder before. Its name may have another name of the run
/// or another start.
fn written_before(folder: &Path) -> Result<Option<PathBuf>> {
    let cannot = || ReportError::io("read", folder);
    let mut paths = Vec::new();

    for entry in fs::read_dir(folder).map_err(cannot())? {
        let entry = entry.map_err(cannot())?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.path().is_file() {
            paths.push(entry.path());
        }
    }

    paths.sort();
    for path in paths {
        let file =
            dlt_spec::file::regular(&path, u64::MAX).map_err(ReportError::io("read", &path))?;
        let first = wire::Event::first(file).map_err(ReportError::io("read", &path))?;
        if first.as_ref().is_some_and(events::is_ours) {
            return Ok(Some(path));
        }
    }

    Ok(None)
}

/// Opens and locks the file, with its content, to write from the beginning. Refuses a file that dlt
/// did not write.
fn claim(path: &Path) -> Result<File> {
    let cannot = || ReportError::io("write", path);
    durable::unshare(path).map_err(cannot())?;

    let options =
        durable::no_links().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(cannot())?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(ReportError::format(
            path,
            "another process is writing it, perhaps a run under way",
        ));
    }

    let length = file.metadata().map_err(cannot())?.len();
    let first = wire::Event::first(&file).map_err(cannot())?;
    if length > 0 && !first.as_ref().is_some_and(events::is_ours) {
        return Err(ReportError::format(
            path,
            "already exists, and was not written by dlt: move it away",
        ));
    }

    file.rewind().map_err(cannot())?;
    Ok(file)
}
