//! The state over training: who owned whom, and when.

use dlt_state::State;
use plotters::style::{Color, RGBColor};

use super::Figure;
use super::axes::{Axis, Chart, left_of};
use super::palette::{on, shade};
use super::shape::Shape;
use super::sheet::{Area, Drawn, Key, Sheet, px, stroke};
use crate::error::{ReportError, Result};
use crate::numbers::whole;
use crate::run::Run;

/// Largest number of columns: more of them would be narrower than a pixel.
const COLUMNS: usize = 600;
/// Largest number of strips: more of them would be thinner than two pixels. Of more layers every
/// second, third and so on is drawn.
const STRIPS: usize = 256;
/// Largest number of fields, each the owner of a strip in a column. A field takes six kilobytes of
/// memory while the figure is rasterised.
const FIELDS: usize = 40_000;
/// Strips that are higher than this, in pixels, are separated by a gap.
const THIN: f64 = 14.0;
/// Width of the bar that shows the shade of each owner, with its labels, in pixels.
pub(super) const SCALE: f64 = 118.0;

/// A stretch of steps during which a layer had one owner.
struct Stretch {
    layer: usize,
    owner: usize,
    from: usize,
    to: usize,
}

/// The states of a run as strips of layers.
pub(super) struct Strips<'r> {
    columns: Vec<(usize, &'r State)>,
    until: usize,
    n_layers: usize,
    every: usize,
    /// Number of states that are drawn, if not all are.
    sampled: Option<usize>,
}

impl<'r> Strips<'r> {
    /// The strips of a run, or an error if no decision is made yet.
    pub(super) fn of(run: &'r Run) -> Result<Self> {
        let rows = run.recording.rows();
        let until = run.steps_done().max(rows.last().map_or(0, |row| row.step() + 1));

        if rows.is_empty() {
            let missing = "no decision is made yet, or none ever (agent.policy)".to_owned();
            return Err(ReportError::NothingToShow { path: run.path.clone(), missing });
        }

        let n_layers = run.recording.n_layers();
        let every = n_layers.div_ceil(STRIPS);
        let most = (FIELDS / n_layers.div_ceil(every)).min(COLUMNS);
        let (columns, is_sampled) = columns(run, until, most);

        Ok(Self { columns, until, n_layers, every, sampled: is_sampled.then_some(most) })
    }

    /// Height with axes, in pixels.
    pub(super) fn height(&self) -> f64 {
        (22.0 * self.n_layers as f64).clamp(200.0, 520.0) + 80.0
    }

    pub(super) fn steps(&self) -> Axis {
        Axis::steps("training steps", 0.0, self.until as f64)
    }

    pub(super) fn layers(&self) -> Axis {
        Axis::layers("layer", self.n_layers, 16)
    }

    pub(super) fn draw(&self, chart: &mut Chart) -> Drawn {
        self.stretches().iter().try_for_each(|stretch| self.draw_stretch(chart, stretch))
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for layer in (0..self.n_layers).step_by(self.every) {
            // Neighbours with one owner become one stretch, but only within a layer.
            let first = stretches.len();
            for (index, (from, state)) in self.columns.iter().enumerate() {
                let to = self.columns.get(index + 1).map_or(self.until, |next| next.0);
                let owner = state.owner(layer);
                match stretches[first..].last_mut() {
                    Some(last) if last.owner == owner => last.to = to,
                    _ => stretches.push(Stretch { layer, owner, from: *from, to }),
                }
            }
        }

        stretches.retain(|stretch| stretch.to > stretch.from);
        stretches
    }

