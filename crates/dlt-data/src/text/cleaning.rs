//! Emptying the token cache.

use crate::{durable, error::DataError, hub::lock, text::cache};
use std::{fs, io, path::Path};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes every file that this crate writes into a token cache: tokens, unfinished tokens, and
/// lock files of data sets of the hub. Other files in the folder stay, and so does the hub's own
/// cache. A run that has tokens open can continue with them.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed. A folder that does not exist counts as
/// empty.
pub fn clean(cache: &Path) -> Result<Cleaned, DataError> {
    let mut cleaned = Cleaned::default();
    let is_tokens = |name: &str| {
        let digits =
            |stem: &str| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        name.rsplit_once('.').is_some_and(|(stem, ending)| {
            digits(stem) && [cache::EXTENSION, durable::PARTIAL].contains(&ending)
        })
    };

    clean_folder(cache, &is_tokens, &mut cleaned)?;
    let locks = cache.join(lock::FOLDER);
    clean_folder(&locks, &|name| name.ends_with(lock::EXTENSION), &mut cleaned)?;

    // Fails, and leaves the folder, if anything else is in it.
    let _ = fs::remove_dir(&locks);
    Ok(cleaned)
}

fn clean_folder(
    folder: &Path,
    is_ours: &dyn Fn(&str) -> bool,
    cleaned: &mut Cleaned,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };

    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let metadata = entry.metadata().map_err(unreadable)?;
        if !metadata.is_file() || !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }

        let path = entry.path();
        fs::remove_file(&path)
            .map_err(|error| DataError::Write { path: path.clone(), reason: error.to_string() })?;
        cleaned.files += 1;
        cleaned.bytes += metadata.len();
    }

    Ok(())
}
