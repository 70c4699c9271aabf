//! Running cells: as child processes, in the order of the grid, as many at once as asked for.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dlt_spec::ExitCode;
use dlt_spec::record::SUMMARY_FILE;

use super::board::Board;
use super::cell::{Cell, CellId, Job};
use super::cost::Costs;
use super::scale::Scale;
use super::store::{ByName, Standing, Store, make_parent};

/// How often running children are looked at; small beside a cell.
const POLL: Duration = Duration::from_millis(20);
/// Checkpoints of a finished run, which only a longer run would need.
const CHECKPOINTS: &str = "checkpoint";

/// How cells are run.
#[derive(Clone, Debug)]
pub(crate) struct Launcher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dlt: PathBuf,
    pub(crate) scale: Scale,
    /// What cells are expected to take.
    pub(crate) costs: Costs,
    /// Cells at once.
    pub(crate) jobs: usize,
    /// Threads of each.
    pub(crate) threads: usize,
    pub(crate) device: String,
    /// No cell is begun when this has passed.
    pub(crate) budget: Option<Duration>,
    pub(crate) keeps_checkpoints: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) done: usize,
    /// Cells that failed.
    pub(crate) failed: Vec<CellId>,
    /// Cells that were not begun, or not run to their end, and why.
    pub(crate) left: Vec<(CellId, String)>,
    /// Whether somebody interrupted a run.
    pub(crate) interrupted: bool,
}

struct Running<'c> {
    cell: &'c Cell,
    child: process::Child,
    resumed: bool,
}

/// What became of the attempt to start a cell.
enum Start<'c> {
    Begun(Running<'c>),
    /// It is done by now.
    Done,
    /// Another process was faster.
    Held,
}

/// Cells on their way: those that wait for their turn, and those that run.
#[derive(Default)]
struct Queue<'c> {
    open: Vec<&'c Cell>,
    running: Vec<Running<'c>>,
}

impl Queue<'_> {
    /// Whether a cell follows one that is not done yet, or has failed.
    fn is_behind(&self, cell: &Cell, failed: &[CellId]) -> bool {
        let needs = cell.needs();
        let mut on_their_way =
            self.open.iter().copied().chain(self.running.iter().map(|one| one.cell));
        needs.iter().any(|need| failed.contains(need))
            || on_their_way.any(|other| needs.contains(&other.id))
    }
}

