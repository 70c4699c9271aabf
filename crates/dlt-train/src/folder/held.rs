//! A folder that is held open, so that it stays the same whatever its path names later.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, UnnamedFile};
use crate::{Result, TrainError};

/// A folder that this process holds open. It stays the same folder even if its path is given to
/// another one.
#[derive(Clone, Debug)]
pub struct Held {
    path: PathBuf,
    /// A path that leads to the held folder itself, if the system has such paths; else the path
    /// that it was opened by.
    inside: PathBuf,
    /// The open folder, so that no other folder can get its inode number; `None` on a system that
    /// cannot open folders.
    folder: Option<Arc<File>>,
}

impl Held {
    /// Opens the folder that the path names now.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = match File::open(path) {
            Ok(folder) => Some(Arc::new(folder)),
            Err(_) if cfg!(not(unix)) => None,
            Err(error) => return Err(error),
        };

        let inside = match &folder {
            Some(folder) => descriptor(folder).unwrap_or_else(|| path.to_owned()),
            None => path.to_owned(),
        };

        Ok(Self { path: path.to_owned(), inside, folder })
    }

    /// The same folder, which was renamed to `path` since.
    pub(crate) fn renamed(mut self, path: &Path) -> Self {
        if self.inside == self.path {
            path.clone_into(&mut self.inside);
        }
        path.clone_into(&mut self.path);
        self
    }

    /// The path that the folder was opened by, which messages name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads to this folder as long as this value or a clone of it exists, even if
    /// `path` names another one.
    #[must_use]
    pub fn lasting_path(&self) -> PathBuf {
        self.inside.clone()
    }

    /// The path by which the system finds a file of the held folder, whatever has its path now. A
    /// path outside of the folder is returned unchanged.
    pub(crate) fn real(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.path) {
            // Joining an empty path would add a separator.
            Ok(inner) if inner.as_os_str().is_empty() => self.inside.clone(),
            Ok(inner) => self.inside.join(inner),
            Err(_) => path.to_owned(),
        }
    }

    /// Fails if the path now names another folder, or none.
    ///
    /// # Errors
    /// [`TrainError::Moved`].
    pub(crate) fn check(&self) -> Result<()> {
        let io = |source| TrainError::Io { action: "read", path: self.path.clone(), source };
        let Some(folder) = &self.folder else { return Ok(()) };
        let held = folder.metadata().map_err(io)?;

        match fs::metadata(&self.path) {
            Ok(named) if is_same(&held, &named) => Ok(()),
            Err(error) if !is_gone(&error) => Err(io(error)),
            _ => Err(TrainError::Moved { path: self.path.clone(), now: self.now(&held) }),
        }
    }

    /// Where the folder is now; `None` if it was removed, or if the system does not say.
    fn now(&self, held: &Metadata) -> Option<PathBuf> {
        let now = fs::read_link(&self.inside).ok()?;
        fs::metadata(&now).is_ok_and(|named| is_same(held, &named)).then_some(now)
    }

    /// A disk that finds the files of this folder through the open folder, not by its path.
    pub(crate) fn on<'a>(&'a self, disk: &'a dyn Disk) -> HeldDisk<'a> {
        HeldDisk { held: self, disk }
    }
}

/// The path under which Linux shows an open folder. It follows the folder through every rename.
fn descriptor(folder: &File) -> Option<PathBuf> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        // Checked, because /proc can be missing or restricted.
        let held = folder.metadata().ok()?;
        let named = fs::metadata(&path).ok()?;
        is_same(&held, &named).then_some(path)
    }

    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Outside of Unix an open folder cannot be renamed, so it is always the same.
#[cfg(not(unix))]
fn is_same(_one: &Metadata, _other: &Metadata) -> bool {
    true
}

/// See [`Held::on`]. Every operation first checks that the path still names the folder, for systems
/// that can only find it by its path.
pub(crate) struct HeldDisk<'a> {
    held: &'a Held,
    disk: &'a dyn Disk,
}

impl HeldDisk<'_> {
    fn real(&self, path: &Path) -> io::Result<PathBuf> {
        self.held.check().map_err(io::Error::other)?;
        Ok(self.held.real(path))
    }
}

impl Disk for HeldDisk<'_> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(&self.real(path)?)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.create_folder(&self.real(path)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(&self.real(from)?, &self.real(to)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(&self.real(from)?, &self.real(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(&self.real(path)?)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_folder(&self.real(path)?)
    }

    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>> {
        self.disk.unnamed(&self.real(folder)?)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_held_folder_is_known_from_one_that_has_its_path() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("run");
        let aside = place.path().join("aside");

        fs::create_dir(&path).expect("made");
        let held = Held::open(&path).expect("opened");
        held.check().expect("it is the same");
        assert_eq!(held.real(&place.path().join("other")), place.path().join("other"));

        fs::rename(&path, &aside).expect("renamed");

        let says = held.check().expect_err("its path is gone").to_string();
        assert!(says.contains(&*path.to_string_lossy()), "{says}");
        fs::create_dir(&path).expect("another one");
        assert!(matches!(held.check(), Err(TrainError::Moved { .. })));

        fs::remove_dir(&path).expect("empty");
        fs::rename(&aside, &path).expect("renamed");
        held.check().expect("it is back");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_of_a_held_folder_follow_it() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("run");
        let aside = place.path().join("aside");

        fs::create_dir(&path).expect("made");
        let held = Held::open(&path).expect("opened");
        fs::rename(&path, &aside).expect("renamed");
        fs::create_dir(&path).expect("another one");
        fs::write(held.real(&path.join("file")), "text").expect("written");
        assert_eq!(fs::read_dir(&path).expect("readable").count(), 0);
        assert_eq!(fs::read_to_string(aside.join("file")).expect("there"), "text");

        let Err(TrainError::Moved { now: Some(now), .. }) = held.check() else {
            panic!("it was moved")
        };
        assert_eq!(now, fs::canonicalize(&aside).expect("there"));
    }
}
