//! Which half-made folders a repair may remove: those of the run that is named, with nothing in
//! them but what dlt writes.

use std::fs;
use std::io;
use std::path::Path;

use dlt_data::{COMPANIONS_FOLDER, Companions};
use dlt_spec::durable;
use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, SPEC_FILE, STATES_FILE};
use dlt_train::{LOCK_FILE, MODEL_FILE};

use crate::export::CARD_FILE;

/// Files of runs and exports that have not got their names yet, besides the companions of their
/// models. Checkpoints and summaries are not among them: a folder has its name before the first
/// step, so one that holds them is a copy.
const FILES: [&str; 7] =
    [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE, LOCK_FILE, MODEL_FILE, CARD_FILE];

/// Why a repair leaves a half-made folder as it is; nothing where the folder is a dead process's
/// remains of `place`.
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

/// The first thing below a folder that dlt does not put into it. `above` is the folder's path from
/// the half-made one, with a slash at its end.
fn foreign(folder: &Path, above: &str) -> io::Result<Option<String>> {
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

/// Folders are those of companions, and those in which companions are.
fn is_folder(name: &str) -> bool {
    name == COMPANIONS_FOLDER || Companions::is_folder(of_companions(name))
}

fn is_file(name: &str) -> bool {
    let partial = name.strip_suffix(durable::PARTIAL).and_then(|name| name.strip_suffix('.'));
    let name = partial.unwrap_or(name);
    FILES.contains(&name) || Companions::is_name(of_companions(name))
}

/// The name of a companion: an export in the layout of transformers has companions in no folder.
fn of_companions(name: &str) -> &str {
    name.strip_prefix(COMPANIONS_FOLDER).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}
