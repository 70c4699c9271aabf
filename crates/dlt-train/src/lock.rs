//! One process at a time writes into a run folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use dlt_spec::durable;

use crate::folder::Held;
use crate::{Result, TrainError};

/// File of a run folder that the process holds which writes into it. Its text says which process
/// held it last; whether one holds it now, only the system knows, so that no process that was
/// killed leaves a folder locked.
pub const LOCK_FILE: &str = "lock";

/// A held run folder; it is free again once this is dropped, or the process has ended in whatever
/// way.
#[derive(Debug)]
pub(crate) struct Lock(
    #[expect(dead_code, reason = "closing the file is what frees the folder")] File,
);

impl Lock {
    /// Takes the folder, or says who holds it.
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
            // A file system without locks: two processes are then the user's to avoid.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the run folder cannot be locked");
            }
        }

        // A file with a second name, as a backup makes it, is locked and not written: the other one
        // is somebody else's.
        if durable::is_sole(&file).map_err(io)? {
            file.set_len(0).and_then(|()| writeln!(file, "{}", this_process())).map_err(io)?;
        }

        Ok(Self(file))
    }
}

/// How often a lock is asked for again that only readers hold, and how long is waited in between:
/// ten seconds in all, where a reader holds it for a moment.
const TRIES: usize = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock; false where another process writes. `dlt doctor` holds it with other readers for
/// the moment in which it looks whether a process writes: that is waited for.
fn taken(file: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }

        match file.try_lock_shared() {
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }

        thread::sleep(PAUSE);
    }

    Ok(false)
}

/// Who holds a run folder now; `None` where nobody does.
///
/// # Errors
/// [`TrainError::Io`] where the lock file cannot be read.
pub fn holder(run: &Path) -> Result<Option<String>> {
    let path = run.join(LOCK_FILE);
    if durable::refuse_link(&path).is_err() {
        // No process takes a lock by a link.
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

fn named(path: &Path) -> String {
    let text =
        dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES).unwrap_or_default();
    match text.trim() {
        "" => "a process that has not said its number".to_owned(),
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
    fn a_second_holder_is_told_who_the_first_is_and_the_folder_is_free_after_it() {
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
