//! Notes which contents of the cache were compared with the hub's checksum, so that a later start
//! need not do it again.
//!
//! `blobs/SHA256.checked`, next to the content itself, holds one line:
//! `1 SIZE SECONDS NANOSECONDS DEVICE INODE`, where 1 is the version of the layout. The others are
//! the file's size, its time of change, and the device and inode that identify it. If the line
//! still fits the file, the content is used as it is. Otherwise it is read and compared once. If no
//! note can be written, as in a shared read-only cache, each start compares.

use crate::{
    checksum::{self, hex},
    durable,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Ending of the notes' names.
const ENDING: &str = "checked";

/// What a file of the cache holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The content that the hub states.
    Right,
    /// Another content, with this SHA-256.
    Wrong(String),
}

/// Compares a file with a SHA-256, unless it was compared before and has not changed. `begin` gets
/// the number of bytes before they are read.
pub(super) fn compare(
    path: &Path,
    blob: &Path,
    sha256: &str,
    begin: impl FnOnce(u64),
) -> io::Result<Content> {
    let note = note(blob);
    let before = identity(path)?;
    if fs::read_to_string(&note).is_ok_and(|noted| noted == before) {
        return Ok(Content::Right);
    }

    begin(fs::metadata(path)?.len());
    let found = hex(&checksum::of_file(path)?);
    if found != sha256 {
        return Ok(Content::Wrong(found));
    }

    // A file that changed while it was read is compared again next time.
    if identity(path)? == before {
        write(&note, &before);
    }

    Ok(Content::Right)
}

/// Notes that a content was compared when it was fetched.
pub(super) fn remember(blob: &Path) {
    match identity(blob) {
        Ok(identity) => write(&note(blob), &identity),
        Err(error) => tracing::debug!(path = %blob.display(), %error, "not noted as compared"),
    }
}

fn write(note: &Path, identity: &str) {
    if let Err(error) = durable::replace(note, identity.as_bytes()) {
        tracing::debug!(path = %note.display(), %error, "not noted as compared");
    }
}

fn note(blob: &Path) -> PathBuf {
    blob.with_extension(ENDING)
}

/// What identifies an unchanged file.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(path)?;
    let size = file.len();
    let seconds = file.mtime();
    let nanoseconds = file.mtime_nsec();

    Ok(format!("1 {size} {seconds} {nanoseconds} {} {}\n", file.dev(), file.ino()))
}

/// Elsewhere a file has no inode number.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<String> {
    let file = fs::metadata(path)?;
    let changed = file.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("1 {} {} {} 0 0\n", file.len(), changed.as_secs(), changed.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc", by the standard that defines it.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_content_is_read_once_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join(ABC);
        fs::write(&blob, "abc").unwrap();

        let look = || {
            let mut read = None;
            let content = compare(&blob, &blob, ABC, |bytes| read = Some(bytes)).unwrap();
            (content, read)
        };

        assert_eq!(look(), (Content::Right, Some(3)));
        assert_eq!(look(), (Content::Right, None));

        // The same size, and the inode of another file.
        fs::write(folder.path().join("other"), "abd").unwrap();
        fs::rename(folder.path().join("other"), &blob).unwrap();

        let (content, read) = look();
        assert!(matches!(content, Content::Wrong(found) if found != ABC));
        assert_eq!(read, Some(3));
    }
}
