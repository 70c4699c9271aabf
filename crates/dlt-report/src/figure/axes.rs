//! Charts: axes with round ticks, and drawing between them.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::element::{PathElement, Rectangle};
use plotters::prelude::{Cartesian2d, SVGBackend};
use plotters::style::ShapeStyle;
use plotters::style::text_anchor::HPos;

use super::palette::{GRID, INK, Mark};
use super::shape::{Placed, Shape};
use super::sheet::{Area, Drawn, TEXT, px, stroke, text, text_width};
use crate::numbers::decimal;

/// Height of the ticks, their labels and the name of a horizontal axis, in pixels.
const BELOW: f64 = 58.0;
/// The same without a name.
const BELOW_UNNAMED: f64 = 30.0;
/// Space above a chart, for half a label, in pixels.
const ABOVE: f64 = 10.0;
/// Space at the right of a chart, for half a label, in pixels.
const RIGHT: f64 = 30.0;
/// Space around axes and their names, in pixels.
pub(super) const EDGE: f64 = 8.0;
/// Space above and below a chart with named axes, in pixels.
pub(super) const UPRIGHT: f64 = ABOVE + BELOW + EDGE;
/// Distance from the axis to the labels of ticks, in pixels.
const TICK: f64 = 5.0;
/// Largest number of points of a line: two for every pixel of a chart.
const POINTS: usize = 1400;

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    name: String,
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
    has_grid: bool,
}

impl Axis {
    /// An axis for values in a range. The range is widened a little, so that no value is at the
    /// edge; a start at 0 stays. `count` is the largest number of ticks.
    pub(super) fn values(name: &str, values: Range<f64>, count: usize) -> Self {
        let Range { start, end } = values;
        let pad = if end > start { 0.04 * (end - start) } else { end.abs().max(1.0) * 0.5 };
        let range = if start == 0.0 { 0.0..end + pad } else { start - pad..end + pad };
        Self::with_ticks(name, range, count, 0.0)
    }

    /// An axis for counts from 0: ticks are whole numbers.
    pub(super) fn counts(name: &str, most: f64, count: usize) -> Self {
        Self::with_ticks(name, 0.0..1.06 * most.max(1.0), count, 1.0)
    }

    /// An axis for training steps or decisions, `from` to `to`.
    pub(super) fn steps(name: &str, from: f64, to: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { has_grid: false, ..Self::with_ticks(name, from..to, 9, 1.0) }
    }

    /// An axis for layers, each of width 1 around its number. `count` is the largest number of
    /// ticks.
    pub(super) fn layers(name: &str, n_layers: usize, count: usize) -> Self {
        let step = [1, 2, 4, 8, 16].into_iter().find(|step| n_layers.div_ceil(*step) <= count);
        let step = step.unwrap_or_else(|| n_layers.div_ceil(count.max(1)).next_power_of_two());
        let ticks =
            (0..n_layers).step_by(step).map(|layer| (layer as f64, layer.to_string())).collect();
        Self { name: name.to_owned(), range: -0.5..n_layers as f64 - 0.5, ticks, has_grid: false }
    }

    /// An axis with given ticks, of which those outside its range are left out.
    pub(super) fn labelled(name: &str, range: Range<f64>, mut ticks: Vec<(f64, String)>) -> Self {
        ticks.retain(|(tick, _)| (range.start..=range.end).contains(tick));
        Self { name: name.to_owned(), range, ticks, has_grid: true }
    }

    /// The axis without lines across the chart.
    pub(super) fn without_grid(self) -> Self {
        Self { has_grid: false, ..self }
    }

    /// The axis with room below its lowest value: this share of the whole axis.
    pub(super) fn with_room_below(mut self, share: f64) -> Self {
        self.range.start -= (self.range.end - self.range.start) * share / (1.0 - share);
        self
    }

    /// The axis without a name, for a chart above another one with the same axis.
    pub(super) fn unnamed(&self) -> Self {
        Self { name: String::new(), ..self.clone() }
    }

