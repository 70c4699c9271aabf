//! Files and folders that are either whole or absent, with no remains of a failed write.
//!
//! While a file is being written, its name has the ending `.partial` and its writer holds a lock on
//! it. The system frees the lock however the writer ends, so the next process can recognise and
//! remove what a dead one left. Nothing is opened for writing through a link. An existing file is
//! never written to, but replaced. The mode of every file and folder is the one that the umask
//! gives.

mod folder;
mod left;

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::waiting::{self, Waiting};

pub use folder::NewFolder;
pub use left::{dead_folders, is_named_after};

/// Ending of a file or folder that is being written.
pub const PARTIAL: &str = "partial";

/// Replaces a file by these bytes.
///
/// # Errors
/// Those of the system. The file at `path` is then unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// Replaces a file by what `write` puts into a new one.
///
/// # Errors
/// Those of the system and of `write`. The file at `path` is then unchanged.
pub fn replace_with<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    put(path, write, |partial| fs::rename(partial, path))
}

/// Makes a file of these bytes if nothing has its name.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something has its name, which stays unchanged; those of the
/// system.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    refuse_existing(path)?;

    // A rename would replace a file that got the name in the meantime; a hard link does not.
    let name = |partial: &Path| match fs::hard_link(partial, path) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links.
        Err(_) => refuse_existing(path).and_then(|()| fs::rename(partial, path)),
    };

    put(path, |file| file.write_all(bytes), name)
}

/// Writes a partial file, syncs it and gives it its name.
fn put<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
    name: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), E> {
    let partial = next_to(path);
    let mut file = claim(&partial)?;
    let written = write(&mut file).and_then(|()| {
        file.sync_all()?;
        Ok(name(&partial)?)
    });

    if written.is_err() {
        // The remains of a failed write are of no use.
        let _ = fs::remove_file(&partial);
        return written;
    }

    sync_folder(parent(path));
    Ok(())
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it already exists")),
        Err(_) => Ok(()),
    }
}

/// The name under which a file or folder is written: always the same, so that the next process
/// finds what a dead one left.
#[must_use]
pub fn next_to(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(PARTIAL);
    path.with_file_name(name)
}

/// A new empty file that this process has locked. It first waits until no other process writes a
/// file of this name. Rename or remove the file before it is dropped.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if another process was stopped while it writes, or makes no progress
/// for a minute; those of the system.
pub fn claim(path: &Path) -> io::Result<File> {
    claim_after(path, |file| lock(file, path))
}

/// The same with another way to wait for a lock.
///
/// # Errors
/// Those of `lock` and of the system.
pub fn claim_after(path: &Path, lock: impl Fn(&File) -> io::Result<()>) -> io::Result<File> {
    loop {
        if let Some(left) = open_to_lock(path)? {
            lock(&left)?;
            // Its writer may have renamed it in the meantime. Then it must not be removed.
            if is_at(&left, path)? {
                fs::remove_file(path)?;
            }
        }

        match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Ok(file) => {
                lock(&file)?;
                // Before it was locked, another process may have removed it as that of a dead one.
                if is_at(&file, path)? {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Options for opening a file that do not follow a link in the last part of a path and do not wait
/// for the other end of a pipe.
#[must_use]
pub fn no_links() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }

    options
}

/// Refuses a path that is a link. A path that does not exist yet is fine.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is a link.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a link, through which nothing is written: put the file or folder itself in its \
             place",
        )),
        _ => Ok(()),
    }
}

/// Whether an open file has no second name.
///
/// # Errors
/// Those of the system.
pub fn is_sole(file: &File) -> io::Result<bool> {
    Ok(n_names(&file.metadata()?) <= 1)
}

/// Makes sure that no other name shares the content of a file before it is changed in place. A file
/// with a second name, which a backup by hard links makes, is replaced by a copy.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is a link; those of the system.
pub fn unshare(path: &Path) -> io::Result<()> {
    refuse_link(path)?;
    match fs::metadata(path) {
        Ok(found) if n_names(&found) > 1 => copy(path, path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces the file `to` by a copy of the file `from`.
///
/// # Errors
/// Those of the system. The file at `to` is then unchanged.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = crate::file::regular(from, u64::MAX)?;
    replace_with(to, |file| io::copy(&mut source, file).map(drop))
}

/// Removes from a folder what processes left that died while they wrote there: files and folders
/// with the ending `.partial` that no process has locked. Returns their paths. What cannot be
/// removed stays.
pub fn remove_dead(folder: &Path) -> Vec<PathBuf> {
    dead(folder)
        .into_iter()
        .filter(|path| remove_if_dead(path).is_ok_and(|removed| removed))
        .collect()
}

/// What [`remove_dead`] would remove, in order.
#[must_use]
pub fn dead(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_partial = |path: &PathBuf| path.extension().is_some_and(|ending| ending == PARTIAL);
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_partial(path) && is_dead(path))
        .collect();

    found.sort();
    found
}

/// Whether no process has locked a partial file or folder. A link or a pipe with such a name
/// belongs to no process.
fn is_dead(path: &Path) -> bool {
    let kind = fs::symlink_metadata(path).map(|found| found.file_type());
    if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
        return true;
    }

    // A shared lock, so that two processes that look at the same time do not see each other's lock.
    let is_free = |file: File| !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    no_links().read(true).open(path).is_ok_and(is_free)
}

