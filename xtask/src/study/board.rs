//! What a person sees while cells run: a line that changes on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cell::{Cell, CellId};
use super::cost;
use super::launch::{Outcome, seconds};
use super::scale::Scale;
use super::store::Store;

/// Between two looks on a terminal, and between two lines elsewhere.
const LOOK: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(60);

/// The overview of a study that is under way, on standard error.
pub(crate) struct Board<'a> {
    store: &'a Store,
    scale: Scale,
    total: usize,
    done: usize,
    failed: usize,
    /// Seconds that each open cell is expected to take at a rate of one operation a second.
    open: Vec<(&'a Cell, f64)>,
    rate: f64,
    began: Instant,
    shown: Instant,
    /// Cells of which was said that another process is at them.
    awaited: Vec<CellId>,
    is_terminal: bool,
}

impl<'a> Board<'a> {
    pub(crate) fn new(store: &'a Store, cells: &[Cell], open: &[&'a Cell], scale: Scale) -> Self {
        let rate = cost::rate(store, cells, scale);
        let open = open.iter().map(|&cell| (cell, seconds(cell, scale, 1.0).unwrap_or(0.0))).collect();
        let now = Instant::now();
        let is_terminal = io::stderr().is_terminal();
        Self {
            store,
            scale,
            total: cells.len(),
            done: 0,
            failed: 0,
            open,
            rate,
            began: now,
            shown: now,
            awaited: Vec::new(),
            is_terminal,
        }
    }

    pub(crate) fn begin(&mut self, done: usize) {
        self.done = done;
        let expected = cost::duration(self.expected());
        self.say(&format!(
            "scale {}: {} cells, {done} of them done; about {expected} for the others",
            self.scale.name(),
            self.total,
        ));
    }

    pub(crate) fn started(&mut self, cell: &Cell, resumed: bool) {
        let verb = if resumed { "goes on" } else { "begins" };
        let step = self.store.step(&cell.id);
        let from = if resumed && step > 0 { format!(" after step {step}") } else { String::new() };
        self.say(&format!("{}  {} {verb}{from}", self.count(), cell.id));
    }

    pub(crate) fn ended(&mut self, cell: &Cell, result: Result<(), &str>) {
        self.open.retain(|(other, _)| other.id != cell.id);
        match result {
            Ok(()) => {
                self.done += 1;
                let what = self.outcome(cell);
                self.say(&format!("{}  {} done{what}", self.count(), cell.id));
            }
            Err(why) => {
                self.failed += 1;
                let log = self.store.log(&cell.id);
                self.say(&format!("{}  {} FAILED: {why}; see {}", self.count(), cell.id, log.display()));
            }
        }
    }

    /// Looks at the running cells, now and then; `elsewhere` are those that another process is at.
    pub(crate) fn look<'c>(&mut self, running: impl Iterator<Item = &'c Cell>, elsewhere: &[&Cell]) {
        for cell in elsewhere {
            if !self.awaited.contains(&cell.id) {
                self.awaited.push(cell.id.clone());
                self.say(&format!(
                    "{}  {}: another process is at it and is waited for",
                    self.count(),
                    cell.id
                ));
            }
        }
        if self.shown.elapsed() < if self.is_terminal { LOOK } else { LINE } {
            return;
        }
        let mut parts = Vec::new();
        let mut begun = 0.0;
        for cell in running {
            let (step, steps) =
                (self.store.step(&cell.id), cell.spec().ok().and_then(|spec| cost::steps(cell, &spec)));
            let of = steps.map_or_else(String::new, |steps| format!("/{steps}"));
            let share = steps.filter(|&steps| steps > 0).map_or(0.0, |steps| step as f64 / steps as f64);
            let work = self.open.iter().find(|(other, _)| other.id == cell.id).map_or(0.0, |(_, work)| *work);
            begun += share * work / self.rate;
            parts.push(format!("{} {step}{of}", cell.id));
        }
        let left = cost::duration((self.expected() - begun).max(0.0));
        let line = format!("{}  {}; about {left} left", self.count(), parts.join(", "));
        self.shown = Instant::now();
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome) {
        let took = cost::duration(self.began.elapsed().as_secs_f64());
        let (failed, left) = (outcome.failed.len(), outcome.left.len());
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

    fn expected(&self) -> f64 {
        self.open.iter().map(|(_, work)| work / self.rate).sum()
    }

    fn count(&self) -> String {
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("[{}/{}{failed}]", self.done, self.total)
    }

    fn outcome(&self, cell: &Cell) -> String {
        let Ok(Some(summary)) = self.store.summary(&cell.id) else { return String::new() };
        match summary.validation_scores {
            Some(scores) => format!(": accuracy {:.3} on validation", scores.accuracy),
            None => format!(": perplexity {:.2} on validation", summary.validation_perplexity),
        }
    }

    /// A line that stays. Nobody may be reading: that is no reason to stop.
    fn say(&mut self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{clear}{line}");
        self.shown = Instant::now();
    }
}
