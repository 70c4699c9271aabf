//! Running cells: as child processes, in the order of the grid, as many at once as asked for.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dlt_spec::ExitCode;
use dlt_spec::record::SUMMARY_FILE;

use super::board::Board;
use super::cell::{Cell, CellId, Job};
use super::cost;
use super::scale::Scale;
use super::store::{ByName, Standing, Store};

/// How often running children are looked at; small beside a cell.
const POLL: Duration = Duration::from_millis(100);
/// Checkpoints of a finished run, which only a longer run would need.
const CHECKPOINTS: &str = "checkpoint";

/// How cells are run.
#[derive(Clone, Debug)]
pub(crate) struct Launcher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) dlt: PathBuf,
    pub(crate) scale: Scale,
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
    /// Cells that failed, and why.
    pub(crate) failed: Vec<(CellId, String)>,
    /// Cells that were not begun: for lack of time, or because what they need failed.
    pub(crate) left: Vec<CellId>,
    /// Whether somebody interrupted a run.
    pub(crate) interrupted: bool,
}

struct Running<'c> {
    cell: &'c Cell,
    child: process::Child,
    resumed: bool,
}

impl Launcher<'_> {
    /// Runs what has not been done yet.
    pub(crate) fn run(&self, cells: &[Cell]) -> Result<Outcome> {
        let start = Instant::now();
        let mut board = Board::new(self.store, cells, self.scale)?;
        let mut outcome = Outcome::default();
        let mut open: Vec<&Cell> = Vec::new();
        for cell in cells {
            match self.store.standing(cell)? {
                Standing::Done => outcome.done += 1,
                _ => open.push(cell),
            }
        }
        board.begin(outcome.done);
        let mut running: Vec<Running<'_>> = Vec::new();
        loop {
            let mut index = 0;
            while index < running.len() {
                match running[index].child.try_wait().context("cannot wait for dlt")? {
                    None => index += 1,
                    Some(status) => {
                        let ended = running.swap_remove(index);
                        self.ended(&ended, status, &mut outcome, &mut board)?;
                    }
                }
            }
            let is_over = outcome.interrupted || self.budget.is_some_and(|budget| start.elapsed() >= budget);
            while !is_over && running.len() < self.jobs {
                let Some(next) = self.next(&open, &running)? else { break };
                let cell = open.remove(next);
                match self.start(cell) {
                    Ok(Some(started)) => {
                        board.started(cell, started.resumed);
                        running.push(started);
                    }
                    Ok(None) => {
                        outcome.done += 1;
                        board.ended(cell, Ok(()));
                    }
                    Err(error) => self.failed(cell, format!("{error:#}"), &mut outcome, &mut board)?,
                }
            }
            if running.is_empty() && (is_over || !self.waits(&open)?) {
                outcome.left.extend(open.iter().map(|cell| cell.id.clone()));
                board.end(&outcome);
                return Ok(outcome);
            }
            board.look(running.iter().map(|one| one.cell));
            thread::sleep(POLL);
        }
    }

    /// Whether a process that is not ours is at one of these cells.
    fn waits(&self, open: &[&Cell]) -> Result<bool> {
        let mut waits = false;
        for cell in open {
            waits |= matches!(self.store.standing(cell)?, Standing::Running { .. });
        }
        Ok(waits)
    }

    /// The next cell that can be begun. One that another process is at is left to it.
    fn next(&self, open: &[&Cell], running: &[Running<'_>]) -> Result<Option<usize>> {
        for (index, cell) in open.iter().enumerate() {
            let is_ours = running.iter().any(|one| one.cell.id == cell.id);
            let standing = self.store.standing(cell)?;
            if !is_ours && !matches!(standing, Standing::Waiting | Standing::Running { .. }) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Starts a cell, or goes on with it; `None` where it is done by now.
    fn start<'c>(&self, cell: &'c Cell) -> Result<Option<Running<'c>>> {
        let standing = self.store.standing(cell)?;
        if standing == Standing::Done {
            return Ok(None);
        }
        let run = self.store.run(&cell.id);
        let goes_on = standing != Standing::Stale && self.store.has_begun(&cell.id);
        if !goes_on && run.exists() {
            let aside = self.store.set_aside(&cell.id)?;
            self.log(&cell.id, &format!("what was there was made otherwise: it is now {}", aside.display()))?;
        }
        let by_name = cell.arguments(&ByName(self.store)).context("a run that it needs is not done")?;
        self.store.write_note(&cell.id, by_name, None)?;
        let child = self.command(cell, goes_on)?.spawn();
        let child = child.with_context(|| format!("cannot start {}", self.dlt.display()))?;
        Ok(Some(Running { cell, child, resumed: goes_on }))
    }

    fn command(&self, cell: &Cell, goes_on: bool) -> Result<Command> {
        let run = self.store.run(&cell.id);
        let mut command = Command::new(&self.dlt);
        match (&cell.job, goes_on) {
            (Job::Predict { .. }, _) => {
                let to = File::create(self.partial(&cell.id)).context("cannot write the prediction")?;
                command.args(cell.arguments(self.store).context("its spec is not known")?);
                command.stdout(to);
            }
            (_, true) => {
                command.args(["train", "--resume"]).arg(&run);
                command.stdout(self.log_file(&cell.id)?);
            }
            (_, false) => {
                command.args(cell.arguments(self.store).context("a run that it needs is not done")?);
                command.arg("--out").arg(&run).stdout(self.log_file(&cell.id)?);
            }
        }
        if !matches!(cell.job, Job::Predict { .. }) {
            command.args(["--threads", &self.threads.to_string(), "--device", &self.device]);
        }
        command.stdin(Stdio::null()).stderr(self.log_file(&cell.id)?);
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
        if status.success() && self.store.standing(cell)? == Standing::Done {
            outcome.done += 1;
            board.ended(cell, Ok(()));
            return self.tidy(&cell.id);
        }
        if status.code().and_then(|code| u8::try_from(code).ok()) == Some(ExitCode::Interrupted.number()) {
            // Whoever interrupts a run means all of them; it goes on where it was saved.
            outcome.interrupted = true;
            outcome.left.push(cell.id.clone());
            return Ok(());
        }
        let why = match status.code() {
            Some(code) => format!("dlt ended with exit code {code}"),
            None => format!("dlt was ended by the system ({status})"),
        };
        self.failed(cell, why, outcome, board)
    }

    fn failed(&self, cell: &Cell, why: String, outcome: &mut Outcome, board: &mut Board<'_>) -> Result<()> {
        let arguments = match self.store.note(&cell.id)? {
            Some(note) => note.arguments,
            None => cell.arguments(&ByName(self.store)).unwrap_or_default(),
        };
        self.store.write_note(&cell.id, arguments, Some(why.clone()))?;
        board.ended(cell, Err(&why));
        outcome.failed.push((cell.id.clone(), why));
        Ok(())
    }

    /// A finished run keeps its model and records; its checkpoints are many times as large.
    fn tidy(&self, id: &CellId) -> Result<()> {
        let checkpoints = self.store.run(id).join(CHECKPOINTS);
        let is_done = self.store.run(id).join(SUMMARY_FILE).is_file();
        if self.keeps_checkpoints || !is_done || !checkpoints.is_dir() {
            return Ok(());
        }
        fs::remove_dir_all(&checkpoints).with_context(|| format!("cannot remove {}", checkpoints.display()))
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

fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
        }
        None => Ok(()),
    }
}

/// A time as one types it: `90`, `90s`, `30m`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("expected a time such as 90s, 30m or 2h, came {text}");
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
    let refuse = || format!("expected seeds such as 1..3 (one to three) or 1,4,7, came {text}");
    let number = |word: &str| word.trim().parse::<u64>().map_err(|_| refuse());
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
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

/// What a cell will take, for a board.
pub(crate) fn seconds(cell: &Cell, scale: Scale, rate: f64) -> Option<f64> {
    cost::operations(cell, scale).ok()?.map(|operations| operations / rate)
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