    /// Draws a stretch. Without a gap it reaches one pixel under its neighbours, which are drawn
    /// later, so that no seam shows.
    fn draw_stretch(&self, chart: &mut Chart, stretch: &Stretch) -> Drawn {
        let Self { until, n_layers, every, .. } = *self;
        let [wide, high] = chart.pixel();
        let layer = stretch.layer as f64;
        let colour = colour(stretch.owner, n_layers);
        let from = stretch.from as f64;
        let to = stretch.to as f64;
        let gap = if 1.0 > THIN * high { 0.6 * high } else { 0.0 };

        // A strip is as high as the layers that it represents.
        let end = (layer + every as f64).min(n_layers as f64) - 0.5;
        let top =
            if gap == 0.0 && stretch.layer + every < n_layers { end + high } else { end - gap };
        let corners = [(from, top), ((to + wide).min(until as f64), layer - 0.5 + gap)];
        chart.rectangle(corners, colour.filled())?;

        if stretch.owner == stretch.layer {
            let width = chart.place((to, layer)).0 - chart.place((from, layer)).0;
            let line = Shape::Line(
                vec![(0, 0), (width, 0)],
                stroke(on(colour), 1.0, (0.2 / high).clamp(1.5, 4.0)),
            );
            chart.put((from, layer), line)?;
        }

        Ok(())
    }

    /// The bar of shades, a field for each layer.
    pub(super) fn owners(&self, area: &Area, has_name_below: bool) -> Drawn {
        let Self { n_layers, every, .. } = *self;
        // If the axis of the strips has a name, the bar gets a blank one, which makes it as high.
        let x = Axis::labelled(if has_name_below { " " } else { "" }, 0.0..1.0, Vec::new());
        let y = Axis::layers("owner", n_layers, 16);
        let mut chart = Chart::new(area, &x, &y, left_of(&[&y]))?;

        for owner in (0..n_layers).step_by(every) {
            let seam = if owner + every < n_layers { chart.pixel()[1] } else { 0.0 };
            let end = (owner + every).min(n_layers) as f64 - 0.5;
            let corners = [(0.0, end + seam), (1.0, owner as f64 - 0.5)];

            chart.rectangle(corners, colour(owner, n_layers).filled())?;
        }

        Ok(())
    }
}

/// The legend of the line through a strip.
pub(super) fn independent() -> (Key, String) {
    (Key::Struck { share: 0.2 }, "independent: uses its own weights".to_owned())
}

/// Layers over time. The shade is the owner of a layer's weights; a line through the middle means
/// that the layer is independent.
///
/// # Errors
/// [`ReportError::NothingToShow`] if no decision is made yet, [`ReportError::Picture`] if it cannot
/// be drawn.
pub fn state_strip(run: &Run) -> Result<Figure> {
    let strips = Strips::of(run)?;
    let n_layers = strips.n_layers;
    let every = strips.every;
    let sheet = Sheet {
        title: format!("Owner of each layer over training: {}", run.name()),
        alt: format!(
            "Strips of {n_layers} layers{} over {} training steps. The shade is the layer whose \
             weights are used. {} decisions{}. At the end {} layers are independent.",
            if every > 1 { format!(", of which one in {every} is drawn,") } else { String::new() },
            whole(strips.until),
            whole(run.recording.rows().len()),
            strips
                .sampled
                .map_or_else(String::new, |most| format!(", of which {most} states are drawn")),
            run.state().n_independent()
        ),
        legend: vec![independent()],
        height: strips.height(),
    };

    sheet.draw(|area| {
        let (area, scale) = area.split_horizontally(area.dim_in_pixel().0 as i32 - px(SCALE));
        let y = strips.layers();
        let mut chart = Chart::new(&area, &strips.steps(), &y, left_of(&[&y]))?;

        strips.draw(&mut chart)?;
        strips.owners(&scale, true)
    })
}

/// States with the step at which each begins, and whether some states were left out.
fn columns(run: &Run, until: usize, most: usize) -> (Vec<(usize, &State)>, bool) {
    let recording = &run.recording;
    if recording.rows().len() < most {
        let begins = std::iter::once((0, recording.initial()));
        return (begins.chain(recording.iter()).collect(), false);
    }

    let step = |column: usize| column * until / most;
    ((0..most).map(|column| (step(column), recording.state_at(step(column)))).collect(), true)
}

/// The shade of an owner. Low layers own most others, so they get more of the range.
fn colour(owner: usize, n_layers: usize) -> RGBColor {
    shade((owner as f64 / (n_layers.max(2) - 1) as f64).sqrt())
}
