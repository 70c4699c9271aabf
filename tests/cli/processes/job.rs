//! A program of several processes that runs in a workplace, and ends by a deadline in any case.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::workplace::{PROGRAM, Said, Workplace};

/// By when a program has to have ended, on a machine with other work.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// How long the processes of a run may take to end after the program that started them.
const ENDING: Duration = Duration::from_secs(10);
/// Between two looks at what runs.
const LOOK: Duration = Duration::from_millis(2);

/// Held by the test whose job runs.
static TURN: Mutex<()> = Mutex::new(());

/// A program that runs. Dropped, it leaves nothing running.
pub(super) struct Job<'a> {
    place: &'a Workplace,
    child: Child,
    _turn: MutexGuard<'static, ()>,
}

impl<'a> Job<'a> {
    /// Starts the program with these arguments, which may have `--processes`.
    pub(super) fn dlt(place: &'a Workplace, arguments: &[&str]) -> Self {
        Self::of(place, PROGRAM, arguments)
    }

    /// Starts the program by `mpirun`, with these arguments of `mpirun`. The word `dlt` among them
    /// is the program.
    pub(super) fn mpirun(place: &'a Workplace, arguments: &[&str]) -> Self {
        let own = ["--oversubscribe", "--bind-to", "none"];
        let words = arguments.iter().map(|&word| if word == "dlt" { PROGRAM } else { word });
        Self::of(place, "mpirun", &own.into_iter().chain(words).collect::<Vec<_>>())
    }

    fn of(place: &'a Workplace, program: &str, arguments: &[&str]) -> Self {
        // A test that has failed has ended its job too.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |name: &str| File::create(place.path(name)).unwrap();
        let mut command = command(place, program, arguments);
        let child = command.stdout(file("said.out")).stderr(file("said.err")).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program}: {error}. Tests with the feature mpi need Open MPI")
        });
        Self { place, child, _turn: turn }
    }

    /// What the program says, after it and all that it has started have ended.
    pub(super) fn end(self) -> Said {
        self.end_within(DEADLINE)
    }

    /// As [`end`](Self::end), within some time from now.
    pub(super) fn end_within(mut self, time: Duration) -> Said {
        let status = end_of(self.place, &mut self.child, time);
        let said = |name: &str| self.place.read(name);
        Said { code: status, out: said("said.out"), err: said("said.err") }
    }

    /// The process id of the process with this number, once it runs.
    pub(super) fn process(&mut self, rank: usize) -> u32 {
        let began = Instant::now();
        loop {
            let found = ranks(self.place).into_iter().find(|(_, own)| *own == rank);
            if let Some((id, _)) = found {
                return id;
            }
            self.assert_runs(began, &format!("process {rank}"));
        }
    }

    /// Returns once a run has made so many steps.
    pub(super) fn wait_for_steps(&mut self, run: &str, steps: usize) {
        let place = self.place;
        self.wait_until("steps", || steps_of(place, run) >= steps);
    }

    /// Returns once something is true, which the running program brings about.
    pub(super) fn wait_until(&mut self, what: &str, is_true: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_true() {
            self.assert_runs(began, what);
        }
    }

    fn assert_runs(&mut self, began: Instant, what: &str) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "ended without {what}: {}", said_in(self.place));
        assert!(began.elapsed() < DEADLINE, "no {what}: {}", said_in(self.place));
        sleep(LOOK);
    }

    /// The process id of the program itself.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        end_all(self.place);
        let _ = self.child.wait();
    }
}

/// A program in this place, which can start `mpirun` as root too.
pub(super) fn command(place: &Workplace, program: &str, arguments: &[&str]) -> Command {
    let mut command = place.command_of(program, arguments);
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(name, "1");
    }
    command
}

/// The exit code of a program, after all that it has started has ended. What runs longer is ended,
/// and fails the test.
pub(super) fn end_of(place: &Workplace, child: &mut Child, time: Duration) -> Option<i32> {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > time {
            end_all(place);
            panic!("not ended after {time:?}: {}", said_in(place));
        }
        sleep(LOOK);
    };

    let ended = Instant::now();
    while !running(place).is_empty() {
        if ended.elapsed() > ENDING {
            let left = running(place);
            end_all(place);
            panic!("{left:?} run after the end: {}", said_in(place));
        }
        sleep(LOOK);
    }

    status.code()
}

/// What a job has said, for the message of a test that fails.
fn said_in(place: &Workplace) -> String {
    fs::read_to_string(place.path("said.err")).unwrap_or_default()
}

/// The processes that run in a place: their process ids.
fn running(place: &Workplace) -> Vec<u32> {
    let place = place.path("").canonicalize().unwrap();
    let is_here = |id: &u32| {
        // A zombie has no folder, and neither has a process of another user.
        fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|folder| folder == place)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(is_here).collect()
}

/// The processes of a run in a place: process id and number.
pub(super) fn ranks(place: &Workplace) -> Vec<(u32, usize)> {
    let program = Path::new(PROGRAM).canonicalize().unwrap();
    let rank = |id: u32| {
        let is_ours = fs::read_link(format!("/proc/{id}/exe")).ok()? == program;
        let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
        let mut variables = environment.split(|&byte| byte == 0);
        let rank =
            variables.find_map(|variable| variable.strip_prefix(b"OMPI_COMM_WORLD_RANK="))?;
        let rank = std::str::from_utf8(rank).ok()?.parse().ok()?;
        is_ours.then_some((id, rank))
    };
    running(place).into_iter().filter_map(rank).collect()
}

fn end_all(place: &Workplace) {
    for id in running(place) {
        send("-KILL", id);
    }
}

/// Sends a signal. `false` if there is no such process any more.
pub(super) fn send(signal: &str, id: u32) -> bool {
    let sent = Command::new("kill").args([signal, &id.to_string()]).output().unwrap();
    sent.status.success()
}

/// Training steps in the metrics of a run.
pub(super) fn steps_of(place: &Workplace, run: &str) -> usize {
    let metrics = fs::read_to_string(place.path(&format!("{run}/metrics.jsonl")));
    metrics.unwrap_or_default().matches("\"kind\":\"step\"").count()
}

/// The only error in what a program says, as a line.
pub(super) fn one_error(said: &Said) -> &str {
    let errors: Vec<_> = said.err.lines().filter(|line| line.contains("error: ")).collect();
    let [error] = errors[..] else { panic!("expected one error: {said:?}") };
    assert_ne!(said.code, Some(0), "{said:?}");
    error
}
