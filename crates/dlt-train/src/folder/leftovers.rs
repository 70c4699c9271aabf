//! Files that processes left in a run folder when they were killed while writing.

use std::fs;
use std::path::{Path, PathBuf};

use dlt_spec::durable;

/// Folder of a run's tables, which are written by processes other than the run.
const TABLES: &str = "csv";

/// Partial files in a run folder and its tables that no process holds, and models that builds
/// before layout 2 left under a temporary name. Partial checkpoints are not among them.
pub(crate) fn leftovers(run: &Path) -> Vec<PathBuf> {
    let mut found = durable::dead(run);
    found.extend(durable::dead(&run.join(TABLES)));
    found.extend(temporary(run));
    found
}

/// Removes the [`leftovers`], for the process that holds the run folder. Returns the files that are
/// gone; a file that cannot be removed stays.
pub(crate) fn remove_leftovers(run: &Path) -> Vec<PathBuf> {
    let mut removed = durable::remove_dead(run);
    removed.extend(durable::remove_dead(&run.join(TABLES)));
    removed.extend(temporary(run).into_iter().filter(|path| fs::remove_file(path).is_ok()));
    removed
}

/// Files named `.tmp` and six letters or digits.
fn temporary(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run) else { return Vec::new() };
    let is_temporary = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let letters = name.to_str().and_then(|name| name.strip_prefix(".tmp"));
        letters.is_some_and(|rest| {
            rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }) && entry.file_type().is_ok_and(|kind| kind.is_file())
    };

    let mut found: Vec<_> =
        entries.flatten().filter(is_temporary).map(|entry| entry.path()).collect();
    found.sort();

    found
}