impl Launcher<'_> {
    /// Runs what has not been done yet.
    pub(crate) fn run(&self, cells: &[Cell]) -> Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let mut queue = Queue::default();

        for cell in cells {
            // A run that follows one which is to be made anew has to be looked at again after that.
            match self.store.standing(cell) {
                Standing::Done if !queue.is_behind(cell, &[]) => outcome.done += 1,
                _ => queue.open.push(cell),
            }
        }

        let costs = (&self.costs, self.jobs);
        let mut board = Board::new(self.store, self.scale, cells.len(), queue.open.clone(), costs);
        board.begin(outcome.done);

        loop {
            self.collect(&mut queue, &mut outcome, &mut board)?;
            let is_over =
                outcome.interrupted || self.budget.is_some_and(|budget| start.elapsed() >= budget);
            let elsewhere = match is_over {
                true => Vec::new(),
                false => self.fill(&mut queue, &mut outcome, &mut board)?,
            };

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

    /// Takes out those that have ended.
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

    /// Begins as many as there is room for. Says which cells were left as another process is at
    /// them.
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
                Ok(Start::Begun(started)) => {
                    board.started(cell, started.resumed);
                    queue.running.push(started);
                }
                // A process that is not ours has brought it to its end.
                Ok(Start::Done) => {
                    outcome.done += 1;
                    board.ended(cell, Ok(()));
                    self.tidy(&cell.id)?;
                }
                Ok(Start::Held) => {
                    queue.open.insert(next, cell);
                    elsewhere.push(cell);
                    break;
                }
                Err(error) => self.failed(cell, format!("{error:#}"), outcome, board)?,
            }
        }

        Ok(elsewhere)
    }

    /// The next cell that can be begun. One that another process is at is left to it, and noted.
    fn next<'c>(
        &self,
        queue: &Queue<'c>,
        failed: &[CellId],
        elsewhere: &mut Vec<&'c Cell>,
    ) -> Option<usize> {
        for (index, &cell) in queue.open.iter().enumerate() {
            match self.store.standing(cell) {
                Standing::Running { .. } => elsewhere.push(cell),
                Standing::Waiting { .. } => {}
                _ if queue.is_behind(cell, failed) => {}
                _ => return Some(index),
            }
        }

        None
    }

    /// Why a cell was not begun.
    fn why_left(&self, cell: &Cell, is_over: bool, outcome: &Outcome) -> String {
        let needs = match self.store.standing(cell) {
            Standing::Running { .. } => return "another process is at it".to_owned(),
            Standing::Waiting { on } => on,
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

    /// Starts a cell, or goes on with it.
    fn start<'c>(&self, cell: &'c Cell) -> Result<Start<'c>> {
        let Some(claim) = self.store.claim(&cell.id)? else { return Ok(Start::Held) };
        let standing = self.store.at_rest(cell);
        match &standing {
            Standing::Done => return Ok(Start::Done),
            Standing::Damaged { reason } => bail!("{reason}"),
            _ => {}
        }

        let goes_on = standing != Standing::Stale && self.store.has_begun(&cell.id);
        if !goes_on && let Some(aside) = self.store.set_aside(cell)? {
            let why = match standing {
                Standing::Stale => "what was there was made otherwise",
                _ => "what was there had not come to its first step",
            };

            self.log(&cell.id, &format!("{why}: it is now {}", aside.display()))?;
        }

        let by_name =
            cell.arguments(&ByName(self.store)).context("a run that it needs is not done")?;
        self.store.note_begun(cell, by_name)?;

        // The child inherits the claim, and holds it whatever becomes of this process.
        let child = self.command(cell, goes_on)?.stdin(claim).spawn();
        let child = child.with_context(|| format!("cannot start {}", self.dlt.display()))?;

        Ok(Start::Begun(Running { cell, child, resumed: goes_on }))
    }

    fn command(&self, cell: &Cell, goes_on: bool) -> Result<Command> {
        let run = self.store.run(&cell.id);
        let mut command = Command::new(&self.dlt);

        match (&cell.job, goes_on) {
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
                command
                    .args(cell.arguments(self.store).context("a run that it needs is not done")?);
                command.arg("--out").arg(&run).stdout(self.log_file(&cell.id)?);
            }
        }

        if !matches!(cell.job, Job::Predict { .. }) {
            command.args(["--threads", &self.threads.to_string(), "--device", &self.device]);
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
            // Whoever interrupts a run means all of them; it goes on where it was saved.
            outcome.interrupted = true;
            outcome.left.push((cell.id.clone(), "interrupted".to_owned()));
            return Ok(());
        }

        let why = match (self.store.at_rest(cell), known, code) {
            (Standing::Done, Some(ExitCode::Ok), _) => {
                outcome.done += 1;
                board.ended(cell, Ok(()));
                return self.tidy(&cell.id);
            }
            (Standing::Damaged { reason }, Some(ExitCode::Ok), _) => reason,
            (_, Some(ExitCode::Ok), _) => format!("dlt ended well, but left no {SUMMARY_FILE}"),
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

    /// A finished run keeps its model and records; its checkpoints are many times as large.
    fn tidy(&self, id: &CellId) -> Result<()> {
        let checkpoints = self.store.run(id).join(CHECKPOINTS);
        let is_done = self.store.run(id).join(SUMMARY_FILE).is_file();
        if self.keeps_checkpoints || !is_done || !checkpoints.is_dir() {
            return Ok(());
        }

        match fs::remove_dir_all(&checkpoints) {
            // Another study that shares the cell was faster.
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

/// A time as one types it: `90`, `90s`, `30m`, `2h`.
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

/// `1..3`, `2`, `1,4,7`.
pub(crate) fn parse_seeds(text: &str) -> Result<Vec<u64>, String> {
    let refuse = || format!("expected seeds such as 1..3 (one to three) or 1,4,7, got {text}");
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