/// Removes a partial file or folder, unless a process has locked it. Returns whether it is gone.
///
/// # Errors
/// Those of the system.
pub fn remove_if_dead(path: &Path) -> io::Result<bool> {
    let Some(file) = open_to_lock(path)? else { return Ok(true) };
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&file, path)? {
        return Ok(false);
    }

    if file.metadata()?.is_dir() {
        fs::remove_dir_all(path)?;
    } else {
        fs::remove_file(path)?;
    }

    Ok(true)
}

/// Opens what another process may be writing, only for its lock; `None` if it does not exist. A
/// link or a pipe with such a name was not made by this program. It is removed; the target of the
/// link stays unchanged.
fn open_to_lock(path: &Path) -> io::Result<Option<File>> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };

    if !kind.is_file() && !kind.is_dir() {
        fs::remove_file(path)?;
        return Ok(None);
    }

    match no_links().read(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks a file or a folder that another process may be writing.
fn lock(file: &File, path: &Path) -> io::Result<()> {
    let what = "what another process writes here";
    waiting::lock(file, path, &Waiting { what, grows: path, still: waiting::STILL })
}

/// Whether an open file is still the one of this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(identity(there) == identity(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// On other systems a file that is open and locked cannot be renamed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

#[cfg(unix)]
fn n_names(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn n_names(_found: &Metadata) -> u64 {
    1
}

/// The folder of a file, `.` for a path without a folder.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a folder: a rename is on disk only when its folder is. Not every system can sync a folder,
/// so errors are ignored.
pub fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();

        names
    }

    #[test]
    fn what_a_dead_writer_left_is_replaced_and_a_living_one_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(next_to(&path), "half").expect("written");
        replace(&path, b"whole").expect("replaced");

        assert_eq!(
            (names(folder.path()), fs::read(&path).expect("there")),
            (vec!["file".to_owned()], b"whole".into())
        );

        fs::write(folder.path().join("dead.partial"), "half").expect("written");

        let living = claim(&folder.path().join("living.partial")).expect("claimed");
        assert_eq!(remove_dead(folder.path()), [folder.path().join("dead.partial")]);
        assert_eq!(names(folder.path()), ["file", "living.partial"]);
        drop(living);
        assert_eq!(dead(folder.path()), [folder.path().join("living.partial")]);
    }

    #[test]
    fn a_failed_write_leaves_the_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        replace(&path, b"first").expect("written");

        let failed = replace_with(&path, |file| {
            file.write_all(b"second")?;
            Err(io::Error::other("no more"))
        });

        assert_eq!(failed.expect_err("refused").to_string(), "no more");

        assert_eq!(
            (names(folder.path()), fs::read(&path).expect("there")),
            (vec!["file".to_owned()], b"first".into())
        );
    }

    #[test]
    fn a_new_file_takes_no_name_that_something_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        create(&path, b"first").expect("created");
        assert_eq!(
            create(&path, b"second").expect_err("there").kind(),
            io::ErrorKind::AlreadyExists
        );

        assert_eq!(
            (names(folder.path()), fs::read(&path).expect("there")),
            (vec!["file".to_owned()], b"first".into())
        );
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);

        fs::write(at("precious"), "precious").expect("written");
        symlink(at("precious"), at("file.partial")).expect("linked");
        symlink(at("precious"), at("file")).expect("linked");
        replace(&at("file"), b"ours").expect("replaced");
        assert_eq!(fs::read(at("file")).expect("there"), b"ours");
        fs::hard_link(at("precious"), at("other.partial")).expect("linked");
        replace(&at("other"), b"ours").expect("replaced");
        fs::hard_link(at("precious"), at("grown")).expect("linked");
        unshare(&at("grown")).expect("copied");
        fs::write(at("grown"), "changed").expect("written");
        symlink(at("precious"), at("link")).expect("linked");
        assert!(unshare(&at("link")).expect_err("a link").to_string().contains("it is a link"));
        assert!(no_links().write(true).open(at("link")).is_err());
        assert_eq!(fs::read(at("precious")).expect("there"), b"precious");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_mode_of_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name)).expect("there").permissions().mode()
        };

        fs::write(folder.path().join("plain"), "").expect("written");
        replace(&folder.path().join("ours"), b"").expect("written");
        assert_eq!(mode("ours"), mode("plain"));
    }
}
