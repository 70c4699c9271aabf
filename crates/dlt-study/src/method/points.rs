//! Perplexity against block parameters, as a file that `dlt figure tradeoff` draws.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::choice::{Choice, choose};
use super::{Setup, What, rows};
use crate::sheet::Mean;
use crate::view::View;

/// Name of the file next to the figures, without an ending.
pub(crate) const NAME: &str = "method-tradeoff";
const SCHEMA: u32 = 1;

/// The file in a folder of figures.
pub(crate) fn path(figures: &Path) -> PathBuf {
    figures.join(NAME).with_extension("json")
}

/// The contents of the file.
#[derive(Serialize)]
struct Tradeoff {
    schema: u32,
    title: String,
    x: &'static str,
    y: &'static str,
    /// Groups of points, in the order of the legend.
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Series {
    name: String,
    /// Whether a line joins the points.
    is_line: bool,
    points: Vec<Spot>,
}

#[derive(Serialize)]
struct Spot {
    label: String,
    x: f64,
    y: f64,
    least: f64,
    most: f64,
}

/// The text of the file, with every row that has been run, at its best rate. `None` while there is
/// no such row.
pub(crate) fn text(view: &View<'_>) -> Option<String> {
    let setup = Setup::of(view.plan.scale)?;
    let whole = whole(&choose(view, What::Conventional)?)?;
    let spot = |what: What, label: String| {
        let group = choose(view, what)?.group;
        let blocks = group.mean(|done| done.summary.block_parameters_mean)?;
        let perplexity: Mean =
            group.mean(|done| done.summary.test_perplexity.unwrap_or(f64::NAN))?;
        let Mean { mean, least, most, .. } = perplexity;

        mean.is_finite().then(|| Spot { label, x: blocks.mean / whole, y: mean, least, most })
    };

    let rows = rows(view.plan.scale);
    let mut series = Vec::new();

    for family in RowFamily::ALL {
        let members = rows.iter().filter(|&&what| RowFamily::of(what) == family);
        let points: Vec<Spot> = members.filter_map(|&what| spot(what, what.name())).collect();
        series.push(Series { name: family.name().to_owned(), is_line: false, points });
    }

    for &width in setup.widths {
        let sizes = setup.depths.iter().map(|&layers| What::Size { layers, width });
        let points: Vec<Spot> = sizes.filter_map(|what| spot(what, depth(what))).collect();
        let name = format!("conventional, width {width}, by layers");

        series.push(Series { name, is_line: true, points });
    }

    series.retain(|one| !one.points.is_empty());
    let tradeoff = Tradeoff {
        schema: SCHEMA,
        title: format!("Perplexity against block parameters, scale {}", view.plan.scale.name()),
        x: "trainable block parameters, mean over training, share of conventional",
        y: "perplexity, test",
        series,
    };

    (!tradeoff.series.is_empty())
        .then(|| serde_json::to_string_pretty(&tradeoff).unwrap_or_default() + "\n")
}

fn depth(what: What) -> String {
    match what {
        What::Size { layers, .. } => layers.to_string(),
        other => other.name(),
    }
}

/// Block parameters of the conventional model with all of its layers. It comes from the row of that
/// model, because the summary of a row with fewer layers only has that row's number.
pub(crate) fn whole(conventional: &Choice<'_>) -> Option<f64> {
    let done = conventional.group.done.first()?;
    Some(done.summary.conventional_block_parameters as f64)
}

/// Rows that are one series of the figure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowFamily {
    MainJob,
    Growth,
    Walk,
    Search,
    Fixed,
    Paper,
    Conventional,
}

impl RowFamily {
    const ALL: [Self; 7] = [
        Self::MainJob,
        Self::Growth,
        Self::Walk,
        Self::Search,
        Self::Fixed,
        Self::Paper,
        Self::Conventional,
    ];

    fn of(what: What) -> Self {
        match what {
            What::MainJob | What::MainJobRandom => Self::MainJob,
            What::Grow
            | What::Even
            | What::GrowRandom
            | What::GrowAnywhere
            | What::GrowFresh
            | What::GrowAll => Self::Growth,
            What::Conflict | What::ConflictRandom | What::Single | What::SingleRandom => Self::Walk,
            What::Backtrack | What::Beam | What::Mcts | What::RandomSearch => Self::Search,
            What::Fixed(..) | What::OneBlock | What::FinalGroups | What::OneBlockWarm => {
                Self::Fixed
            }
            What::Paper
            | What::PaperRandom
            | What::PaperEpochs
            | What::PaperShallow
            | What::PaperCycle
            | What::PaperPerLayer => Self::Paper,
            What::Conventional | What::Shallow | What::ConventionalWarm | What::Size { .. } => {
                Self::Conventional
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::MainJob => "the main job",
            Self::Growth => "growth by splits",
            Self::Walk => "swaps and single changes",
            Self::Search => "searches",
            Self::Fixed => "fixed sharing",
            Self::Paper => "the paper's method",
            Self::Conventional => "conventional training",
        }
    }
}
