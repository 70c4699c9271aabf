//! The checkpoints of a run folder: which exist, which is the newest good one, which are no longer
//! needed.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dlt_spec::checksum::{self, hex};
use dlt_spec::durable;

use super::{CHUNK, Checkpoint, Contents};
use crate::disk::Disk;
use crate::exchange::Exchange;
use crate::folder::Held;
use crate::{MODEL_FILE, Result, TrainError};

/// Folder of the checkpoints, in a run folder.
pub const CHECKPOINT_FOLDER: &str = "checkpoint";

/// Ending of a file that is being written. Such a file means nothing once its writer has ended.
const PARTIAL: &str = "partial";

/// The folder of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointFolder {
    run: PathBuf,
    path: PathBuf,
    /// The run folder, if this process holds it open. Files are then found through the open folder,
    /// not by its path.
    held: Option<Held>,
}

/// What [`CheckpointFolder::newest`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest checkpoint that the run can be resumed from.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that cannot be used, and why, the newest first.
    pub refused: Vec<(PathBuf, TrainError)>,
}

impl CheckpointFolder {
    /// The folder of checkpoints in a run folder.
    #[must_use]
    pub fn of(run: &Path) -> Self {
        Self { run: run.to_owned(), path: run.join(CHECKPOINT_FOLDER), held: None }
    }

    /// The same for a run folder that this process holds open.
    pub(crate) fn held(run: &Held) -> Self {
        Self { held: Some(run.clone()), ..Self::of(run.path()) }
    }

    /// The path by which the system finds a file.
    fn real(&self, path: &Path) -> PathBuf {
        self.held.as_ref().map_or_else(|| path.to_owned(), |held| held.real(path))
    }

    /// Training steps and files of the checkpoints, the newest first.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the folder cannot be read.
    pub fn list(&self) -> Result<Vec<(usize, PathBuf)>> {
        self.numbered("step-")
    }

    /// Steps and files of the best models that are kept, the newest first.
    pub(crate) fn best_models(&self) -> Result<Vec<(usize, PathBuf)>> {
        self.numbered("best-")
    }

    /// The newest checkpoint that is whole, and whose best model and part of the metrics are whole
    /// too.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the folder cannot be read.
    pub fn newest(&self) -> Result<Found> {
        let mut found = Found::default();
        for (step, path) in self.list()? {
            match self.open(step, &path) {
                Ok(checkpoint) => {
                    found.checkpoint = Some(checkpoint);
                    break;
                }
                Err(error) => found.refused.push((path, error)),
            }
        }

        Ok(found)
    }

    /// Opens a checkpoint, and checks everything that it needs.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; also fails if the best model that it names, or its part of the
    /// metrics, is missing.
    pub fn open(&self, step: usize, path: &Path) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::open_real(path, &self.real(path))?;
        if checkpoint.step() != step {
            return Err(checkpoint
                .refuse(format!("it is of step {}, but its name says {step}", checkpoint.step())));
        }

        let metrics = self.run.join(dlt_spec::record::METRICS_FILE);
        let length = fs::metadata(self.real(&metrics)).map_or(0, |file| file.len());
        let expected = checkpoint.run().metrics_bytes;

        if length < expected {
            let metrics = metrics.display();
            return Err(checkpoint.refuse(format!(
                "it needs {expected} bytes of {metrics}, which has only {length}"
            )));
        }

        if self.best_source(&checkpoint).is_none() {
            let best = checkpoint.best_path().unwrap_or_default();
            return Err(checkpoint
                .refuse(format!("the best model, {}, is missing or damaged", best.display())));
        }

