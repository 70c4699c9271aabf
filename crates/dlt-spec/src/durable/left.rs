//! Half-made folders that killed processes left.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PARTIAL, is_dead};

/// Half-made folders in this one, in order of their names: `.NAME.partial`, and
/// `.NAME.PROCESS.partial` of earlier builds. Those that a living process is filling are not among
/// them, nor are files and folders with other names.
#[must_use]
pub fn dead_folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_half_made = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name
            .to_str()
            .and_then(|name| name.strip_prefix('.')?.strip_suffix(PARTIAL)?.strip_suffix('.'));
        name.is_some_and(|name| !name.is_empty() && !may_live(name))
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
    };

    let mut found: Vec<_> = entries
        .flatten()
        .filter(is_half_made)
        .map(|entry| entry.path())
        .filter(|path| is_dead(path))
        .collect();
    found.sort();

    found
}

/// Whether a half-made folder would become this place: its name is `.NAME.partial`, or
/// `.NAME.PROCESS.partial` of earlier builds.
#[must_use]
pub fn is_named_after(partial: &Path, place: &Path) -> bool {
    let (Some(partial), Some(place)) = (partial.file_name(), place.file_name()) else {
        return false;
    };

    // Compared as bytes, because a name need not be text.
    let after_dot = partial.as_encoded_bytes().strip_prefix(b".");
    let rest = after_dot.and_then(|name| name.strip_prefix(place.as_encoded_bytes()));
    let Some(rest) = rest.and_then(|rest| rest.strip_suffix(PARTIAL.as_bytes())) else {
        return false;
    };

    let number = rest.strip_prefix(b".").and_then(|rest| rest.strip_suffix(b"."));

    rest == b"."
        || number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// Whether a name ends in the number of a process that exists. Earlier builds held no lock on a
/// folder that they were making.
fn may_live(name: &str) -> bool {
    let number = name.rsplit_once('.').map_or("", |(_, number)| number);
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let processes = Path::new("/proc");
    // If the system does not list its processes, any number may be that of a living one.
    is_number && (processes.join(number).exists() || !processes.join("self").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{NewFolder, remove_if_dead};

    #[test]
    fn half_made_folders_of_dead_processes_are_found_and_no_others() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);

        // No process has a number as large.
        for name in [
            ".run.partial",
            ".old.4294967295.partial",
            ".partial",
            "run.partial",
            ".run.part",
            "run",
        ] {
            fs::create_dir(at(name)).expect("made");
        }

        fs::write(at(".run.partial/file"), "half").expect("written");
        fs::write(at(".file.partial"), "half").expect("written");
        fs::create_dir(at(&format!(".mine.{}.partial", std::process::id()))).expect("made");

        let living = NewFolder::begin(&at("living")).expect("begun");
        assert_eq!(dead_folders(place.path()), [at(".old.4294967295.partial"), at(".run.partial")]);
        assert!(!remove_if_dead(living.path()).expect("looked at") && living.path().is_dir());

        for path in dead_folders(place.path()) {
            assert!(remove_if_dead(&path).expect("removed"));
        }

        assert!(dead_folders(place.path()).is_empty());
        assert!(at("run.partial").is_dir() && at(".file.partial").is_file());
    }

    #[test]
    fn a_half_made_folder_is_named_after_one_place() {
        let cases = [
            (".run.partial", "run", true),
            (".run.12.partial", "run", true),
            (".run.v2.partial", "run.v2", true),
            (".run.v2.partial", "run", false),
            (".run.partial", "ru", false),
            (".run-2.partial", "run", false),
            (".run.partial", "other", false),
            (".run.12partial", "run", false),
            (".runpartial", "run", false),
            (".run..partial", "run", false),
            ("run.partial", "run", false),
        ];

        for (partial, place, expected) in cases {
            let is_named =
                is_named_after(&Path::new("a").join(partial), &Path::new("a").join(place));
            assert_eq!(is_named, expected, "{partial} of {place}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_no_half_made_one() {
        let place = tempfile::tempdir().expect("a folder");
        fs::create_dir(place.path().join("precious")).expect("made");
        let link = place.path().join(".run.partial");
        std::os::unix::fs::symlink(place.path().join("precious"), link).expect("linked");
        assert!(dead_folders(place.path()).is_empty());
    }
}
