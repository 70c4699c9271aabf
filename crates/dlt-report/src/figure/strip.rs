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

/// Most columns: more of them would be narrower than a pixel.
const COLUMNS: usize = 600;
/// Most strips: more of them would be thinner than two pixels. Of more layers every second,
/// third... is drawn.
const STRIPS: usize = 256;
/// Most fields that are drawn, a strip's owner in a column each. A field takes six kilobytes while
/// it is made a picture.
const FIELDS: usize = 40_000;
/// Height from which on strips are parted by a line, in pixels.
const THIN: f64 = 14.0;
/// Width of the bar that says which shade is which owner, with its labels, in pixels.
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
    /// Most states, where only so many of them are drawn.
    sampled: Option<usize>,
}

impl<'r> Strips<'r> {
    /// The error says where no decision is made yet.
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
        for stretch in stretches(&self.columns, self.until, self.every) {
            draw(chart, &stretch, [self.n_layers, self.every], self.until)?;
        }
        Ok(())
    }

    /// The bar that says which shade is which owner.
    pub(super) fn owners(&self, area: &Area, has_name_below: bool) -> Drawn {
        owners(area, [self.n_layers, self.every], has_name_below)
    }
}

/// What the line through a strip means.
pub(super) fn independent() -> (Key, String) {
    (Key::Struck { share: 0.2 }, "independent: uses weights of its own".to_owned())
}

/// Layers over time: the shade says who owns a layer's weights, a line through the middle that it
/// is independent.
///
/// # Errors
/// [`ReportError::NothingToShow`] where no decision is made yet, [`ReportError::Picture`] where it
/// cannot be drawn.
pub fn state_strip(run: &Run) -> Result<Figure> {
    let strips = Strips::of(run)?;
    let n_layers = strips.n_layers;
    let every = strips.every;
    let sheet = Sheet {
        title: format!("Owner of each layer over training: {}", run.name()),
        alt: format!(
            "Strips of {n_layers} layers{} over {} training steps, the shade of each the layer whose weights it uses; {} \
             decisions{}. At the end {} layers are independent.",
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

/// States with the step at which each begins, and whether there were more than are kept.
fn columns(run: &Run, until: usize, most: usize) -> (Vec<(usize, &State)>, bool) {
    let recording = &run.recording;
    if recording.rows().len() < most {
        let begins = std::iter::once((0, recording.initial()));
        return (begins.chain(recording.iter()).collect(), false);
    }

    let step = |column: usize| column * until / most;
    ((0..most).map(|column| (step(column), recording.state_at(step(column)))).collect(), true)
}

fn stretches(columns: &[(usize, &State)], until: usize, every: usize) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let n_layers = columns.first().map_or(0, |(_, state)| state.n_layers());
    for layer in (0..n_layers).step_by(every) {
        let first = stretches.len();
        for (index, (from, state)) in columns.iter().enumerate() {
            let to = columns.get(index + 1).map_or(until, |next| next.0);
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

/// Low layers own most others, so they get more of the shades.
fn colour(owner: usize, n_layers: usize) -> RGBColor {
    shade((owner as f64 / (n_layers.max(2) - 1) as f64).sqrt())
}

/// A stretch; without a gap it reaches a pixel below its neighbours, which are drawn later, so that
/// no seam is left.
fn draw(
    chart: &mut Chart,
    stretch: &Stretch,
    [n_layers, every]: [usize; 2],
    until: usize,
) -> Drawn {
    let [wide, high] = chart.pixel();
    let layer = stretch.layer as f64;
    let colour = colour(stretch.owner, n_layers);
    let from = stretch.from as f64;
    let to = stretch.to as f64;
    let gap = if 1.0 > THIN * high { 0.6 * high } else { 0.0 };
    // The next strip begins so many layers further on.
    let end = (layer + every as f64).min(n_layers as f64) - 0.5;
    let top = if gap == 0.0 && stretch.layer + every < n_layers { end + high } else { end - gap };
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
fn owners(area: &Area, [n_layers, every]: [usize; 2], has_name_below: bool) -> Drawn {
    // With a name where the strips have one, though a blank one, the bar is as high as they are.
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
