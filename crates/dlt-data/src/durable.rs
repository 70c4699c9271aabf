//! Files that are either the old or the new, never half of either, and of which nothing else is left behind.

use crate::error::DataError;
use dlt_spec::waiting::{self, Waiting};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Ending of a file that is being written.
pub(crate) const PARTIAL: &str = "partial";

/// Replaces a file by these bytes, making its folders.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed = |error: io::Error| DataError::Write { path: path.to_owned(), reason: error.to_string() };
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed)?;
    let temporary = beside(path);
    let written = claim(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        // What is left of a failed write is only in the way.
        let _ = fs::remove_file(&temporary);
        return Err(failed(error));
    }
    sync_folder(folder);
    Ok(())
}

/// The name beside a file under which it is written: always the same, so that whoever comes after a process that was
/// killed writes over what it left.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{PARTIAL}"))
}

/// Opens a file to be written, empty and under a lock, once nobody else writes it; whoever renames or removes it does so
/// with the file still open. Behind a process that does not go on it fails.
pub(crate) fn claim(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        let what = "a file that another process writes";
        waiting::lock(&file, path, &Waiting { what, grows: path, still: waiting::STILL })?;
        // Whoever had the lock before may have renamed the file: then it is theirs.
        if is_at(&file, path)? {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

/// Whether an open file is still the one of this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(there) => Ok(identity(there) == identity(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere a file that is open and locked cannot be renamed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// A rename is on disk once its folder is; not every system can sync one, and none needs it to go on.
pub(crate) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
