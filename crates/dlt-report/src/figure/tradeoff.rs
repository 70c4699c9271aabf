//! Perplexity against block parameters, for each way to train.

use std::path::Path;

use serde::Deserialize;

use super::Figure;
use super::axes::{Axis, Chart, extent, left_of};
use super::palette::{Mark, series};
use super::room::{RADIUS, Room};
use super::sheet::{Drawn, Key, Sheet};
use crate::error::{ReportError, Result};
use crate::run::read_json;

/// Layout of the file.
const SCHEMA: u32 = 1;
/// Largest number of points: more could not be distinguished.
const MOST: usize = 500;
/// Height of the chart with its axes, in pixels.
const HEIGHT: f64 = 560.0;
/// Ticks of the axis of shares. Those outside its range are left out.
const SHARES: [f64; 10] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// The data of the figure: points in series, as `cargo xtask method` writes them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tradeoff {
    schema: u32,
    /// What it shows, in a few words.
    pub title: String,
    /// Name of the horizontal axis, which is logarithmic; its values are above 0.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// Points that belong together, in the order of the legend.
    pub series: Vec<Series>,
}

/// Points of one kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its word in the legend.
    pub name: String,
    /// Whether a line joins its points.
    pub is_line: bool,
    /// Its points.
    pub points: Vec<Spot>,
}

/// A point with its spread.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spot {
    /// Its name.
    pub label: String,
    /// Horizontal position, above 0.
    pub x: f64,
    /// Vertical position: the mean over seeds.
    pub y: f64,
    /// The least value over seeds.
    pub least: f64,
    /// The greatest value over seeds.
    pub most: f64,
}

impl Tradeoff {
    /// Reads a file of points.
    ///
    /// # Errors
    /// [`ReportError::Io`] if it cannot be read; [`ReportError::Format`] if it is not such a file,
    /// has another version, or has a number that cannot be drawn.
    pub fn read(path: &Path) -> Result<Self> {
        let read: Self = read_json(path)?;
        if read.schema != SCHEMA {
            let reason = format!("expected layout {SCHEMA}, got {}", read.schema);
            return Err(ReportError::format(path, reason));
        }

        let spots = || read.series.iter().flat_map(|series| &series.points);
        let count = spots().count();
        if count == 0 || count > MOST {
            return Err(ReportError::format(
                path,
                format!("expected 1 to {MOST} points, got {count}"),
            ));
        }

        let is_sound = |spot: &&Spot| {
            let Spot { x, y, least, most, .. } = **spot;
            x > 0.0 && [x, y, least, most].iter().all(|number| number.is_finite())
        };

        if let Some(spot) = spots().find(|spot| !is_sound(spot)) {
            let reason =
                format!("{:?}: expected finite numbers, x above 0, got {spot:?}", spot.label);
            return Err(ReportError::format(path, reason));
        }

        Ok(read)
    }
}

/// Points with their spread over seeds, each with its name if there is room. Lines join the points
/// of a series of sizes.
///
/// # Errors
/// [`ReportError::Picture`] if it cannot be drawn.
pub fn tradeoff(of: &Tradeoff) -> Result<Figure> {
    let spots = || of.series.iter().flat_map(|series| &series.points);
    let across = extent(spots().map(|spot| spot.x.ln())).unwrap_or(0.0..1.0);
    let up = extent(spots().flat_map(|spot| [spot.least, spot.most])).unwrap_or(0.0..1.0);
    let pad = (0.06 * (across.end - across.start)).max(0.1);
    let ticks = SHARES.iter().map(|share| (share.ln(), share.to_string())).collect();
    let x = Axis::labelled(&of.x, across.start - pad..across.end + 2.0 * pad, ticks);

    let y = Axis::values(&of.y, up, 9);
    let legend = of.series.iter().enumerate().map(|(index, one)| {
        let colour = series(index);
        let mark = Mark::of(index);
        let key =
            if one.is_line { Key::Marked { colour, mark } } else { Key::Point { colour, mark } };

        (key, one.name.clone())
    });

    let sheet =
        Sheet { title: of.title.clone(), alt: alt(of), legend: legend.collect(), height: HEIGHT };

    sheet.draw(|area| {
        let mut chart = Chart::new(area, &x, &y, left_of(&[&y]))?;
        let mut room = Room::default();

        // The first series is drawn last, so it is on top.
        for (index, one) in of.series.iter().enumerate().rev() {
            draw(&mut chart, one, index, &mut room)?;
        }

        // All points are drawn, so no word covers one.
        spots().try_for_each(|spot| room.write(&mut chart, place(spot), &spot.label))
    })
}

/// Where a point is in the chart.
fn place(spot: &Spot) -> (f64, f64) {
    (spot.x.ln(), spot.y)
}

fn draw(chart: &mut Chart, of: &Series, index: usize, room: &mut Room) -> Drawn {
    let colour = series(index);
    let mark = Mark::of(index);

    if of.is_line {
        chart.line(&of.points.iter().map(place).collect::<Vec<_>>(), colour, 0.6, 1.5)?;
    }

    for spot in &of.points {
        let (x, y) = place(spot);
        chart.line(&[(x, spot.least), (x, spot.most)], colour, 0.7, 1.5)?;
        chart.point((x, y), mark, if of.is_line { 0.7 * RADIUS } else { RADIUS }, colour)?;
        room.take(chart, (x, y));
    }

    Ok(())
}

fn alt(of: &Tradeoff) -> String {
    let mut text = format!("Points of {} over {}.", of.y, of.x);
    for one in of.series.iter().filter(|series| !series.points.is_empty()) {
        let points =
            one.points.iter().map(|spot| format!("{} {:.1} at {:.3}", spot.label, spot.y, spot.x));
        text += &format!(" {}: {}.", one.name, points.collect::<Vec<_>>().join(", "));
    }

    text
}
