//! Waiting for `mpirun`, which may hang once its processes have ended.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use crate::output;

/// Between two looks whether `mpirun` has ended.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks whether its processes run.
const LOOK_AT_PROCESSES: Duration = Duration::from_millis(500);
/// How long `mpirun` may take to end after its processes: it takes milliseconds.
const ENDING: Duration = Duration::from_secs(10);

/// Waits for `mpirun`. If a process is killed while it starts MPI, some versions wait for it forever,
/// although all processes have ended. It is killed then.
///
/// # Errors
/// If the system refuses to say how it ended.
pub(crate) fn wait(mpirun: &mut Child) -> std::io::Result<ExitStatus> {
    let mut has_started = false;
    let mut last_running = Instant::now();
    let mut next_look = Instant::now();

    loop {
        if let Some(status) = mpirun.try_wait()? {
            return Ok(status);
        }

        let now = Instant::now();
        if now >= next_look {
            next_look = now + LOOK_AT_PROCESSES;
            if has_processes(mpirun.id()) {
                has_started = true;
                last_running = now;
            }
        }

        if has_started && now.duration_since(last_running) > ENDING {
            output::note("error: mpirun did not end after its processes, and was killed");
            mpirun.kill()?;
            return mpirun.wait();
        }

        std::thread::sleep(LOOK);
    }
}

/// Whether a process has children that have not ended. True if the system does not say.
fn has_processes(id: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return true };
    let children = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
    let Ok(children) = threads.flatten().map(children).collect::<Result<String, _>>() else {
        return true;
    };

    children.split_whitespace().any(|child| {
        // The state follows the name in brackets. A zombie has ended, though nobody asked how.
        let status = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        status.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_are_seen_until_they_end() {
        let own = std::process::id();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let of_child = child.id();
        assert!(has_processes(own));
        assert!(!has_processes(of_child), "cat starts nothing");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_processes(of_child), "unknown, since it is gone");
    }

    #[test]
    fn a_launcher_without_processes_is_waited_for() {
        let mut quick = Command::new("sh").args(["-c", "sleep 0.1; exit 3"]).spawn().unwrap();
        assert_eq!(wait(&mut quick).unwrap().code(), Some(3));
    }
}
