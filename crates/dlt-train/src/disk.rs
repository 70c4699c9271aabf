//! The few operations that a run asks of a file system for checkpoints and for moments at rest, so
//! that each of them can be made to fail.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use dlt_spec::durable;

/// Where a run writes. [`SystemDisk`] is the real one.
pub trait Disk {
    /// A new empty file for writing, in place of one that is there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A folder, if it is not there yet.
    ///
    /// # Errors
    /// What the system says.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// A second name for a file; fails where there is a file of that name.
    ///
    /// # Errors
    /// What the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of a file of that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder last.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// An empty file without a name, in a folder's file system. Its room is free again once it is
    /// dropped or the process has ended, however it did.
    ///
    /// # Errors
    /// What the system says.
    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>>;
}

/// A file that is being written.
pub trait DiskFile: Write + Seek {
    /// Makes what was written last.
    ///
    /// # Errors
    /// What the system says.
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
        // What has the name may be a link, or share its content with another name: it is removed,
        // never written.
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
        // Some systems cannot open a folder, and some file systems cannot sync one; there the names
        // last by themselves or nothing can be done.
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
