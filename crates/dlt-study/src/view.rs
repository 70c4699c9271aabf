//! Records by subject and row, as the tables need them.

use crate::cell::{CellId, GridEntry, Plan};
use crate::grid::{grid_entry, seeds};
use crate::record::{Done, Outcome, Predicted, Records};
use crate::row::Row;
use crate::sheet::{Figure, Mean};
use crate::subject::Subject;

/// The records of a study.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) records: &'a Records,
    pub(crate) plan: Plan<'a>,
}

/// All seeds of a row.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) done: Vec<&'a Done>,
    pub(crate) predicted: Option<&'a [Predicted]>,
    /// Why seeds are missing; empty if none is.
    pub(crate) missing: String,
}

/// A figure of a finished run.
pub(crate) type Quantity = fn(&Done) -> f64;

impl<'a> View<'a> {
    pub(crate) fn group(&self, subject: Subject, row: Row) -> Group<'a> {
        let mut group = Group { done: Vec::new(), predicted: None, missing: String::new() };
        if let GridEntry::LeftOut(why) = grid_entry(subject, row, 1, self.plan.scale) {
            group.missing = why.to_owned();
            return group;
        }

        let mut missing: Vec<String> = Vec::new();
        for seed in seeds(subject, row, self.plan) {
            let record = self.records.get(&CellId::new(subject, row, seed));
            match record.map(|record| &record.outcome) {
                Some(Outcome::Done(done)) => group.done.push(done),
                Some(Outcome::Predicted(states)) => group.predicted = Some(states),
                Some(Outcome::Failed { reason, log }) => {
                    missing.push(format!("FAILED, seed {seed}: {reason}, {log}"));
                }
                Some(Outcome::Open) | None => missing.push(self.why_open(subject, row, seed)),
            }
        }

        let has_nothing = group.done.is_empty() && group.predicted.is_none();
        let is_untouched = missing.iter().all(|why| why.ends_with("not run"));
        group.missing =
            if has_nothing && is_untouched { "not run yet".to_owned() } else { missing.join("; ") };

        group
    }

    /// Why a seed has no outcome.
    fn why_open(&self, subject: Subject, row: Row, seed: u64) -> String {
        let has_failed = |need: &CellId| {
            let record = self.records.get(need);
            matches!(record.map(|record| &record.outcome), Some(Outcome::Failed { .. }))
        };

        let needs = grid_entry(subject, row, seed, self.plan.scale)
            .cell()
            .map(|cell| cell.needs())
            .unwrap_or_default();

        match needs.into_iter().find(has_failed) {
            Some(need) => format!("seed {seed} not run, as it needs {need}, which FAILED"),
            None => format!("seed {seed} not run"),
        }
    }

    /// Figures for the machine-readable forms. The paper's value is of the first.
    pub(crate) fn figures(
        &self,
        subject: Subject,
        row: Row,
        paper: Option<f64>,
        quantities: &[(&str, Quantity)],
    ) -> Vec<Figure> {
        let group = self.group(subject, row);
        let figure = |(index, &(quantity, of)): (usize, &(&str, Quantity))| {
            let mean = group.mean(of);
            Figure {
                subject: subject.name(),
                row: row.name(),
                quantity: quantity.to_owned(),
                paper: paper.filter(|_| index == 0),
                mean: mean.map(|mean| mean.mean),
                least: mean.map(|mean| mean.least),
                most: mean.map(|mean| mean.most),
                seeds: group.done.len(),
                missing: (!group.missing.is_empty()).then(|| group.missing.clone()),
            }
        };

        quantities.iter().enumerate().map(figure).collect()
    }
}

impl Group<'_> {
    pub(crate) fn mean(&self, of: Quantity) -> Option<Mean> {
        Mean::of(self.done.iter().map(|done| of(done)))
    }

    /// The mean as a share of a whole; empty if there is none of either.
    pub(crate) fn share(&self, of: Quantity, whole: Option<f64>) -> String {
        match (self.mean(of), whole) {
            (Some(own), Some(whole)) => format!("{:.3}", own.mean / whole),
            _ => String::new(),
        }
    }

    /// The mean with its range, or why there is none. If only some seeds are missing, the reason is in
    /// brackets after the mean.
    pub(crate) fn text(&self, of: Quantity, decimals: usize) -> String {
        match (self.mean(of), self.missing.as_str()) {
            (Some(mean), "") => mean.text(decimals),
            (Some(mean), missing) => format!("{} [{missing}]", mean.text(decimals)),
            (None, missing) => missing.to_owned(),
        }
    }

    /// How much its mean is above another group's, in percent: `+4.3 %`.
    pub(crate) fn above(&self, other: &Self, of: Quantity) -> String {
        match (self.mean(of), other.mean(of)) {
            (Some(own), Some(other)) if other.mean != 0.0 => {
                format!("{:+.1} %", 100.0 * (own.mean / other.mean - 1.0))
            }
            _ => String::new(),
        }
    }
}
