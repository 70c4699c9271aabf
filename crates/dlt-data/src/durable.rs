//! Files that are either the old or the new, never half of either.

use crate::error::DataError;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Replaces a file by these bytes, making its folders.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed = |error: io::Error| DataError::Write { path: path.to_owned(), reason: error.to_string() };
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed)?;
    let temporary = beside(path);
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What is left of a failed write is only in the way.
        let _ = fs::remove_file(&temporary);
        return Err(failed(error));
    }
    sync_folder(folder);
    Ok(())
}

/// A name beside a file that no other process or thread uses.
pub(crate) fn beside(path: &Path) -> PathBuf {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let nonce = NAMES.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{}-{nonce}.partial", process::id()))
}

/// A rename is on disk once its folder is; not every system can sync one, and none needs it to go on.
pub(crate) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
