//! The figures: the runs that each shows, and the commands that draw it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::cell::CellId;
use crate::child::Child;
use crate::method::{Pace, Point, What, points};
use crate::program::make_folder;
use crate::row::Row;
use crate::scale::Scale;
use crate::store::Store;
use crate::subject::{Corpus, Subject};

const LIMIT: Duration = Duration::from_secs(300);
const CORRELATIONS: &str = "correlations";
/// What `dlt figure` writes.
const ENDINGS: [&str; 2] = ["svg", "png"];

/// One file of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Its number in the paper, if it is one of the paper's four figures.
    pub(crate) number: Option<u8>,
    /// Name of its file, without an ending.
    pub(crate) name: &'static str,
    /// Its name as a subcommand of `dlt figure`.
    kind: &'static str,
    pub(crate) runs: Vec<(Subject, Row)>,
    /// Whether it shows a file of points that is next to the figures, and no runs.
    pub(crate) has_points: bool,
}

/// Every figure.
pub(crate) fn drawings() -> Vec<Drawing> {
    let wikitext = Subject::Gpt2(Corpus::WikiText2);
    let compared = [Row::Full, Row::Conventional, Row::Random, Row::Short, Row::Reference];
    let drawing = |number, name, kind, subject, rows: &[Row]| Drawing {
        number,
        name,
        kind,
        runs: rows.iter().map(|&row| (subject, row)).collect(),
        has_points: false,
    };

    let walk = |what| [Row::Method(Point { what, pace: Pace::Once })];
    let shakespeare = Subject::Shakespeare;
    let full = &compared[..1];

    vec![
        drawing(Some(1), "figure-1-a-map-wikitext-2", "map", wikitext, full),
        drawing(
            Some(1),
            "figure-1-b-map-wikitext-103",
            "map",
            Subject::Gpt2(Corpus::WikiText103),
            full,
        ),
        drawing(Some(2), "figure-2-events", "events", wikitext, full),
        drawing(Some(3), "figure-3-steps-independent", "independent", wikitext, full),
        drawing(Some(4), "figure-4-correlations", CORRELATIONS, wikitext, &compared[..2]),
        drawing(None, "map-shakespeare", "map", shakespeare, full),
        drawing(None, "loss", "loss", shakespeare, &compared),
        drawing(None, "states", "states", shakespeare, full),
        drawing(None, "agent", "agent", shakespeare, full),
        drawing(None, "memory", "memory", shakespeare, &compared[..3]),
        drawing(None, "method-walk", "walk", Subject::Method, &walk(What::Grow)),
        drawing(None, "method-walk-swaps", "walk", Subject::Method, &walk(What::Conflict)),
        Drawing {
            has_points: true,
            ..drawing(None, points::NAME, "tradeoff", Subject::Method, &[])
        },
    ]
}

impl Drawing {
    /// The cells of its runs, with the first seed.
    pub(crate) fn cells(&self) -> Vec<CellId> {
        self.runs.iter().map(|&(subject, row)| CellId::new(subject, row, 1)).collect()
    }

    /// Whether a scale has all of its runs.
    pub(crate) fn is_of(&self, scale: Scale) -> bool {
        self.runs.iter().all(|(subject, _)| subject.ground(scale).is_ok())
    }

    /// Whether all of its runs have finished, or its points exist next to the figures in `folder`.
    pub(crate) fn is_ready(&self, store: &Store, folder: &Path) -> bool {
        if self.has_points {
            return points::path(folder).is_file();
        }
        self.cells().iter().all(|cell| matches!(store.summary(cell), Ok(Some(_))))
    }

    /// Paths of what it is drawn from.
    fn sources(&self, store: &Store, folder: &Path) -> Vec<String> {
        if self.has_points {
            return vec![points::path(folder).display().to_string()];
        }
        self.cells().iter().map(|cell| store.run(cell).display().to_string()).collect()
    }

    /// Its files in a folder.
    pub(crate) fn files(&self, folder: &Path) -> [PathBuf; 2] {
        ENDINGS.map(|ending| folder.join(self.name).with_extension(ending))
    }

    /// Draws it into `folder`, and returns its files.
    pub(crate) fn draw(&self, dlt: &Path, store: &Store, folder: &Path) -> Result<[PathBuf; 2]> {
        make_folder(folder)?;
        for file in self.files(folder) {
            let sources = self.sources(store, folder);
            let child = Child::new(dlt)
                .arguments(["figure", self.kind])
                .arguments(sources)
                .arguments(["--force".to_owned(), "--out".to_owned(), file.display().to_string()]);
            child.run(LIMIT).map_err(|failure| anyhow::anyhow!("{}: {failure}", self.name))?;
        }
        Ok(self.files(folder))
    }
}

/// Computes the correlations that Figure 4 shows, and stores them in the run folders. They need the
/// models, which the kept runs do not have.
pub(crate) fn correlate(dlt: &Path, store: &Store) -> Result<()> {
    for drawing in drawings().iter().filter(|drawing| drawing.kind == CORRELATIONS) {
        if !drawing.is_ready(store, Path::new("")) {
            continue;
        }

        let runs = drawing.sources(store, Path::new(""));
        let child = Child::new(dlt).arguments(["figure", CORRELATIONS, "--save"]).arguments(runs);
        child.run(LIMIT).map_err(|failure| anyhow::anyhow!("{}: {failure}", drawing.name))?;
    }

    Ok(())
}

/// The cells whose runs are kept with the results, so that the figures can be drawn again.
pub(crate) fn cells_that_are_kept(scale: Scale) -> Vec<CellId> {
    let mut cells: Vec<CellId> = drawings()
        .iter()
        .flat_map(|drawing| drawing.runs.clone())
        .filter(|(subject, _)| subject.ground(scale).is_ok())
        .map(|(subject, row)| CellId::new(subject, row, 1))
        .collect();
    cells.sort();
    cells.dedup();

    cells
}
