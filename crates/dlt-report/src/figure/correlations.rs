//! Correlations between the feed-forward weights of layers (Fig. 4 of the paper).

use std::ops::Range;
use std::path::PathBuf;

use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::axes::{Axis, Chart, EDGE, UPRIGHT, extent, left_of, ticks};
use super::palette::{INK, MUTED, on, shade};
use super::shape::Shape;
use super::sheet::{Area, Drawn, MARGIN, Sheet, TEXT, WIDTH, fitted, put, px, text, text_width};
use super::{CorrelationPanel, Figure};
use crate::correlation::Correlations;
use crate::error::{ReportError, Result};
use crate::numbers::decimal;

/// Width of the bar of shades with its labels, in pixels.
const SCALE: f64 = 104.0;
/// Space between the map and the bar, in pixels.
const BETWEEN: f64 = 8.0;
/// Size of the numbers in cells, in pixels.
const SMALL: f64 = 14.0;
/// Height of a panel's name and range, in pixels.
const HEAD: f64 = 52.0;

impl CorrelationPanel<'_> {
    /// Range of the shades: the given one, or from a round number below the least correlation to 1.
    /// The range begins at 0 if the least correlation is near 0.
    fn span(&self) -> Range<f64> {
        if let Some(range) = self.range.clone().filter(|range| range.end > range.start) {
            return range;
        }

        let n_layers = self.correlations.layers().len();
        let pairs = (0..n_layers).flat_map(|a| (0..a).map(move |b| (a, b)));
        let least = extent(pairs.map(|(a, b)| self.correlations.at(a, b)))
            .map_or(0.0, |extent| extent.start);
        let step = 10f64.powf((1.0 - least).max(1e-4).log10().floor());
        let low =
            if (-0.05..0.1).contains(&least) { 0.0 } else { (least / step + 1e-9).floor() * step };

        low.min(1.0 - step)..1.0
    }
}

/// Heat maps of the correlations between layers, one next to another for each model. Each states
/// the range of its shades.
///
/// # Errors
/// [`ReportError::NothingToShow`] if there is no panel, or one with fewer than two layers;
/// [`ReportError::Picture`] if it cannot be drawn.
pub fn correlations(title: &str, panels: &[CorrelationPanel]) -> Result<Figure> {
    let too_few = panels.iter().find(|panel| panel.correlations.layers().len() < 2);
    if let Some(name) = too_few.map(|panel| panel.name).or(panels.is_empty().then_some(title)) {
        let missing =
            "expected at least two layers with their own weights, to compare them".to_owned();
        return Err(ReportError::NothingToShow { path: PathBuf::from(name), missing });
    }

    let alt = panels.iter().map(|panel| {
        let n_layers = panel.correlations.layers().len();
        format!(
            "Heat map of {n_layers} by {n_layers} layers, {}; {}.",
            panel.name,
            stated(&panel.span())
        )
    });

    let width = (WIDTH / panels.len() as f64).floor();
    let maps: Vec<_> = panels.iter().map(|panel| Map::of(panel, width)).collect();
    let left = left_of(&maps.iter().map(|map| &map.y).collect::<Vec<_>>());
    let side = width - SCALE - left - EDGE - BETWEEN;

    let sheet = Sheet {
        title: title.to_owned(),
        alt: alt.collect::<Vec<_>>().join(" "),
        legend: Vec::new(),
        height: HEAD + side + UPRIGHT,
    };

    sheet.draw(|area| {
        let columns = area.split_evenly((1, panels.len()));
        columns.iter().zip(&maps).try_for_each(|(area, map)| map.draw(area, left, side))
    })
}

/// The range of the shades, in words.
fn stated(span: &Range<f64>) -> String {
    let number = |number: f64| {
        let text = decimal(number, 4);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("colours from {} to {}", number(span.start), number(span.end))
}

/// A panel with its axes and range.
struct Map<'a> {
    name: &'a str,
    correlations: &'a Correlations,
    span: Range<f64>,
    x: Axis,
    y: Axis,
    width: f64,
}