    /// The nearest value that the axis has.
    pub(super) fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.range.start, self.range.end)
    }

    /// The lowest value that the axis has.
    pub(super) fn floor(&self) -> f64 {
        self.range.start
    }

    fn with_ticks(name: &str, range: Range<f64>, count: usize, least: f64) -> Self {
        let ticks = ticks(&range, count, least);
        Self { name: name.to_owned(), range, ticks, has_grid: true }
    }

    /// Width of the longest label of a tick, in pixels.
    fn label_width(&self) -> f64 {
        self.ticks.iter().map(|(_, label)| text_width(label, TEXT)).fold(0.0, f64::max)
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Round numbers in a range with their labels: at most `count`, at a distance of 1, 2 or 5 times a
/// power of ten, which is at least `least`.
pub(super) fn ticks(range: &Range<f64>, count: usize, least: f64) -> Vec<(f64, String)> {
    let span = range.end - range.start;
    if !(span > 0.0 && span.is_finite()) {
        return Vec::new();
    }

    let mut power = (span / count as f64).log10().floor() as i32;
    let step = loop {
        let decade = 10f64.powi(power);
        // The small number lets ticks at the ends of the range count in spite of rounding.
        let fits = |step: f64| step >= least && (span / step + 1e-6).floor() < count as f64;
        if let Some(step) =
            [1.0, 2.0, 5.0].map(|factor| factor * decade).into_iter().find(|&step| fits(step))
        {
            break step;
        }

        power += 1;
    };

    let decimals = usize::try_from(-power).unwrap_or(0);
    let first = (range.start / step - 1e-6).ceil() as i64;
    let last = (range.end / step + 1e-6).floor() as i64;

    (first..=last)
        .map(|index| index as f64 * step)
        .map(|tick| (tick, decimal(tick, decimals)))
        .collect()
}

/// An area with axes.
pub(super) struct Chart<'a, 'b> {
    context: ChartContext<'b, SVGBackend<'a>, Cartesian2d<Axis, Axis>>,
}

impl<'a, 'b> Chart<'a, 'b> {
    /// Axes and grid in an area. `left` is the space for labels at the left, in pixels: see
    /// [`left_of`].
    pub(super) fn new(area: &'b Area<'a>, x: &Axis, y: &Axis, left: f64) -> Drawn<Self> {
        Self::within(area, x, y, [left, RIGHT])
    }

    /// The same, with the spaces at the left and at the right.
    pub(super) fn within(
        area: &'b Area<'a>,
        x: &Axis,
        y: &Axis,
        [left, right]: [f64; 2],
    ) -> Drawn<Self> {
        let below = if x.name.is_empty() { BELOW_UNNAMED } else { BELOW };
        let mut context = ChartBuilder::on(area)
            .margin_top(px(ABOVE))
            .margin_right(px(right))
            .margin_left(px(EDGE))
            .margin_bottom(px(EDGE))
            .x_label_area_size(px(below))
            .y_label_area_size(px(left))
            .build_cartesian_2d(x.clone(), y.clone())?;

        let label = |axis: &Axis, value: f64| {
            let found = axis.ticks.iter().find(|(tick, _)| *tick == value);
            found.map_or_else(String::new, |(_, label)| label.clone())
        };
        let label_x = |value: &f64| label(x, *value);
        let label_y = |value: &f64| label(y, *value);

        let mut mesh = context.configure_mesh();
        mesh.disable_mesh();
        mesh.axis_style(stroke(INK, 1.0, 1.2))
            .set_all_tick_mark_size(px(TICK))
            .label_style(text(TEXT, INK, HPos::Center))
            .axis_desc_style(text(TEXT, INK, HPos::Center))
            .x_label_formatter(&label_x)
            .y_label_formatter(&label_y)
            .x_desc(x.name.as_str())
            .y_desc(y.name.as_str())
            .x_labels(x.ticks.len())
            .y_labels(y.ticks.len());
        mesh.draw()?;
        drop(mesh);

        let mut chart = Self { context };
        chart.grid(x, y)?;
        Ok(chart)
    }

    /// Thin lines at the ticks, except on the axes themselves.
    fn grid(&mut self, x: &Axis, y: &Axis) -> Drawn {
        let inside = |axis: &Axis| {
            let Range { start, end } = axis.range;
            let edge = 1e-6 * (end - start);
            let ticks = axis.ticks.iter().map(|(tick, _)| *tick);

            ticks.filter(|tick| axis.has_grid && *tick > start + edge).collect::<Vec<_>>()
        };

        for tick in inside(y) {
            self.path(vec![(x.range.start, tick), (x.range.end, tick)], GRID, 1.0, 1.0)?;
        }

        for tick in inside(x) {
            self.path(vec![(tick, y.range.start), (tick, y.range.end)], GRID, 1.0, 1.0)?;
        }

        Ok(())
    }

    fn path(&mut self, points: Vec<(f64, f64)>, colour: &str, opacity: f64, width: f64) -> Drawn {
        let path = PathElement::new(points, stroke(colour, opacity, width));
        self.context.draw_series(std::iter::once(path)).map(drop)
    }

    /// A line. A value that is not finite makes a gap, and a single point between gaps is a dot.
    pub(super) fn line(
        &mut self,
        points: &[(f64, f64)],
        colour: &str,
        opacity: f64,
        width: f64,
    ) -> Drawn {
        for part in points.split(|(_, y)| !y.is_finite()) {
            match part {
                [] => {}
                [point] => self.point(*point, Mark::Circle, 0.6 * width, colour)?,
                _ => self.path(part.to_vec(), colour, opacity, width)?,
            }
        }

        Ok(())
    }

    /// A point, `radius` pixels large.
    pub(super) fn point(&mut self, at: (f64, f64), mark: Mark, radius: f64, colour: &str) -> Drawn {
        for shape in Shape::point(mark, radius, colour) {
            self.put(at, shape)?;
        }

        Ok(())
    }

    /// A shape at a point.
    pub(super) fn put(&mut self, at: (f64, f64), shape: Shape) -> Drawn {
        self.context.draw_series(std::iter::once(Placed { at, shape })).map(drop)
    }

    /// A filled rectangle between two corners.
    pub(super) fn rectangle(&mut self, corners: [(f64, f64); 2], style: ShapeStyle) -> Drawn {
        self.context.draw_series(std::iter::once(Rectangle::new(corners, style))).map(drop)
    }

    /// How much of each axis a pixel spans, across and up.
    pub(super) fn pixel(&self) -> [f64; 2] {
        let range = self.context.plotting_area().get_pixel_range();
        let [across, up] = [range.0, range.1]
            .map(|range| f64::from((range.end - range.start).abs()) / f64::from(px(1.0)));

        let area = self.context.as_coord_spec();
        let span = |axis: &Axis| axis.range.end - axis.range.start;
        [span(area.x_spec()) / across.max(1.0), span(area.y_spec()) / up.max(1.0)]
    }

    /// Where a point is, in units of plotters.
    pub(super) fn place(&self, point: (f64, f64)) -> (i32, i32) {
        self.context.backend_coord(&point)
    }
}

/// Charts one above the other, with one horizontal axis. `draw` gets each chart with its number.
pub(super) fn stacked(
    area: &Area,
    x: &Axis,
    axes: &[Axis],
    draw: impl Fn(&mut Chart, usize) -> Drawn,
) -> Drawn {
    let left = left_of(&axes.iter().collect::<Vec<_>>());
    let unnamed = x.unnamed();
    for (index, (area, y)) in area.split_evenly((axes.len(), 1)).iter().zip(axes).enumerate() {
        let x = if index + 1 == axes.len() { x } else { &unnamed };
        draw(&mut Chart::new(area, x, y, left)?, index)?;
    }

    Ok(())
}

/// Space that labels and the name of a vertical axis need at its left, in pixels.
pub(super) fn left_of(axes: &[&Axis]) -> f64 {
    let labels = axes.iter().map(|axis| axis.label_width()).fold(0.0, f64::max);
    let named = axes.iter().any(|axis| !axis.name.is_empty());
    // A whole number, so that the edges of surfaces are at the edges of pixels.
    (labels + 2.0 * TICK + if named { 1.9 * TEXT } else { 4.0 }).ceil()
}

/// The least and the greatest finite value; `None` if there is none.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| {
        let Range { start, end } = extent.unwrap_or(value..value);
        Some(start.min(value)..end.max(value))
    })
}

