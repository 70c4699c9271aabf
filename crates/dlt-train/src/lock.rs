//! One process at a time writes into a run folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use dlt_spec::durable;

use crate::folder::Held;
use crate::{Result, TrainError};

/// File of a run folder that is locked by the process that writes into the folder. Its text names
/// the process that held it last. Whether a process holds it now is known by the system only, so a
/// killed process never leaves a folder locked.
pub const LOCK_FILE: &str = "lock";

/// A locked run folder. It is free again once this is dropped, or once the process ends, however it
/// ends.
#[derive(Debug)]
pub(crate) struct Lock(
    #[expect(dead_code, reason = "closing the file is what frees the folder")] File,
);

impl Lock {
    /// Locks the folder, or fails with the name of the process that holds it.
    pub(crate) fn take(run: &Held) -> Result<Self> {
        let path = run.path().join(LOCK_FILE);
        let real = run.real(&path);
        let io = |source| TrainError::Io { action: "write", path: path.clone(), source };

        durable::refuse_link(&real).map_err(io)?;
        let mut file =
            durable::no_links().create(true).write(true).truncate(false).open(&real).map_err(io)?;
        match taken(&file) {
            Ok(true) => {}
            Ok(false) => {
                return Err(TrainError::Held { path: run.path().to_owned(), holder: named(&real) });
            }
            // A file system without locks: the user must then make sure that only one process
            // writes.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot lock the run folder");
            }
        }

        // A file that has another hard link, as some backups make, is locked but not written,
        // because the other name belongs to somebody else.
        if durable::is_sole(&file).map_err(io)? {
            file.set_len(0).and_then(|()| writeln!(file, "{}", this_process())).map_err(io)?;
        }

        Ok(Self(file))
    }
}

/// How often a lock that only readers hold is tried again, and the pause between two tries: ten
/// seconds in all, while a reader holds it only for a moment.
const TRIES: usize = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock; `false` if another process writes. `dlt doctor` takes a shared lock for the
/// moment in which it checks whether a process writes. That moment is waited for.
fn taken(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }

        // A shared lock is refused only by a writer. So this distinguishes a writer from a reader.
        match file.try_lock_shared() {
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }

        thread::sleep(PAUSE);
    }

    Ok(false)
}

/// The process that holds a run folder now; `None` if no process does.
///
/// # Errors
/// [`TrainError::Io`] if the lock file cannot be read.
pub fn holder(run: &Path) -> Result<Option<String>> {
    let path = run.join(LOCK_FILE);
    if durable::refuse_link(&path).is_err() {
        // No process takes a lock through a link.
        return Ok(None);
    }

    let file = match durable::no_links().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TrainError::Io { action: "read", path, source }),
    };

    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(Some(named(&path))),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The text of a lock file, which names a process. A file can hold anything, so the text is made
/// safe to print.
fn named(path: &Path) -> String {
    let text =
        dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES).unwrap_or_default();
    match text.trim() {
        "" => "a process that has not written its number".to_owned(),
        text => text.chars().filter(|letter| !letter.is_control()).take(200).collect(),
    }
}

fn this_process() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}", std::process::id()),
        host => format!("process {} on {host}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_learns_who_the_first_is_and_the_folder_is_free_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(holder(folder.path()).expect("readable"), None);

        let run = Held::open(folder.path()).expect("it is there");
        let first = Lock::take(&run).expect("nobody holds it");
        let error = Lock::take(&run).expect_err("held").to_string();
        let me = format!("process {}", std::process::id());

        assert!(error.contains(&me), "{error}");
        assert!(holder(folder.path()).expect("readable").expect("held").contains(&me));
        drop(first);
        assert_eq!(holder(folder.path()).expect("readable"), None);
        Lock::take(&run).expect("free again");
    }

    #[test]
    fn regression_a_reader_that_looks_at_the_lock_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = Held::open(folder.path()).expect("it is there");
        drop(Lock::take(&run).expect("free"));

        let reader = File::open(folder.path().join(LOCK_FILE)).expect("there");
        reader.lock_shared().expect("free");

        std::thread::scope(|scope| {
            let taking = scope.spawn(|| Lock::take(&run).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!taking.is_finished(), "it waits");
            drop(reader);
            taking.join().expect("no panic").expect("free again");
        });
    }

    #[cfg(unix)]
    #[test]
    fn rejects_a_lock_that_is_a_link_and_leaves_what_shares_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = Held::open(folder.path()).expect("there");
        let lock = folder.path().join(LOCK_FILE);
        let precious = folder.path().join("precious");

        fs::write(&precious, "precious").expect("written");
        std::os::unix::fs::symlink(&precious, &lock).expect("linked");

        let error = Lock::take(&run).expect_err("a link").to_string();
        assert!(error.contains("it is a link"), "{error}");
        fs::remove_file(&lock).expect("removed");
        fs::hard_link(&precious, &lock).expect("linked");
        Lock::take(&run).expect("free");
        assert_eq!(fs::read_to_string(&precious).expect("there"), "precious");
    }
}
