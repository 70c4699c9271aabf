//! Waiting for a lock that another process holds. The wait is announced, and it ends with an error
//! if the other process makes no progress.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Time between two attempts to get a lock.
const LOOK: Duration = Duration::from_millis(50);

/// Time until a waiting process first says so.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// Time until it says so again.
const SAY_AGAIN: Duration = Duration::from_secs(15);

/// How long the holder's file may stay unchanged before the wait ends with an error. The slowest
/// work under a lock writes at least every few seconds.
pub const STILL: Duration = Duration::from_secs(60);
/// The same if the system reports the holder as stopped. Within this time it may be continued.
const STOPPED: Duration = Duration::from_secs(3);

/// What a process waits for.
pub struct Waiting<'a> {
    /// What the holder of the lock makes, for example `tokens of this text`.
    pub what: &'a str,
    /// The file that grows while the holder works.
    pub grows: &'a Path,
    /// How long that file may stay unchanged.
    pub still: Duration,
}

/// Locks an open file of this path. If another process holds the lock, a warning after a second,
/// and again later, says what it waits for and which process holds the lock.
///
/// # Errors
/// An error of kind `TimedOut` if the holder was stopped or makes no progress.
pub fn lock(file: &File, path: &Path, waiting: &Waiting<'_>) -> io::Result<()> {
    let began = Instant::now();
    let mut said = None::<Instant>;
    let mut length = None;
    let mut grown = began;

    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            // A file system without locks has none to wait for. Then the last writer wins, and as
            // every file is written whole, none is mixed.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %path.display(), %error, "cannot be locked");
                return Ok(());
            }
        }

        let now = fs::metadata(waiting.grows).ok().map(|file| file.len());
        if now != length {
            length = now;
            grown = Instant::now();
        }

        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) && began.elapsed() >= SAY_AFTER {
            said = Some(Instant::now());
            let holder = Holder::of(file);
            let seconds = began.elapsed().as_secs();

            tracing::warn!(
                "waiting for {} for {seconds} s: {holder} holds {}",
                waiting.what,
                path.display()
            );
        }

        if grown.elapsed() >= STOPPED.min(waiting.still) {
            let holder = Holder::of(file);
            if holder.is_stopped || grown.elapsed() >= waiting.still {
                let text = format!(
                    "{holder} holds it and makes no progress: continue or end that process"
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }

        thread::sleep(LOOK);
    }
}

/// The process that holds a lock, as far as the system shows it.
struct Holder {
    pid: Option<u32>,
    is_stopped: bool,
}

impl Holder {
    fn of(file: &File) -> Self {
        let pid = inode(file).and_then(|inode| {
            let locks = fs::read_to_string("/proc/locks").ok()?;
            locks.lines().find_map(|line| holder_in(line, inode))
        });

        let stat = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        Self { pid, is_stopped: stat.is_some_and(|stat| is_stopped(&stat)) }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pid, self.is_stopped) {
            (Some(pid), false) => write!(f, "process {pid}"),
            (Some(pid), true) => write!(f, "process {pid}, which is stopped,"),
            (None, _) => f.write_str("another process"),
        }
    }
}

#[cfg(unix)]
fn inode(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(file.metadata().ok()?.ino())
}

#[cfg(not(unix))]
fn inode(_file: &File) -> Option<u64> {
    None
}

/// The process of a line of Linux's `/proc/locks`, if the line is about this file:
/// `1: FLOCK  ADVISORY  WRITE 4711 fd:01:393228 0 EOF`. Lines of waiting processes have `->` after
/// their number.
fn holder_in(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }

    let [pid, place] = [words.nth(2)?, words.next()?];
    let is_it = place.rsplit(':').next()?.parse() == Ok(inode);
    pid.parse().ok().filter(|_| is_it)
}

/// Whether a line of `/proc/PID/stat` is about a stopped process. Its name, in brackets, may
/// contain anything, also a bracket, so the state is looked for after the last one.
fn is_stopped(stat: &str) -> bool {
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some("T" | "t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_tells_the_holder_and_not_who_waits() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 fd:01:393228 0 EOF";
        assert_eq!(holder_in(line, 393_228), Some(4711));

        for other in [
            "1: FLOCK  ADVISORY  WRITE 4711 fd:01:393229 0 EOF",
            "1: -> FLOCK  ADVISORY  WRITE 4711 fd:01:393228 0 EOF",
            "1: POSIX  ADVISORY  WRITE 4711 fd:01:393228 0 EOF",
            "1: FLOCK  ADVISORY  WRITE -1 fd:01:393228 0 EOF",
            "1: FLOCK",
            "",
        ] {
            assert_eq!(holder_in(other, 393_228), None, "{other}");
        }

        assert!(
            is_stopped("4711 (a ) R b) T 1 2") && !is_stopped("4711 (T) S 1 2") && !is_stopped("")
        );
    }

    #[test]
    fn a_holder_that_does_nothing_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = File::create(&path).unwrap();

        first.lock().unwrap();
        let second = File::open(&path).unwrap();
        let still = Duration::from_millis(120);
        let waiting = Waiting { what: "a test", grows: &path, still };
        let error = lock(&second, &path, &waiting).expect_err("held");

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("makes no progress"), "{error}");
        drop(first);
        lock(&second, &path, &waiting).unwrap();
    }

    #[test]
    fn a_holder_whose_file_grows_is_waited_for() {
        use std::io::Write;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let mut first = File::create(&path).unwrap();

        first.lock().unwrap();
        let second = File::open(&path).unwrap();
        let worker = thread::spawn(move || {
            for _ in 0..12 {
                thread::sleep(Duration::from_millis(50));
                first.write_all(b"more").unwrap();
            }
        });

        let waiting = Waiting { what: "a test", grows: &path, still: Duration::from_millis(400) };
        lock(&second, &path, &waiting).unwrap();
        worker.join().unwrap();
    }
}
