//! Event files for TensorBoard, made of the metrics of a run and of nothing else.
//!
//! An event file is a row of records. A record is the length of its message (8 bytes), a checksum
//! of these bytes (4), the message, and a checksum of the message (4); numbers are little-endian,
//! checksums are CRC-32C, turned right by 15 bits and moved by 0xa282ead8. The messages are
//! `Event`s of TensorFlow's event.proto: the first says `brain.Event:2` and who wrote the file,
//! every other one holds the numbers of one row, with its step, and as its time the start of the
//! run and what was trained since.
//!
//! | row | tags |
//! |---|---|
//! | step | `train/` `loss`, `learning_rate`, `gradient_norm`, `tokens_per_s`; `tying/` `independent_layers`, `distinct_layers`, `trainable_parameters`, `block_parameters`; `memory/resident_mb` |
//! | evaluation | `validation/` or `test/` (`train_split/` of the training split) `loss`, `perplexity`, `accuracy` |
//! | evaluation of the kept model at the end, at a step that its split was evaluated at before | the same below `kept_validation/` or `kept_test/` |
//! | decision | `agent/` `epsilon`, `reward`, `q_predicted`, `q_target`, `q_loss`, `tied_events`, `untied_events`, `conflict`, `unlikeness`; where the gate measured, `refused` (0 or 1), `loss_before`, `loss_after` |
//!
//! Numbers are f32, as those of everybody's scalars; what a row lacks has no tag; NaN and the
//! infinities are written as what they are, and what the metrics hold as `null` is NaN.
//!
//! The same metrics give the same bytes. So a resumed run writes its file anew from the rows that
//! are left: what stays is written over by itself, the rest is cut off, and no step is there twice.
//! A TensorBoard that watches meanwhile need not notice.

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

/// The folder of a run that event files are in.
pub const FOLDER: &str = "tensorboard";

/// What the name of every event file begins with.
const PREFIX: &str = "events.out.tfevents";

/// The event file of a run, which may be under way: it follows the metrics.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    metrics: Follower,
    events: EventWriter<BufWriter<File>>,
}

impl EventFile {
    /// Writes the event file of a run as far as the run has come. One that was written for it
    /// before is written anew; other files in the folder stay as they are.
    ///
    /// # Errors
    /// [`ReportError::NoRun`] where `run` is no run folder, [`ReportError::Io`] where a file cannot
    /// be read or written, [`ReportError::Format`] where one is damaged, where the event file's
    /// name is that of somebody else's file, or where another process writes it.
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

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the events of the rows that are new. Where the metrics were cut, all are written
    /// anew.
    ///
    /// # Errors
    /// As [`Follower::rows`], and [`ReportError::Io`] where the event file cannot be written.
    pub fn follow(&mut self) -> Result<()> {
        let cannot = || ReportError::io("write", &self.path);
        let (rows, is_anew) = match self.metrics.rows()? {
            Some(rows) => (rows, false),
            None => (self.metrics.rows()?.unwrap_or_default(), true),
        };

        if is_anew {
            self.events.out().rewind().and_then(|()| self.events.begin()).map_err(cannot())?;
        }

        for row in &rows {
            self.events.write(row).map_err(cannot())?;
        }

        if is_anew {
            return self.cut();
        }

        self.events.out().flush().map_err(cannot())
    }

    /// Cuts off what stands behind the last event.
    fn cut(&mut self) -> Result<()> {
        let out = self.events.out();
        let end = out.stream_position();
        end.and_then(|end| out.get_ref().set_len(end)).map_err(ReportError::io("write", &self.path))
    }
}

/// Writes the event file of a run into a folder, as [`EventFile::open`] does, and says where it is.
///
/// # Errors
/// As [`EventFile::open`].
pub fn convert(run: &Path, folder: &Path) -> Result<PathBuf> {
    Ok(EventFile::open(run, folder)?.path)
}

/// The file that was written here before, whatever the run was called and whenever it was said to
/// have started then.
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

/// Opens the file to be written from its beginning, with what is in it, unless that is somebody
/// else's.
fn claim(path: &Path) -> Result<File> {
    let cannot = || ReportError::io("write", path);
    durable::unshare(path).map_err(cannot())?;

    let options =
        durable::no_links().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(cannot())?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(ReportError::format(
            path,
            "another process writes it, a run under way perhaps",
        ));
    }

    let length = file.metadata().map_err(cannot())?.len();
    let first = wire::Event::first(&file).map_err(cannot())?;
    if length > 0 && !first.as_ref().is_some_and(events::is_ours) {
        return Err(ReportError::format(
            path,
            "is there already, and was not written by dlt: move it away",
        ));
    }

    file.rewind().map_err(cannot())?;
    Ok(file)
}
