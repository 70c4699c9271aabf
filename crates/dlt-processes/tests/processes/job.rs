//! A job of several processes of the example `trial`, which ends by a deadline in any case.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use dlt_processes::Relaunch;
use tempfile::TempDir;

/// By when a job has to have ended, if no test expects it earlier.
const DEADLINE: Duration = Duration::from_secs(120);

/// A job that runs.
pub(crate) struct Job {
    child: Child,
    folder: TempDir,
    start: Instant,
    processes: usize,
}

/// How a job ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
    /// What each process knew at its end, by rank. A process that was killed knew nothing.
    pub(crate) known: Vec<Option<String>>,
}

impl Job {
    /// Starts `trial` as several processes. The argument `DIR` is replaced by a folder.
    pub(crate) fn start(processes: usize, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut own: Vec<_> = arguments.iter().map(Into::into).collect();
        if let Some(place) = arguments.iter().position(|argument| *argument == "DIR") {
            own[place] = folder.path().into();
        }
        own.push("--processes".into());
        own.push(processes.to_string().into());

        let relaunch = Relaunch { program: trial(), arguments: own, processes };
        let mut mpirun = Command::new("mpirun");
        // Without effect for other users than root.
        mpirun.arg("--allow-run-as-root").args(relaunch.arguments_of_mpirun("--processes"));
        Self::of(mpirun, processes, folder)
    }

    /// Starts `trial` as one process, without a launcher, in an environment with these variables.
    pub(crate) fn start_alone(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(trial());
        command.args(arguments).envs(variables.iter().copied());
        Self::of(command, 1, tempfile::tempdir().expect("folder"))
    }

    fn of(mut command: Command, processes: usize, folder: TempDir) -> Self {
        let file = |name: &str| File::create(folder.path().join(name)).expect("created");
        command.stdout(file("output")).stderr(file("errors"));
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} did not start: {error}. Tests with the feature mpi need Open MPI")
        });
        Self { child, folder, start: Instant::now(), processes }
    }

    /// The text of a file that a process writes.
    pub(crate) fn text_of(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        while !path.exists() {
            let passed = self.start.elapsed();
            assert!(passed < DEADLINE, "no {name} after {passed:?}: {}", self.errors());
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::read_to_string(path).expect("read")
    }

    /// Sends a signal to a process, once it has started.
    pub(crate) fn signal(&self, rank: usize, signal: &str) {
        let id = self.text_of(&format!("started-{rank}"));
        assert!(kill(signal, &id), "process {rank} can be reached");
    }

    /// How the job ends, within some time from now.
    pub(crate) fn end_within(mut self, time: Duration) -> Ended {
        let deadline = Instant::now() + time;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(Instant::now() < deadline, "not ended after {time:?}: {}", self.errors());
            std::thread::sleep(Duration::from_millis(5));
        };

        for id in self.ids() {
            while runs(&id) {
                assert!(Instant::now() < deadline, "process {id} runs on: {}", self.errors());
                std::thread::sleep(Duration::from_millis(5));
            }
        }

        let read = |name: String| fs::read_to_string(self.folder.path().join(name)).ok();
        let known = (0..self.processes).map(|rank| read(format!("ended-{rank}"))).collect();
        let output = read("output".to_owned()).unwrap_or_default();
        Ended { code: status.code(), output, errors: self.errors(), known }
    }

    pub(crate) fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    fn errors(&self) -> String {
        let text = fs::read(self.folder.path().join("errors")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The process ids of those that have started.
    fn ids(&self) -> Vec<String> {
        let id = |rank| fs::read_to_string(self.folder.path().join(format!("started-{rank}"))).ok();
        (0..self.processes).filter_map(id).collect()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for id in self.ids() {
            kill("KILL", &id);
        }
    }
}

impl Ended {
    /// The messages about lost processes.
    pub(crate) fn messages(&self) -> Vec<&str> {
        self.errors.lines().filter_map(|line| line.split_once("lost: ")).map(|(_, m)| m).collect()
    }
}

fn kill(signal: &str, id: &str) -> bool {
    let sent = Command::new("kill").args(["-s", signal, id]).output().expect("kill runs");
    sent.status.success()
}

/// Whether a process has not ended. A zombie has: it is left if nothing waits for the orphans of
/// `mpirun`.
fn runs(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

/// The example, next to the folder of the tests. A call of cargo that names one test does not build
/// it again.
fn trial() -> PathBuf {
    let test = std::env::current_exe().expect("path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a folder of cargo");
    let trial = profile.join("examples/trial");
    let advice = "cargo test -p dlt-processes --features mpi builds it";
    assert!(trial.exists(), "{} is missing: {advice}", trial.display());
    trial
}
