//! What a person sees while cells run: a changing line on a terminal, and plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cell::{Cell, CellId};
use crate::cost::{self, Costs, Forecast};
use crate::launch::Outcome;
use crate::scale::Scale;
use crate::store::Store;

/// Time between two updates on a terminal.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two lines elsewhere.
const LINE: Duration = Duration::from_secs(60);

/// The progress of a running study, on standard error.
pub(crate) struct Board<'a> {
    store: &'a Store,
    scale: Scale,
    total: usize,
    done: usize,
    failed: usize,
    /// Cells that have not ended.
    open: Vec<&'a Cell>,
    costs: &'a Costs,
    /// Cells that run at once.
    jobs: usize,
    began: Instant,
    shown: Instant,
    /// Cells that were already reported as run by another process.
    awaited: Vec<CellId>,
    is_terminal: bool,
}

impl<'a> Board<'a> {
    /// A board for `total` cells. `open` of them are to be run, `jobs` at once.
    pub(crate) fn new(
        store: &'a Store,
        scale: Scale,
        total: usize,
        open: Vec<&'a Cell>,
        (costs, jobs): (&'a Costs, usize),
    ) -> Self {
        let now = Instant::now();
        let is_terminal = io::stderr().is_terminal();

        Self {
            store,
            scale,
            total,
            done: 0,
            failed: 0,
            open,
            costs,
            jobs,
            began: now,
            shown: now,
            awaited: Vec::new(),
            is_terminal,
        }
    }

    pub(crate) fn begin(&mut self, done: usize) {
        self.done = done;
        let others = if self.open.is_empty() {
            "nothing is left to run".to_owned()
        } else {
            format!("the others take {}", self.expected().text())
        };

        let scale = self.scale.name();
        let total = self.total;
        self.say(&format!("scale {scale}: {total} cells, {done} of them done; {others}"));
    }

    pub(crate) fn started(&mut self, cell: &Cell, resumed: bool) {
        let verb = if resumed { "resumes" } else { "starts" };
        let step = self.store.step(&cell.id);
        let from = if resumed && step > 0 { format!(" after step {step}") } else { String::new() };
        self.say(&format!("{}  {} {verb}{from}", self.count(), cell.id));
    }

    pub(crate) fn ended(&mut self, cell: &Cell, result: Result<(), &str>) {
        self.open.retain(|other| other.id != cell.id);

        match result {
            Ok(()) => {
                self.done += 1;
                let what = self.outcome(cell);
                self.say(&format!("{}  {} done{what}", self.count(), cell.id));
            }
            Err(why) => {
                self.failed += 1;
                let log = self.store.log(&cell.id);
                self.say(&format!(
                    "{}  {} FAILED: {why}; see {}",
                    self.count(),
                    cell.id,
                    log.display()
                ));
            }
        }
    }

    /// Shows the progress of the running cells, if it is time to. Another process runs the cells of
    /// `elsewhere`.
    pub(crate) fn look<'c>(
        &mut self,
        running: impl Iterator<Item = &'c Cell>,
        elsewhere: &[&Cell],
    ) {
        for cell in elsewhere {
            if !self.awaited.contains(&cell.id) {
                self.awaited.push(cell.id.clone());
                self.say(&format!(
                    "{}  {}: another process runs it, waiting for that process",
                    self.count(),
                    cell.id
                ));
            }
        }

        if self.shown.elapsed() < if self.is_terminal { LOOK } else { LINE } {
            return;
        }

        let mut parts = Vec::new();
        let mut begun = Duration::ZERO;

        for cell in running {
            let step = self.store.step(&cell.id);
            let steps = cell.spec().ok().and_then(|spec| cost::steps(cell, &spec));
            let of = steps.map_or_else(String::new, |steps| format!("/{steps}"));
            let share =
                steps.filter(|&steps| steps > 0).map_or(0.0, |steps| step as f64 / steps as f64);

            begun += self.costs.time(cell).unwrap_or_default().mul_f64(share.min(1.0))
                / self.jobs as u32;
            parts.push(format!("{} {step}{of}", cell.id));
        }

        let expected = self.expected();
        let left = Forecast { time: expected.time.saturating_sub(begun), ..expected };
        let line = format!("{}  {}; {} left", self.count(), parts.join(", "), left.text());

        self.shown = Instant::now();

        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome) {
        let took = cost::duration(self.began.elapsed());
        let failed = outcome.failed.len();
        let left = outcome.left.len();
        let mut reasons: Vec<&str> = outcome.left.iter().map(|(_, why)| why.as_str()).collect();

        reasons.sort_unstable();
        reasons.dedup();

        for why in reasons {
            let cells = outcome.left.iter().filter(|(_, other)| other == why);
            let cells: Vec<&str> = cells.map(|(cell, _)| cell.as_str()).collect();
            self.say(&format!("left ({why}): {}", cells.join(", ")));
        }

        self.say(&format!("{} done, {failed} failed, {left} left; {took}", outcome.done));
    }

    fn expected(&self) -> Forecast {
        self.costs.forecast(self.open.iter().copied(), self.jobs)
    }

    fn count(&self) -> String {
        let failed =
            if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("[{}/{}{failed}]", self.done, self.total)
    }

    fn outcome(&self, cell: &Cell) -> String {
        let Ok(Some(summary)) = self.store.summary(&cell.id) else { return String::new() };
        match summary.validation_scores {
            Some(scores) => format!(": accuracy {:.3} on validation", scores.accuracy),
            None => format!(": perplexity {:.2} on validation", summary.validation_perplexity),
        }
    }

    /// Writes a line that stays. Errors are ignored: a study must not stop because nobody reads its
    /// output.
    fn say(&mut self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{clear}{line}");
        self.shown = Instant::now();
    }
}
