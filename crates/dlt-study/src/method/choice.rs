//! The learning rate at which a page shows a row: the one that is best on validation.

use std::collections::BTreeSet;

use super::{Pace, Point, What, rows};
use crate::record::Done;
use crate::row::Row;
use crate::sheet::Mean;
use crate::subject::Subject;
use crate::view::{Group, Quantity, View};

/// A row at its best rate.
#[derive(Clone, Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) what: What,
    pub(crate) pace: Pace,
    pub(crate) group: Group<'a>,
    /// Rates of the row that have no finished run.
    missing: Vec<Pace>,
}

/// The rows that have a finished run, each at its best rate.
pub(crate) struct Chosen<'a>(Vec<Choice<'a>>);

/// A row at one rate.
pub(crate) fn group<'a>(view: &View<'a>, what: What, pace: Pace) -> Group<'a> {
    view.group(Subject::Method, Row::Method(Point { what, pace }))
}

/// The best of the rates that have a finished run. Rates are compared on the seeds that all of them
/// have. If there is no such seed, each rate counts with all of its seeds.
pub(crate) fn choose<'a>(view: &View<'a>, what: What) -> Option<Choice<'a>> {
    let groups: Vec<(Pace, Group<'a>)> =
        what.paces().iter().map(|&pace| (pace, group(view, what, pace))).collect();
    let (there, missing): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(_, group)| !group.done.is_empty());
    let seeds_of =
        |group: &Group<'_>| group.done.iter().map(|done| seed(done)).collect::<BTreeSet<u64>>();

    let common = there.iter().map(|(_, group)| seeds_of(group)).reduce(|one, other| &one & &other);
    let common = common.unwrap_or_default();
    let mean = |group: &Group<'_>| {
        let counts = |done: &&&Done| common.is_empty() || common.contains(&seed(done));
        let values =
            group.done.iter().filter(counts).map(|done| done.summary.validation_perplexity);
        Mean::of(values).map_or(f64::INFINITY, |mean| mean.mean)
    };

    // Of equal rates the middle one wins, so that the choice does not depend on their order.
    let rank = |(pace, group): &(Pace, Group<'_>)| (mean(group), *pace != Pace::Once);
    let best = there.into_iter().min_by(|one, other| {
        let one = rank(one);
        let other = rank(other);
        one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
    });

    let missing = missing.into_iter().map(|(pace, _)| pace).collect();
    best.map(|(pace, group)| Choice { what, pace, group, missing })
}

impl<'a> Chosen<'a> {
    pub(crate) fn of(view: &View<'a>) -> Self {
        Self(rows(view.plan.scale).into_iter().filter_map(|what| choose(view, what)).collect())
    }

    /// The choices in the order of the page.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Choice<'a>> {
        self.0.iter()
    }

    pub(crate) fn of_row(&self, what: What) -> Option<&Choice<'a>> {
        self.all().find(|choice| choice.what == what)
    }

    /// The fixed sharing that is best on validation, among those that hold no more than `blocks`
    /// block parameters in the mean.
    pub(crate) fn best_fixed(&self, blocks: f64) -> Option<&Choice<'a>> {
        let mean = |choice: &Choice<'_>, of: Quantity| {
            choice.group.mean(of).map_or(f64::INFINITY, |one| one.mean)
        };
        let perplexity =
            |choice: &Choice<'_>| mean(choice, |done| done.summary.validation_perplexity);
        let fixed = self.all().filter(|choice| choice.what.is_fixed());

        fixed
            .filter(|choice| mean(choice, BLOCKS_MEAN) <= blocks)
            .min_by(|one, other| perplexity(one).total_cmp(&perplexity(other)))
    }
}

/// Trainable parameters in blocks, mean over training.
pub(crate) const BLOCKS_MEAN: Quantity = |done| done.summary.block_parameters_mean;

fn seed(done: &Done) -> u64 {
    done.provenance.seed
}

impl Choice<'_> {
    /// The rate, and the rates that have no result: `2e-3 (the highest)`,
    /// `1e-3 (5e-4, 2e-3 without result)`. `(the lowest)` and `(the highest)` say that a rate beyond
    /// the tried ones may be better.
    pub(crate) fn rate(&self) -> String {
        let own = || self.group.done.first()?.settings.get("optimizer.learning_rate").cloned();
        if self.what.method().is_none() {
            return own().map_or_else(
                || "the preset's".to_owned(),
                |rate| format!("{rate} (the preset's)"),
            );
        }

        let edge = match self.pace {
            Pace::Half => " (the lowest)",
            Pace::Once => "",
            Pace::Twice => " (the highest)",
        };

        let missing: Vec<&str> = self.missing.iter().map(|pace| pace.text()).collect();

        if !missing.is_empty() {
            format!("{} ({} without result)", self.pace.text(), missing.join(", "))
        } else if self.what.paces().len() > 1 {
            format!("{}{edge}", self.pace.text())
        } else {
            self.pace.text().to_owned()
        }
    }
}