/// Fewer points of a line, about two for each pixel: of each stretch the lowest and the highest, so
/// that no peak is lost.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }

    let mut thinned = Vec::new();
    for stretch in points.chunks(points.len().div_ceil(POINTS / 2)) {
        let numbers = || stretch.iter().copied().enumerate().filter(|(_, (_, y))| y.is_finite());
        let lowest = numbers().min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
        let highest = numbers().max_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));

        match (lowest, highest) {
            (Some(a), Some(b)) if a.0 == b.0 => thinned.push(a.1),
            (Some(a), Some(b)) if a.0 < b.0 => thinned.extend([a.1, b.1]),
            (Some(a), Some(b)) => thinned.extend([b.1, a.1]),
            _ => thinned.extend(stretch.first()),
        }
    }

    thinned
}

/// The corners of a line that is constant between its points.
pub(super) fn stairs(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for (x, y) in points {
        match stairs.last() {
            Some(&(_, before)) if before == y => {}
            Some(&(_, before)) => stairs.extend([(x, before), (x, y)]),
            None => stairs.push((x, y)),
        }

        last = Some((x, y));
    }

    stairs.extend(last);
    stairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: Range<f64>, count: usize, least: f64) -> Vec<String> {
        ticks(&range, count, least).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(
            labels(0.0..800.0, 9, 1.0),
            ["0", "100", "200", "300", "400", "500", "600", "700", "800"]
        );
        assert_eq!(labels(0.93..1.0, 7, 0.0), ["0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(labels(-8.2..1.7, 6, 0.0), ["−8", "−6", "−4", "−2", "0"]);
        assert_eq!(labels(0.0..1.0, 9, 1.0), ["0", "1"], "numbers of things are whole");

        for range in [0.0..f64::NAN, 0.0..f64::INFINITY, 1.0..1.0, 2.0..1.0] {
            assert!(ticks(&range, 5, 0.0).is_empty());
        }
    }

    #[test]
    fn layers_have_ticks_at_equal_distances_for_any_depth() {
        let ticks = |n_layers| Axis::layers("layer", n_layers, 16).ticks;
        assert_eq!(
            [1, 12, 16, 17, 48, 300].map(|n_layers| ticks(n_layers).len()),
            [1, 12, 16, 9, 12, 10]
        );
    }

    #[test]
    fn few_points_keep_what_is_far_off() {
        let mut points: Vec<_> =
            (0..100_000).map(|at| (f64::from(at), f64::from(at % 3))).collect();
        points[777].1 = 90.0;
        points[50_001].1 = -70.0;
        points[99_999].1 = f64::NAN;

        let few = thinned(&points);
        assert!(few.len() <= POINTS && few.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(few.contains(&points[777]) && few.contains(&points[50_001]));

        let gap = vec![(1.0, f64::NAN); 3000];
        assert!(thinned(&gap).len() <= POINTS);
    }

    #[test]
    fn stairs_keep_corners_and_the_last_point() {
        let points = [1.0, 1.0, 2.0, 2.0, 2.0].into_iter().zip(0..).map(|(y, x)| (f64::from(x), y));
        assert_eq!(stairs(points), [(0.0, 1.0), (2.0, 1.0), (2.0, 2.0), (4.0, 2.0)]);
        assert!(stairs([]).is_empty());
    }
}