impl<'a> Map<'a> {
    fn of(panel: &CorrelationPanel<'a>, width: f64) -> Self {
        let layers = panel.correlations.layers();
        let most = if width < 500.0 { 8 } else { 16 };

        Self {
            name: panel.name,
            correlations: panel.correlations,
            span: panel.span(),
            x: axis("layer", layers, most, false),
            y: axis("layer", layers, most, true),
            width,
        }
    }

    /// Draws name, map and shades. A side of the map is `side` pixels long.
    fn draw(&self, area: &Area, left: f64, side: f64) -> Drawn {
        let (head, area) = area.split_vertically(px(HEAD));
        let lines = [(self.name.to_owned(), INK), (stated(&self.span), MUTED)];
        for (row, (line, colour)) in lines.into_iter().enumerate() {
            let line = fitted(&line, TEXT, self.width - 2.0 * MARGIN);
            let place = [MARGIN, HEAD * (row as f64 + 0.5) / 2.0];
            put(&head, place, Shape::Text(line, text(TEXT, colour, HPos::Left)))?;
        }

        let (map, scale) = area.split_horizontally(px(self.width - SCALE));
        let mut chart = Chart::within(&map, &self.x, &self.y, [left, BETWEEN])?;
        self.cells(&mut chart, side / self.correlations.layers().len() as f64)?;

        shades(&scale, &self.span)
    }

    /// The cells, `side` pixels wide and high, with their numbers if there is room.
    fn cells(&self, chart: &mut Chart, side: f64) -> Drawn {
        let n_layers = self.correlations.layers().len();
        let width = self.span.end - self.span.start;
        let decimals = if width < 0.02 { 4 } else { 2 };
        let has_numbers =
            text_width("0.00", SMALL) + SMALL * 0.64 * (decimals - 2) as f64 + 4.0 < side;
        let gap = if side > 8.0 { 0.5 / side } else { 0.0 };

        for (row, column) in
            (0..n_layers).flat_map(|row| (0..n_layers).map(move |column| (row, column)))
        {
            let value = self.correlations.at(row, column);
            // The first layer is at the top, as in a matrix.
            let left = column as f64 - 0.5;
            let top = (n_layers - row) as f64 - 0.5;
            let colour = shade((value - self.span.start) / width);
            let corners = [(left + gap, top - gap), (left + 1.0 - gap, top - 1.0 + gap)];

            chart.rectangle(corners, colour.filled())?;
            if has_numbers {
                let number =
                    Shape::Text(decimal(value, decimals), text(SMALL, on(colour), HPos::Center));
                chart.put((left + 0.5, top - 0.5), number)?;
            }
        }

        Ok(())
    }
}

/// An axis for layers whose numbers may have gaps.
fn axis(name: &str, layers: &[usize], most: usize, is_reversed: bool) -> Axis {
    let every = layers.len().div_ceil(most);
    let place = |index: usize| if is_reversed { layers.len() - 1 - index } else { index };
    let tick = |(index, layer): (usize, &usize)| (place(index) as f64, layer.to_string());
    let ticks = layers.iter().enumerate().step_by(every).map(tick).collect();
    Axis::labelled(name, -0.5..layers.len() as f64 - 0.5, ticks).without_grid()
}

/// The bar of shades, as high as the map.
fn shades(area: &Area, span: &Range<f64>) -> Drawn {
    const FIELDS: usize = 64;
    let width = span.end - span.start;
    let x = Axis::labelled(" ", 0.0..1.0, Vec::new());
    let y = Axis::labelled("", span.clone(), ticks(span, 7, 0.0)).without_grid();
    let mut chart = Chart::within(area, &x, &y, [left_of(&[&y]), MARGIN])?;

    for field in 0..FIELDS {
        let at = |share: f64| span.start + width * share / FIELDS as f64;
        // Fields overlap, so that no seam shows between them.
        let top = at((field as f64 + 1.5).min(FIELDS as f64));
        let colour = shade((field as f64 + 0.5) / FIELDS as f64);

        chart.rectangle([(0.0, top), (1.0, at(field as f64))], colour.filled())?;
    }

    Ok(())
}
