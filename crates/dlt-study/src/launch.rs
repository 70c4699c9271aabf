//! Runs cells as child processes, in the order of the grid, up to `jobs` at once.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dlt_spec::ExitCode;
use dlt_spec::record::SUMMARY_FILE;

use crate::board::Board;
use crate::cell::{Cell, CellId, Job};
use crate::cost::Costs;
use crate::scale::Scale;
use crate::store::{ByName, CellStatus, Store, make_parent};

/// Time between two looks at the running children. It is short compared with a cell.
const POLL: Duration = Duration::from_millis(20);
/// Folder of a run's checkpoints. After the run only a longer run needs them.
const CHECKPOINTS: &str = "checkpoint";

/// How cells are run.
#[derive(Clone, Debug)]
pub(crate) struct Launcher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dlt: PathBuf,
    pub(crate) scale: Scale,
    /// The expected time of cells.
    pub(crate) costs: Costs,
    /// Cells at once.
    pub(crate) jobs: usize,
    /// Threads of each cell.
    pub(crate) threads: usize,
    /// Processes of each cell, which share its threads.
    pub(crate) processes: usize,
    pub(crate) device: String,
    /// No cell is started after this time.
    pub(crate) budget: Option<Duration>,
    pub(crate) keeps_checkpoints: bool,
}

/// The outcome of a study.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) done: usize,
    /// Cells that failed.
    pub(crate) failed: Vec<CellId>,
    /// Cells that were not started or did not finish, each with the reason.
    pub(crate) left: Vec<(CellId, String)>,
    /// Whether a run was interrupted.
    pub(crate) interrupted: bool,
}

struct Running<'c> {
    cell: &'c Cell,
    child: process::Child,
    resumed: bool,
}

/// The outcome of an attempt to start a cell.
enum StartOutcome<'c> {
    Begun(Running<'c>),
    /// Another process has finished it in the meantime.
    Done,
    /// Another process has claimed it.
    Held,
}

/// Cells that wait for their turn, and cells that run.
struct Queue<'c> {
    open: Vec<&'c Cell>,
    running: Vec<Running<'c>>,
}

impl Queue<'_> {
    /// Whether a cell needs a cell that is not done yet, or one of `failed`.
    fn is_behind(&self, cell: &Cell, failed: &[CellId]) -> bool {
        let needs = cell.needs();
        let mut on_their_way =
            self.open.iter().copied().chain(self.running.iter().map(|one| one.cell));
        needs.iter().any(|need| failed.contains(need))
            || on_their_way.any(|other| needs.contains(&other.id))
    }
}

