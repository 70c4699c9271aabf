//! Files that are replaced as a whole: either the old or the new one exists, never half of one, and
//! nothing else is left.

use crate::error::DataError;
use dlt_spec::waiting::{self, Waiting};
use std::{
    fs::{self, File},
    io,
    path::Path,
};

pub(crate) use dlt_spec::durable::{
    PARTIAL, dead, next_to, no_links, remove_dead, remove_if_dead, sync_folder,
};

/// Replaces a file by these bytes, and makes its folders.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed =
        |error: io::Error| DataError::Write { path: path.to_owned(), reason: error.to_string() };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    dlt_spec::durable::replace(path, bytes).map_err(failed)
}

/// A new empty file under a lock, after waiting for any other process that writes one of this name.
/// Rename or remove it before it is dropped. It fails if the other process makes no progress.
pub(crate) fn claim(path: &Path) -> io::Result<File> {
    let what = "a file that another process writes";
    dlt_spec::durable::claim_after(path, |file| {
        waiting::lock(file, path, &Waiting { what, grows: path, still: waiting::STILL })
    })
}
