//! Which half-made folders a repair may remove: only those of the run that is named, and only if
//! everything in them is a file that dlt writes.

use std::fs;
use std::io;
use std::path::Path;

use dlt_data::{COMPANIONS_FOLDER, Companions};
use dlt_run::CARD_FILE;
use dlt_spec::durable;
use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, SPEC_FILE, STATES_FILE};
use dlt_train::{LOCK_FILE, MODEL_FILE};

/// Files in folders of runs and exports that do not have their final names yet, besides the
/// companions of their models. Checkpoints and summaries are not among them: a folder gets its name
/// before the first step, so an unnamed one that holds them is somebody's copy.
const FILES: [&str; 7] =
    [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE, LOCK_FILE, MODEL_FILE, CARD_FILE];

/// Why a repair must not remove a half-made folder; `None` if it is what a dead process left of
/// `place`.
pub(super) fn reason_to_leave(partial: &Path, place: &Path) -> Option<String> {
    if !durable::is_named_after(partial, place) {
        return Some(format!("it is not named after {}", place.display()));
    }

    match foreign(partial, "") {
        Ok(None) => None,
        Ok(Some(name)) => Some(format!("dlt puts no {name} into a new run or export")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

/// The name of the first entry below a folder that dlt does not put there. `above` is the folder's
/// path relative to the half-made one, with a slash at its end.
fn foreign(folder: &Path, above: &str) -> io::Result<Option<String>> {
    // Sorted, so that the message names the same entry every time.
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);

    for entry in entries {
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() && is_folder(&name) {
            let found = foreign(&entry.path(), &format!("{name}/"))?;
            if found.is_some() {
                return Ok(found);
            }
        } else if !kind.is_file() || !is_file(&name) {
            return Ok(Some(name));
        }
    }

    Ok(None)
}

/// Whether dlt makes a folder of this name: the one of companions, or a folder within it.
fn is_folder(name: &str) -> bool {
    name == COMPANIONS_FOLDER || Companions::is_folder(of_companions(name))
}

/// Whether dlt writes a file of this name, or is in the middle of writing it.
fn is_file(name: &str) -> bool {
    let partial = name.strip_suffix(durable::PARTIAL).and_then(|name| name.strip_suffix('.'));
    let name = partial.unwrap_or(name);
    FILES.contains(&name) || Companions::is_name(of_companions(name))
}

/// The name of a companion, without the folder of companions: an export in the layout of
/// transformers has its companions at the top.
fn of_companions(name: &str) -> &str {
    name.strip_prefix(COMPANIONS_FOLDER).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}