        Ok(checkpoint)
    }

    /// The file that holds the best model of a checkpoint whole: the kept one, or the run's own
    /// model file. An empty path for a checkpoint that names no best model; `None` if there is no
    /// such file.
    fn best_source(&self, checkpoint: &Checkpoint) -> Option<PathBuf> {
        let Some(best) = &checkpoint.run().best else { return Some(PathBuf::new()) };
        let kept = self.path.join(best_name(best.step));
        [kept, self.run.join(MODEL_FILE)].into_iter().find(|path| best.is_in(&self.real(path)))
    }

    /// Writes the checkpoint of `step`. `best` is the step of the best model so far, which is in
    /// the run's model file; `None` if that model is known to be here already. If anything fails,
    /// earlier checkpoints are untouched.
    pub(crate) fn save(
        &self,
        disk: &dyn Disk,
        step: usize,
        best: Option<usize>,
        contents: &Contents,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Io { action: "write", path, source }
        };

        disk.create_folder(&self.path).map_err(io(&self.path))?;
        // The best model first: a checkpoint must never exist without the model that it names.
        if let Some(best) = best {
            self.keep_best(disk, best)?;
        }

        let path = self.path.join(step_name(step));
        let partial = path.with_extension(PARTIAL);
        // This order makes it whole or absent: the content is synced before it gets its name, and
        // the name is synced after.
        let written = contents
            .write(disk, &partial, exchange)
            .and_then(|()| disk.rename(&partial, &path).map_err(io(&path)))
            .and_then(|()| disk.sync_folder(&self.path).map_err(io(&self.path)));

        if written.is_err() {
            // It takes room on a disk that may be full. If it cannot be removed, it does no harm:
            // its ending marks it as no checkpoint.
            let _ = disk.remove(&partial);
        }

        written
    }

    /// Gives the run's model file a second name here (a hard link). That is safe because the file
    /// is only ever replaced, never written in place. On a file system without hard links it is
    /// copied.
    fn keep_best(&self, disk: &dyn Disk, best: usize) -> Result<()> {
        let model = self.run.join(MODEL_FILE);
        let kept = self.path.join(best_name(best));
        if self.real(&kept).exists()
            && sha256(&self.real(&kept)).ok() == sha256(&self.real(&model)).ok()
        {
            return Ok(());
        }

        let partial = kept.with_extension(PARTIAL);
        // A file that an earlier process left under this name would make the link fail.
        let _ = disk.remove(&partial);
        let written = disk
            .link(&model, &partial)
            .or_else(|_| copy(disk, &self.real(&model), &partial))
            .and_then(|()| disk.rename(&partial, &kept));

        if written.is_err() {
            let _ = disk.remove(&partial);
        }

        written.map_err(|source| TrainError::Io { action: "write", path: kept, source })
    }

    /// Removes all but the newest `keep` checkpoints, and the best models that none of these names.
    /// A file that cannot be removed stays.
    pub(crate) fn prune(&self, disk: &dyn Disk, keep: usize) -> Result<()> {
        let steps = self.list()?;
        for (_, path) in steps.iter().skip(keep) {
            let _ = disk.remove(path);
        }

        let Some(&(oldest, _)) = steps.get(keep.min(steps.len()).saturating_sub(1)) else {
            return Ok(());
        };
        let bests = self.numbered("best-")?;

        // A checkpoint names the newest best model up to its step. Older ones than that of the
        // oldest checkpoint are named by none.
        let needed = bests.iter().find(|(step, _)| *step <= oldest).map_or(0, |(step, _)| *step);
        for (_, path) in bests.iter().filter(|(step, _)| *step < needed) {
            let _ = disk.remove(path);
        }

        Ok(())
    }

    /// Returns the folder to what it was when `checkpoint` was made, or before the first one. Newer
    /// checkpoints, which could not be used, are set aside under another name. Partial files of a
    /// stopped writer are removed. The run's model file becomes the best model of that time.
    /// Returns messages about what it did.
    pub(crate) fn rewind(&self, checkpoint: Option<&Checkpoint>) -> Result<Vec<String>> {
        let step = checkpoint.map_or(0, Checkpoint::step);
        let mut notices = Vec::new();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Io { action: "write", path, source }
        };

        for (newer, path) in self.list()?.iter().filter(|(newer, _)| *newer > step) {
            let aside = self.set_aside(*newer, "damaged")?;
            notices.push(format!("{} is set aside as {}", path.display(), aside.display()));
        }

        for path in
            self.files()?.iter().filter(|path| path.extension().is_some_and(|end| end == PARTIAL))
        {
            fs::remove_file(self.real(path)).map_err(io(path))?;
        }

        let model = self.run.join(MODEL_FILE);
        match checkpoint.and_then(|checkpoint| Some((checkpoint, checkpoint.run().best.as_ref()?)))
        {
            Some((checkpoint, best)) if !best.is_in(&self.real(&model)) => {
                let source = self.best_source(checkpoint).unwrap_or_default();
                durable::copy(&self.real(&source), &self.real(&model)).map_err(io(&model))?;
            }
            Some(_) => {}
            None if self.real(&model).exists() => {
                fs::remove_file(self.real(&model)).map_err(io(&model))?;
            }
            None => {}
        }

        // Best models of later steps, which the resumed run will make again, perhaps with other
        // results.
        for (_, path) in self.numbered("best-")?.iter().filter(|(newer, _)| *newer > step) {
            fs::remove_file(self.real(path)).map_err(io(path))?;
        }

        Ok(notices)
    }

    /// Gives a checkpoint another ending, so that it no longer counts as one; returns its new path.
    pub(crate) fn set_aside(&self, step: usize, ending: &str) -> Result<PathBuf> {
        let path = self.path.join(step_name(step));
        let aside = path.with_extension(ending);
        match fs::rename(self.real(&path), self.real(&aside)) {
            Ok(()) => Ok(aside),
            Err(source) => Err(TrainError::Io { action: "write", path, source }),
        }
    }

    /// Files that are not checkpoints: left by a stopped writer, or set aside.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the folder cannot be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let is_used = |path: &PathBuf| path.extension().is_some_and(|end| end == "safetensors");
        Ok(self.files()?.into_iter().filter(|path| !is_used(path)).collect())
    }

    /// All files of the folder, sorted; none if the folder does not exist.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let io = |source| TrainError::Io { action: "read", path: self.path.clone(), source };
        let entries = match fs::read_dir(self.real(&self.path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io(source)),
        };

        let mut files: Vec<_> = entries
            .map(|entry| Ok(self.path.join(entry?.file_name())))
            .collect::<io::Result<_>>()
            .map_err(io)?;
        files.sort();

        Ok(files)
    }

    /// Files named `prefix`, a number and `.safetensors`, with the greatest number first.
    fn numbered(&self, prefix: &str) -> Result<Vec<(usize, PathBuf)>> {
        let number = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            let digits = name.strip_prefix(prefix)?.strip_suffix(".safetensors")?;
            let number =
                // Only names that this program writes: `step-7` without zeros would otherwise count
                // as a second file of step 7.
                digits.parse().ok().filter(|&number| name == numbered_name(prefix, number))?;

            Some((number, path))
        };

        let mut found: Vec<_> = self.files()?.into_iter().filter_map(number).collect();
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(found)
    }
}

fn step_name(step: usize) -> String {
    numbered_name("step-", step)
}

pub(super) fn best_name(step: usize) -> String {
    numbered_name("best-", step)
}

/// Padded with zeros, so that sorting by name sorts by number.
fn numbered_name(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:012}.safetensors")
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    checksum::of_file(path).map(|digest| hex(&digest))
}

/// Copies a file through the given file system, and syncs the copy.
fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let mut source = dlt_spec::file::regular(from, u64::MAX)?;
    let mut out = disk.create(to)?;
    let mut chunk = vec![0; CHUNK];

    loop {
        match source.read(&mut chunk)? {
            0 => return out.sync(),
            read => out.write_all(&chunk[..read])?,
        }
    }
}
