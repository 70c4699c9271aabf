//! Opens files from outside without waiting for anything and without endless reading.
//!
//! A pipe, a socket or a device has no size and may have no end. A file may be larger than the
//! memory. Both are refused before the first byte is read.

use std::{
    fs::{File, Metadata, ReadDir},
    io::{self, ErrorKind, Read},
    path::Path,
};

/// Largest size of a configuration, a record or a specification, in bytes: a thousand times that of
/// the largest known.
pub const CONFIGURATION_BYTES: u64 = 64 << 20;

/// Largest size of a recording or of metrics that are read whole, in bytes: about ten million
/// lines.
pub const RECORD_BYTES: u64 = 2 << 30;

/// Opens a file for reading.
///
/// ```
/// let error = dlt_spec::file::regular(std::path::Path::new("."), u64::MAX).unwrap_err();
/// assert_eq!(error.to_string(), "it is a folder, expected a file");
/// ```
///
/// # Errors
/// If it cannot be opened, is not a regular file, or has more than `most` bytes.
pub fn regular(path: &Path, most: u64) -> io::Result<File> {
    // Checked before it is opened, because opening a pipe waits for its writer.
    check(&metadata(path)?, most)?;
    let file = File::open(path)?;
    // Checked again: another file may have got the name in between.
    check(&file.metadata()?, most)?;

    Ok(file)
}

/// The bytes of a whole file.
///
/// # Errors
/// Those of [`regular`], and if it cannot be read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = regular(path, most)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default());

    // The file may grow while it is read: one byte more than `most` shows that.
    if file.take(most.saturating_add(1)).read_to_end(&mut bytes)? as u64 > most {
        return Err(too_large(bytes.len() as u64, most));
    }

    Ok(bytes)
}

/// The text of a whole file.
///
/// # Errors
/// Those of [`read`], and if it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("not UTF-8: {error}")))
}

/// Opens a folder to list its files.
///
/// # Errors
/// If it cannot be read or is not a folder.
pub fn folder(path: &Path) -> io::Result<ReadDir> {
    let kind = metadata(path)?.file_type();
    if !kind.is_dir() {
        let found = if kind.is_file() { "a file" } else { special(kind) };
        return Err(io::Error::new(
            ErrorKind::NotADirectory,
            format!("it is {found}, expected a folder"),
        ));
    }

    path.read_dir()
}

/// Refuses what is neither a file nor a folder.
///
/// # Errors
/// If it is a pipe, a socket or a device, or does not exist.
pub fn regular_or_folder(path: &Path) -> io::Result<Metadata> {
    let metadata = metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(metadata);
    }

    let reason = format!(
        "it is {}, expected a file or a folder: save its content as a file first",
        special(kind)
    );

    Err(io::Error::new(ErrorKind::InvalidInput, reason))
}

/// Whether something has this name, even a link that leads nowhere.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The metadata of what a path leads to. The error about a broken link names its target.
fn metadata(path: &Path) -> io::Result<Metadata> {
    path.metadata().map_err(|error| match (error.kind(), path.read_link()) {
        (ErrorKind::NotFound, Ok(target)) => {
            let reason = format!("it is a link to {}, which does not exist", target.display());
            io::Error::new(ErrorKind::NotFound, reason)
        }
        _ => error,
    })
}

fn check(metadata: &Metadata, most: u64) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder, expected a file"));
    }

    if !kind.is_file() {
        let reason =
            format!("it is {}, expected a file: save its content as one first", special(kind));
        return Err(io::Error::new(ErrorKind::InvalidInput, reason));
    }

    if metadata.len() > most {
        return Err(too_large(metadata.len(), most));
    }

    Ok(())
}

fn too_large(bytes: u64, most: u64) -> io::Error {
    let reason = format!("it has {bytes} bytes, expected at most {most}");
    io::Error::new(ErrorKind::FileTooLarge, reason)
}

#[cfg(unix)]
fn special(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn special(_: std::fs::FileType) -> &'static str {
    "a device"
}
