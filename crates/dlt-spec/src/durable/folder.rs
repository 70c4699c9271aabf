//! A folder that gets its name only when everything is in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{is_at, next_to, no_links, parent, refuse_existing, remove_if_dead, sync_folder};

/// A folder that is being filled under another name, `.NAME.partial`. If it is dropped before it is
/// [finished](Self::finish), it is removed.
#[derive(Debug)]
pub struct NewFolder {
    partial: PathBuf,
    place: PathBuf,
    /// Open and locked as long as this process fills it; `None` on a system that cannot open
    /// folders.
    lock: Option<File>,
    is_finished: bool,
}

impl NewFolder {
    /// Begins a folder. It replaces one that a dead process began, and parent folders are made.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has its name; [`io::ErrorKind::WouldBlock`] if
    /// another process is filling it; those of the system.
    pub fn begin(place: &Path) -> io::Result<Self> {
        refuse_existing(place)?;
        fs::create_dir_all(parent(place)).map_err(|error| above(parent(place), error))?;

        let name = place.file_name().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected a path that ends in the name of a new folder",
            )
        })?;

        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);

        let partial = next_to(&place.with_file_name(hidden));

        loop {
            match fs::create_dir(&partial) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match remove_if_dead(&partial) {
                        Ok(true) => continue,
                        // Its writer has just finished or removed it.
                        Ok(false) if fs::symlink_metadata(&partial).is_err() => continue,
                        Ok(false) => return Err(occupied()),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }

            let lock = match no_links().read(true).open(&partial) {
                Ok(folder) => Some(folder),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if cfg!(unix) => return Err(error),
                Err(_) => None,
            };

            if let Some(folder) = &lock {
                super::lock(folder, &partial)?;
                // Before it was locked, another process may have removed it as that of a dead one.
                if !is_at(folder, &partial)? {
                    continue;
                }
            }

            return Ok(Self { partial, place: place.to_owned(), lock, is_finished: false });
        }
    }

    /// The path under which it is filled.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something got its name in the meantime; those of the
    /// system. The folder is then removed.
    pub fn finish(mut self) -> io::Result<()> {
        sync_folder(&self.partial);
        // A rename would silently replace an empty folder.
        refuse_existing(&self.place)?;
        fs::rename(&self.partial, &self.place)?;
        self.is_finished = true;
        sync_folder(parent(&self.place));

        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.is_finished {
            // An unfinished folder is of no use. If it cannot be removed now, the next process
            // removes it.
            let _ = fs::remove_dir_all(&self.partial);
        }

        self.lock = None;
    }
}

/// An error about a parent folder. `AlreadyExists` would read as if it were about the new folder.
fn above(parent: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let reason = format!("{} is a file, expected a folder", parent.display());
            io::Error::new(io::ErrorKind::NotADirectory, reason)
        }
        _ => error,
    }
}

fn occupied() -> io::Error {
    io::Error::new(
        io::ErrorKind::WouldBlock,
        "another process is making it: wait until that process ends, or stop it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let place = tempfile::tempdir().expect("a folder");
        let out = place.path().join("above/out");
        let begun = NewFolder::begin(&out).expect("begun");

        fs::write(begun.path().join("file"), "text").expect("written");
        assert!(!out.exists());
        assert_eq!(NewFolder::begin(&out).expect_err("filled").kind(), io::ErrorKind::WouldBlock);
        begun.finish().expect("named");
        assert_eq!(fs::read_to_string(out.join("file")).expect("there"), "text");
        assert_eq!(names(&place.path().join("above")), ["out"]);
        assert_eq!(NewFolder::begin(&out).expect_err("there").kind(), io::ErrorKind::AlreadyExists);

        let below = NewFolder::begin(&out.join("file/below")).expect_err("below a file");
        assert_eq!(below.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let place = tempfile::tempdir().expect("a folder");
        drop(NewFolder::begin(&place.path().join("out")).expect("begun"));
        assert_eq!(names(place.path()), [""; 0]);

        // As a process leaves it that was killed.
        fs::create_dir(place.path().join(".out.partial")).expect("made");
        fs::write(place.path().join(".out.partial/old"), "half").expect("written");

        let begun = NewFolder::begin(&place.path().join("out")).expect("begun");
        assert_eq!(names(begun.path()), [""; 0]);
        begun.finish().expect("named");
        assert_eq!(names(place.path()), ["out"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_way_is_removed_and_not_followed() {
        let place = tempfile::tempdir().expect("a folder");
        fs::create_dir(place.path().join("precious")).expect("made");
        fs::write(place.path().join("precious/file"), "text").expect("written");
        std::os::unix::fs::symlink(
            place.path().join("precious"),
            place.path().join(".out.partial"),
        )
        .expect("linked");
        NewFolder::begin(&place.path().join("out")).expect("begun").finish().expect("named");
        assert!(place.path().join("precious/file").is_file());
        assert!(place.path().join("out").is_dir());
    }
}
