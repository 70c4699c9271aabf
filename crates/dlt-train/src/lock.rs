//! One process at a time writes into a run folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use crate::folder::Held;
use crate::{Result, TrainError};

/// File of a run folder that the process holds which writes into it. Its text says which process held it last;
/// whether one holds it now, only the system knows, so that no process that was killed leaves a folder locked.
pub const LOCK_FILE: &str = "lock";

/// A held run folder; it is free again once this is dropped, or the process has ended in whatever way.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file is what frees the folder")] File);

impl Lock {
    /// Takes the folder, or says who holds it.
    pub(crate) fn take(run: &Held) -> Result<Self> {
        let path = run.path().join(LOCK_FILE);
        let real = run.real(&path);
        let io = |source| TrainError::Io { action: "write", path: path.clone(), source };
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&real).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TrainError::Held { path: run.path().to_owned(), holder: named(&real) });
            }
            // A file system without locks: two processes are then the user's to avoid.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "the run folder cannot be locked");
            }
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", this_process())).map_err(io)?;
        Ok(Self(file))
    }
}

/// Who holds a run folder now; `None` where nobody does.
///
/// # Errors
/// [`TrainError::Io`] where the lock file cannot be read.
pub fn holder(run: &Path) -> Result<Option<String>> {
    let path = run.join(LOCK_FILE);
    let file = match dlt_spec::file::regular(&path, u64::MAX) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TrainError::Io { action: "read", path, source }),
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(Some(named(&path))),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn named(path: &Path) -> String {
    let text = dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES).unwrap_or_default();
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
}
