//! Losses over training.

use dlt_spec::record::Split;

use super::Figure;
use super::axes::{Axis, Chart, extent, left_of, thinned};
use super::palette::{MUTED, Mark, series};
use super::shape::Shape;
use super::sheet::{Drawn, Key, Sheet, px, stroke};
use crate::error::{ReportError, Result};
use crate::numbers::whole;
use crate::run::Run;

/// Each mean is over one of so many parts of the longest run.
const PARTS: usize = 50;
/// Share of raw losses that the axis has to contain: a few far outliers would compress the rest.
const SHOWN: f64 = 0.995;

/// Height of the chart with its axes, in pixels.
const HEIGHT: f64 = 440.0;
/// Height of the ticks of a run's decisions, in pixels.
const TICK: f64 = 9.0;
/// Radius of a point if there is room, in pixels.
const LARGE: f64 = 4.5;

/// What is drawn of a run.
struct Course {
    name: String,
    raw: Vec<(f64, f64)>,
    smooth: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    decisions: Vec<usize>,
}

impl Course {
    fn of(run: &Run, window: usize) -> Self {
        let raw: Vec<_> = run.metrics.steps.iter().map(|row| (row.step as f64, row.loss)).collect();
        let validation =
            run.metrics.evaluations.iter().filter(|row| row.split == Split::Validation);

        Self {
            name: run.name(),
            smooth: smoothed(&raw, window),
            raw,
            validation: validation.map(|row| (row.step as f64, row.loss)).collect(),
            decisions: run.recording.rows().iter().map(|row| row.step()).collect(),
        }
    }

    /// Losses that the axis has to contain.
    fn shown(&self) -> Vec<f64> {
        let mut raw: Vec<_> =
            self.raw.iter().map(|point| point.1).filter(|loss| loss.is_finite()).collect();
        raw.sort_by(f64::total_cmp);
        raw.truncate((SHOWN * raw.len() as f64).ceil() as usize);
        raw.extend(self.smooth.iter().chain(&self.validation).map(|point| point.1));

        raw
    }
}

/// Training loss (each step faint, means over a window strong), validation loss as points, and a
/// tick at each decision; of one run or several.
///
/// # Errors
/// [`ReportError::NothingToShow`] if no run has a finite loss yet, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn loss(runs: &[&Run]) -> Result<Figure> {
    let longest = runs.iter().map(|run| run.metrics.steps.len()).max().unwrap_or(0);
    let window = (longest / PARTS).max(1) | 1;
    let courses: Vec<_> = runs.iter().map(|run| Course::of(run, window)).collect();
    let Some(shown) = extent(courses.iter().flat_map(Course::shown)) else {
        let path = runs.first().map(|run| run.path.clone()).unwrap_or_default();
        let missing = "no finite loss is recorded yet".to_owned();
        return Err(ReportError::NothingToShow { path, missing });
    };

    let points = || courses.iter().flat_map(|course| course.raw.iter().chain(&course.validation));
    let until = points().map(|point| point.0).fold(1.0, f64::max);
    let with_classes =
        runs.iter().any(|run| run.metrics.evaluations.iter().any(|row| row.accuracy.is_some()));
    let unit = if with_classes { "nats" } else { "nats per token" };
    let x = Axis::steps("training steps", 0.0, until);

    let deciding = courses.iter().filter(|course| !course.decisions.is_empty()).count();
    let room = (TICK * deciding as f64 + 4.0) / HEIGHT;
    let y = Axis::values(&format!("loss ({unit})"), shown, 8).with_room_below(if deciding > 0 {
        room
    } else {
        0.0
    });

    let sheet = Sheet {
        title: match &courses[..] {
            [course] => format!("Loss: {}", course.name),
            _ => format!("Loss of {} runs", courses.len()),
        },
        alt: alt(&courses),
        legend: legend(&courses, window),
        height: HEIGHT,
    };

    sheet.draw(|area| {
        let mut chart = Chart::new(area, &x, &y, left_of(&[&y]))?;
        let clamped = |points: &[(f64, f64)]| -> Vec<_> {
            let clamp =
                |&(x, loss): &(f64, f64)| (x, if loss.is_finite() { y.clamp(loss) } else { loss });
            thinned(&points.iter().map(clamp).collect::<Vec<_>>())
        };

        for (index, course) in courses.iter().enumerate() {
            chart.line(&clamped(&course.raw), series(index), 0.22, 1.0)?;
        }

        for (index, course) in courses.iter().enumerate() {
            chart.line(&clamped(&course.smooth), series(index), 1.0, 2.5)?;
        }

        let deciding =
            courses.iter().enumerate().filter(|(_, course)| !course.decisions.is_empty());
        for (row, (index, course)) in deciding.enumerate() {
            decisions(&mut chart, &course.decisions, [row, index], y.floor())?;
        }

        for (index, course) in courses.iter().enumerate() {
            let points = clamped(&course.validation);
            let radius = radius(&chart, &points);
            for &point in points.iter().filter(|point| point.1.is_finite()) {
                chart.point(point, Mark::of(index), radius, series(index))?;
            }
        }

        Ok(())
    })
}