impl Launcher<'_> {
    /// Runs every cell that is not done yet, and waits until all have ended.
    pub(crate) fn run(&self, cells: &[Cell]) -> Result<Outcome> {
        let start = Instant::now();
        let mut queue = Queue { open: self.store.open(cells), running: Vec::new() };
        let done = cells.len() - queue.open.len();
        let mut outcome = Outcome { done, ..Outcome::default() };

        let costs = (&self.costs, self.jobs);
        let mut board = Board::new(self.store, self.scale, cells.len(), queue.open.clone(), costs);
        board.begin(outcome.done);

        loop {
            self.collect(&mut queue, &mut outcome, &mut board)?;
            let is_over =
                outcome.interrupted || self.budget.is_some_and(|budget| start.elapsed() >= budget);
            let elsewhere =
                if is_over { Vec::new() } else { self.fill(&mut queue, &mut outcome, &mut board)? };

            if queue.running.is_empty() && elsewhere.is_empty() {
                for cell in queue.open {
                    let why = self.why_left(cell, is_over, &outcome);
                    outcome.left.push((cell.id.clone(), why));
                }

                board.end(&outcome);
                return Ok(outcome);
            }

            board.look(queue.running.iter().map(|one| one.cell), &elsewhere);
            thread::sleep(POLL);
        }
    }

    /// Removes the runs that have ended from the queue, and notes their outcomes.
    fn collect(
        &self,
        queue: &mut Queue<'_>,
        outcome: &mut Outcome,
        board: &mut Board<'_>,
    ) -> Result<()> {
        let mut index = 0;
        while index < queue.running.len() {
            match queue.running[index].child.try_wait().context("cannot wait for dlt")? {
                None => index += 1,
                Some(status) => {
                    self.ended(&queue.running.swap_remove(index), status, outcome, board)?
                }
            }
        }

        Ok(())
    }

    /// Starts as many cells as there is room for. Returns the cells that another process runs.
    fn fill<'c>(
        &self,
        queue: &mut Queue<'c>,
        outcome: &mut Outcome,
        board: &mut Board<'_>,
    ) -> Result<Vec<&'c Cell>> {
        let mut elsewhere = Vec::new();
        while queue.running.len() < self.jobs {
            elsewhere.clear();
            let Some(next) = self.next(queue, &outcome.failed, &mut elsewhere) else { break };
            let cell = queue.open.remove(next);

            match self.start(cell) {
                Ok(StartOutcome::Begun(started)) => {
                    board.started(cell, started.resumed);
                    queue.running.push(started);
                }
                // Another process has finished it since we looked.
                Ok(StartOutcome::Done) => {
                    outcome.done += 1;
                    board.ended(cell, Ok(()));
                    self.tidy(&cell.id)?;
                }
                Ok(StartOutcome::Held) => {
                    queue.open.insert(next, cell);
                    elsewhere.push(cell);
                    break;
                }
                Err(error) => self.failed(cell, format!("{error:#}"), outcome, board)?,
            }
        }

        Ok(elsewhere)
    }

    /// The index of the next cell that can be started. Cells that another process runs are added to
    /// `elsewhere`.
    fn next<'c>(
        &self,
        queue: &Queue<'c>,
        failed: &[CellId],
        elsewhere: &mut Vec<&'c Cell>,
    ) -> Option<usize> {
        for (index, &cell) in queue.open.iter().enumerate() {
            match self.store.status(cell) {
                CellStatus::Running { .. } => elsewhere.push(cell),
                CellStatus::Waiting { .. } => {}
                _ if queue.is_behind(cell, failed) => {}
                _ => return Some(index),
            }
        }

        None
    }

    /// Why a cell was not started.
    fn why_left(&self, cell: &Cell, is_over: bool, outcome: &Outcome) -> String {
        let needs = match self.store.status(cell) {
            CellStatus::Running { .. } => return "another process runs it".to_owned(),
            CellStatus::Waiting { on } => on,
            _ => cell.needs(),
        };

        match needs.iter().find(|need| outcome.failed.contains(need)) {
            Some(need) => format!("needs {need}, which failed"),
            None if outcome.interrupted => "interrupted".to_owned(),
            None if is_over => "the time was over".to_owned(),
            None => {
                let needs: Vec<&str> = needs.iter().map(CellId::as_str).collect();
                format!("needs {}, which is not done", needs.join(", "))
            }
        }
    }

    /// Starts a cell, or resumes it.
    fn start<'c>(&self, cell: &'c Cell) -> Result<StartOutcome<'c>> {
        let Some(claim) = self.store.claim(&cell.id)? else { return Ok(StartOutcome::Held) };
        let status = self.store.at_rest(cell);
        match &status {
            CellStatus::Done => return Ok(StartOutcome::Done),
            CellStatus::Damaged { reason } => bail!("{reason}"),
            _ => {}
        }

        let resumes = status != CellStatus::Stale && self.store.has_begun(&cell.id);
        if !resumes && let Some(aside) = self.store.set_aside(cell)? {
            let why = match status {
                CellStatus::Stale => "the old result has other settings",
                _ => "the old result has no first step",
            };

            self.log(&cell.id, &format!("{why}: moved to {}", aside.display()))?;
        }

        let by_name = cell
            .arguments(&ByName(self.store))
            .context("a run that this cell needs is not done")?;
        self.store.note_begun(cell, by_name)?;

        // The child inherits the claim as its standard input, and keeps it even if this process dies.
        let child = self.command(cell, resumes)?.stdin(claim).spawn();
        let child = child.with_context(|| format!("cannot start {}", self.dlt.display()))?;

        Ok(StartOutcome::Begun(Running { cell, child, resumed: resumes }))
    }

    fn command(&self, cell: &Cell, resumes: bool) -> Result<Command> {
        let run = self.store.run(&cell.id);
        let mut command = Command::new(&self.dlt);

        match (&cell.job, resumes) {
            (Job::Predict { .. }, _) => {
                let to =
                    File::create(self.partial(&cell.id)).context("cannot write the prediction")?;
                command.args(cell.arguments(self.store).context("its spec is not known")?);
                command.stdout(to);
            }
            (_, true) => {
                command.args(["train", "--resume"]).arg(&run);
                command.stdout(self.log_file(&cell.id)?);
            }
            (_, false) => {
                command.args(
                    cell.arguments(self.store).context("a run that this cell needs is not done")?,
                );
                command.arg("--out").arg(&run).stdout(self.log_file(&cell.id)?);
            }
        }

        if !matches!(cell.job, Job::Predict { .. }) {
            let threads = (self.threads / self.processes).max(1);
            command.args(["--threads", &threads.to_string(), "--device", &self.device]);
            if self.processes > 1 {
                command.args(["--processes", &self.processes.to_string()]);
            }
        }

        command.stderr(self.log_file(&cell.id)?);
        self.log(&cell.id, &format!("$ {command:?}"))?;
        Ok(command)
    }

    fn ended(
        &self,
        ended: &Running<'_>,
        status: ExitStatus,
        outcome: &mut Outcome,
        board: &mut Board<'_>,
    ) -> Result<()> {
        let cell = ended.cell;
        if status.success() && matches!(cell.job, Job::Predict { .. }) {
            fs::rename(self.partial(&cell.id), self.store.prediction(&cell.id))
                .context("cannot keep the prediction")?;
        }

        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let known = code.and_then(ExitCode::from_number);

        if known == Some(ExitCode::Interrupted) {
            // A person who interrupts one run means the whole study. The run resumes from its last
            // checkpoint the next time.
            outcome.interrupted = true;
            outcome.left.push((cell.id.clone(), "interrupted".to_owned()));
            return Ok(());
        }

        let why = match (self.store.at_rest(cell), known, code) {
            (CellStatus::Done, Some(ExitCode::Ok), _) => {
                outcome.done += 1;
                board.ended(cell, Ok(()));
                return self.tidy(&cell.id);
            }
            (CellStatus::Damaged { reason }, Some(ExitCode::Ok), _) => reason,
            (_, Some(ExitCode::Ok), _) => format!("dlt succeeded, but left no {SUMMARY_FILE}"),
            (_, Some(known), _) => format!("{} (exit code {})", known.meaning(), known.number()),
            (_, None, Some(code)) => format!("dlt ended with exit code {code}"),
            (_, None, None) => format!("dlt was ended by the system ({status})"),
        };

        self.failed(cell, why, outcome, board)
    }

    fn failed(
        &self,
        cell: &Cell,
        why: String,
        outcome: &mut Outcome,
        board: &mut Board<'_>,
    ) -> Result<()> {
        board.ended(cell, Err(&why));
        outcome.failed.push(cell.id.clone());
        self.store.note_failed(cell, why)
    }

    /// Removes the checkpoints of a finished run, which are many times as large as its model and
    /// records.
    fn tidy(&self, id: &CellId) -> Result<()> {
        let checkpoints = self.store.run(id).join(CHECKPOINTS);
        let is_done = self.store.run(id).join(SUMMARY_FILE).is_file();
        if self.keeps_checkpoints || !is_done || !checkpoints.is_dir() {
            return Ok(());
        }

        match fs::remove_dir_all(&checkpoints) {
            // Another study that shares the cell has removed them.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", checkpoints.display())),
        }
    }

    fn partial(&self, id: &CellId) -> PathBuf {
        self.store.prediction(id).with_extension("partial")
    }

    fn log_file(&self, id: &CellId) -> Result<File> {
        let path = self.store.log(id);
        make_parent(&path)?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn log(&self, id: &CellId, line: &str) -> Result<()> {
        writeln!(self.log_file(id)?, "{line}").context("cannot write the log")
    }
}

