//! Tied and untied events over training (Fig. 2 of the paper).

use super::Figure;
use super::axes::{Axis, Chart, left_of};
use super::palette::series;
use super::shape::Shape;
use super::sheet::{Key, Sheet, filled};
use crate::error::{ReportError, Result};
use crate::numbers::whole;
use crate::run::Run;

/// Largest number of bins over training.
const BINS: usize = 24;

/// Counts of events over training.
struct Bins {
    first: usize,
    /// Training steps in a bin.
    width: usize,
    tied: Vec<usize>,
    untied: Vec<usize>,
}

impl Bins {
    /// Bins of equal width. If decisions are made at equal distances, every bin has the same number
    /// of them, so that heights can be compared.
    fn of(run: &Run) -> Self {
        let steps: Vec<_> = run.recording.rows().iter().map(|row| row.step()).collect();
        let first = steps.first().copied().unwrap_or(0);
        let until = run.steps_done().max(steps.last().copied().unwrap_or(0) + 1);
        let mut gaps: Vec<_> =
            steps.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0).collect();

        // The width is a multiple of the median distance between decisions.
        gaps.sort_unstable();
        let gap = gaps.get(gaps.len() / 2).copied().unwrap_or(1);
        let width = gap * (until - first).div_ceil(gap * BINS);
        let n_bins = (until - first).div_ceil(width);
        let mut bins = Self { first, width, tied: vec![0; n_bins], untied: vec![0; n_bins] };

        for (step, transition) in run.recording.transitions() {
            let counts = transition.event_counts();
            let bin = (step - first) / width;
            bins.tied[bin] += counts.tied;
            bins.untied[bin] += counts.untied;
        }

        bins
    }
}

/// How many layers changed their owner over training, in bins: tied to another one, or untied.
///
/// # Errors
/// [`ReportError::NothingToShow`] if no decision changed anything, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn events(run: &Run) -> Result<Figure> {
    let counts = run.recording.event_counts();
    if counts.total() == 0 {
        let decisions = whole(run.recording.rows().len());
        let missing = format!("none of its {decisions} decisions changed the owner of a layer");
        return Err(ReportError::NothingToShow { path: run.path.clone(), missing });
    }

    let bins = Bins::of(run);
    let first = bins.first as f64;
    let width = bins.width as f64;
    let until = first + width * bins.tied.len() as f64;
    let most = bins.tied.iter().chain(&bins.untied).copied().max().unwrap_or(0);
    let [tied, untied] = [series(0), series(1)];

    let x = Axis::steps("training steps", 0.0, until);
    let y = Axis::counts(&format!("events per {} steps", whole(bins.width)), most as f64, 7);
    let sheet = Sheet {
        title: format!("Tied and untied events: {}", run.name()),
        alt: format!(
            "Pairs of bars over training, one for every {} steps. In all {} events tied a layer to \
             another owner and {} made one independent.",
            whole(bins.width),
            whole(counts.tied),
            whole(counts.untied)
        ),
        legend: vec![
            (Key::Bar { colour: tied }, format!("tied to another owner ({})", whole(counts.tied))),
            (Key::Outline { colour: untied }, format!("untied ({})", whole(counts.untied))),
        ],
        height: 380.0,
    };

    sheet.draw(|area| {
        let mut chart = Chart::new(area, &x, &y, left_of(&[&y]))?;
        for (bin, (&n_tied, &n_untied)) in bins.tied.iter().zip(&bins.untied).enumerate() {
            let at = |share: f64| first + width * (bin as f64 + share);
            if n_tied > 0 {
                chart.rectangle([(at(0.08), n_tied as f64), (at(0.49), 0.0)], filled(tied))?;
            }

            if n_untied > 0 {
                let corners = [(at(0.52), n_untied as f64), (at(0.92), 0.0)];
                let from = chart.place(corners[0]);
                let to = chart.place(corners[1]);
                let size = [(0, 0), (to.0 - from.0, to.1 - from.1)];

                chart.put(corners[0], Shape::outline(size, untied))?;
            }
        }

        Ok(())
    })
}
