//! The few file system operations that checkpoints and moments at rest need. They are behind a
//! trait so that tests can make each of them fail.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use dlt_spec::durable;

/// Where a run writes. [`SystemDisk`] is the real one.
pub trait Disk {
    /// Makes a new empty file for writing, and replaces an existing one.
    ///
    /// # Errors
    /// The error of the system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder, unless it already exists.
    ///
    /// # Errors
    /// The error of the system.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file a second name (a hard link); fails if that name exists.
    ///
    /// # Errors
    /// The error of the system.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, and replaces a file that has the new name.
    ///
    /// # Errors
    /// The error of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The error of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Syncs a folder, so that the names in it survive a crash.
    ///
    /// # Errors
    /// The error of the system.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file without a name, in the file system of a folder. Its room is free again
    /// once it is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// The error of the system.
    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>>;
}

/// A file that is being written.
pub trait DiskFile: Write + Seek {
    /// Syncs what was written to the disk.
    ///
    /// # Errors
    /// The error of the system.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file without a name, which is written and read back.
pub trait UnnamedFile: Read + Write + Seek + Send {}

impl UnnamedFile for File {}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // A file of that name may be a link, or share its content with another name. So it is
        // removed and never written.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }

        Ok(Box::new(File::create_new(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        durable::refuse_link(path)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Some systems cannot open a folder, and some file systems cannot sync one. Names then
        // survive without it, or nothing can be done.
        let unable = [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::InvalidInput,
            io::ErrorKind::Unsupported,
        ];

        match File::open(path).and_then(|folder| folder.sync_all()) {
            Err(error) if unable.contains(&error.kind()) => Ok(()),
            synced => synced,
        }
    }

    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>> {
        Ok(Box::new(tempfile::tempfile_in(folder)?))
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