/// Parses a time: `90`, `90s`, `30m`, `2h`. Without a unit it is in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("expected a time such as 90s, 30m or 2h, got {text}");
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };

    let number: f64 = number.trim().parse().map_err(|_| refuse())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| refuse())
}

/// Parses seeds: `1..3` (both ends included), `2`, `1,4,7`. They are sorted, each once.
pub(crate) fn parse_seeds(text: &str) -> Result<Vec<u64>, String> {
    let refuse = || format!("expected seeds such as 1..3 (1 to 3) or 1,4,7, got {text}");
    let number = |word: &str| word.trim().parse::<u64>().map_err(|_| refuse());
    let mut seeds = Vec::new();

    for part in text.split(',') {
        match part.split_once("..") {
            Some((first, last)) => {
                let first = number(first)?;
                let last = number(last.trim_start_matches('='))?;
                if first > last || last - first > 1000 {
                    return Err(refuse());
                }
                seeds.extend(first..=last);
            }
            None => seeds.push(number(part)?),
        }
    }

    seeds.sort_unstable();
    seeds.dedup();
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_seeds_are_read_as_they_are_typed() {
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        assert_eq!(parse_duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("45").unwrap(), Duration::from_secs(45));

        for bad in ["", "h", "-1h", "1d", "NaN", "inf"] {
            assert!(parse_duration(bad).unwrap_err().contains("expected a time"), "{bad}");
        }

        assert_eq!(parse_seeds("1..3").unwrap(), [1, 2, 3]);
        assert_eq!(parse_seeds("7,1,7").unwrap(), [1, 7]);

        for bad in ["", "3..1", "a", "1..99999"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
