//! Records by subject and row: what a table asks for.

use super::cell::{CellId, Place, Plan};
use super::grid::{place, seeds};
use super::record::{Done, Outcome, Predicted, Records};
use super::row::Row;
use super::sheet::{Figure, Mean};
use super::subject::Subject;

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
    /// Why seeds are missing; empty where none is.
    pub(crate) missing: String,
}

/// A figure of a finished run.
pub(crate) type Quantity = fn(&Done) -> f64;

impl<'a> View<'a> {
    pub(crate) fn group(&self, subject: Subject, row: Row) -> Group<'a> {
        let mut group = Group { done: Vec::new(), predicted: None, missing: String::new() };
        if let Place::Left(why) = place(subject, row, 1, self.plan.scale) {
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

        group.missing = match group.done.is_empty() && group.predicted.is_none() {
            true if missing.iter().all(|why| why.ends_with("not run")) => "not run yet".to_owned(),
            _ => missing.join("; "),
        };

        group
    }

    /// Why there is no outcome.
    fn why_open(&self, subject: Subject, row: Row, seed: u64) -> String {
        let has_failed = |need: &CellId| {
            let record = self.records.get(need);
            matches!(record.map(|record| &record.outcome), Some(Outcome::Failed { .. }))
        };

        let needs = place(subject, row, seed, self.plan.scale)
            .cell()
            .map(|cell| cell.needs())
            .unwrap_or_default();

        match needs.into_iter().find(has_failed) {
            Some(need) => format!("seed {seed} not run, as it needs {need}, which FAILED"),
            None => format!("seed {seed} not run"),
        }
    }

    /// A figure for the machine-readable forms.
    pub(crate) fn figure(
        &self,
        subject: Subject,
        row: Row,
        quantity: &str,
        paper: Option<f64>,
        of: Quantity,
    ) -> Figure {
        let group = self.group(subject, row);
        let mean = group.mean(of);

        Figure {
            subject: subject.name(),
            row: row.name(),
            quantity: quantity.to_owned(),
            paper,
            mean: mean.map(|mean| mean.mean),
            least: mean.map(|mean| mean.least),
            most: mean.map(|mean| mean.most),
            seeds: group.done.len(),
            missing: (!group.missing.is_empty()).then(|| group.missing.clone()),
        }
    }
}

impl Group<'_> {
    pub(crate) fn mean(&self, of: Quantity) -> Option<Mean> {
        Mean::of(self.done.iter().map(|done| of(done)))
    }

    /// The mean with its spread, or why there is none. Seeds that failed are said beside those that
    /// did not.
    pub(crate) fn text(&self, of: Quantity, decimals: usize) -> String {
        match (self.mean(of), self.missing.as_str()) {
            (Some(mean), "") => mean.text(decimals),
            (Some(mean), missing) => format!("{} [{missing}]", mean.text(decimals)),
            (None, missing) => missing.to_owned(),
        }
    }

    /// By how much its mean lies above that of another, in hundredths.
    pub(crate) fn above(&self, other: &Self, of: Quantity) -> String {
        match (self.mean(of), other.mean(of)) {
            (Some(own), Some(other)) if other.mean != 0.0 => {
                format!("{:+.1} %", 100.0 * (own.mean / other.mean - 1.0))
            }
            _ => String::new(),
        }
    }
}