/// Radius at which points do not touch each other, in pixels.
fn radius(chart: &Chart, points: &[(f64, f64)]) -> f64 {
    match points {
        [first, .., last] => {
            let width = (last.0 - first.0) / chart.pixel()[0];
            (0.3 * width / points.len() as f64).clamp(2.0, LARGE)
        }
        _ => LARGE,
    }
}

/// A tick on the axis for each decision, with one row for each run. Ticks that would share a pixel
/// are drawn once.
fn decisions(chart: &mut Chart, steps: &[usize], [row, index]: [usize; 2], floor: f64) -> Drawn {
    let top = -px(TICK * (row + 1) as f64);
    let bottom = -px(TICK * row as f64 + 2.0);
    let mut last = i32::MIN;
    for &step in steps {
        let at = (step as f64, floor);
        let place = chart.place(at).0;
        if place < last.saturating_add(px(1.0)) {
            continue;
        }

        last = place;
        let tick = Shape::Line(vec![(0, top), (0, bottom)], stroke(series(index), 1.0, 1.4));
        chart.put(at, tick)?;
    }

    Ok(())
}

fn legend(courses: &[Course], window: usize) -> Vec<(Key, String)> {
    let single = courses.len() == 1;
    let colour = if single { series(0) } else { MUTED };
    let mut legend = Vec::new();

    if !single {
        for (index, course) in courses.iter().enumerate() {
            legend.push((Key::series(index), course.name.clone()));
        }
    }

    if courses.iter().any(|course| !course.raw.is_empty()) {
        let mean = match window {
            1 => "training".to_owned(),
            _ => format!("training: mean of {} steps (faint: each)", whole(window)),
        };

        legend.push((Key::Line { colour, opacity: 1.0, width: 2.5 }, mean));
    }

    if courses.iter().any(|course| !course.validation.is_empty()) {
        legend.push((Key::Point { colour, mark: Mark::Circle }, "validation".to_owned()));
    }
    if courses.iter().any(|course| !course.decisions.is_empty()) {
        legend.push((Key::Tick { colour }, "decision".to_owned()));
    }

    legend
}

fn alt(courses: &[Course]) -> String {
    let mut text = String::from(
        "Lines of the training loss with points of the validation loss over training steps.",
    );

    for course in courses {
        if let Some((step, loss)) = course.validation.iter().rev().find(|point| point.1.is_finite())
        {
            text += &format!(" {}: validation loss {loss:.3} after {step} steps.", course.name);
        }
    }

    text
}

/// For each point the mean of the finite losses in a window around it.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    // Running sums, so that the work does not grow with the window.
    let mut sums = vec![(0.0, 0usize)];
    for &(_, loss) in points {
        let (sum, count) = sums[sums.len() - 1];
        sums.push(if loss.is_finite() { (sum + loss, count + 1) } else { (sum, count) });
    }

    let half = window / 2;
    let mean = |at: usize| {
        let from = sums[at.saturating_sub(half)];
        let to = sums[(at + half + 1).min(points.len())];
        (to.0 - from.0) / (to.1 - from.1) as f64
    };

    let smooth = |(at, &(x, loss)): (usize, &(f64, f64))| {
        (x, if loss.is_finite() { mean(at) } else { loss })
    };

    points.iter().enumerate().map(smooth).collect()
}
