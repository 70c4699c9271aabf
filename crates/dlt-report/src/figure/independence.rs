//! Steps for which each layer was independent (Fig. 3 of the paper).

use super::Figure;
use super::axes::{Axis, Chart, left_of};
use super::palette::{INK, series};
use super::shape::Shape;
use super::sheet::{Key, Sheet, filled, px, stroke};
use crate::error::{ReportError, Result};
use crate::numbers::whole;
use crate::run::Run;

/// Largest number of bars: more of them would be thinner than a pixel. Of more layers every second,
/// third and so on is drawn.
const BARS: usize = 1024;

/// For how many training steps each layer was independent, compared with the expectation of
/// uniformly random actions. Under these, layer `i` copies one of `i + 1` layers, of which it is
/// one itself.
///
/// # Errors
/// [`ReportError::NothingToShow`] before the first training step, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn steps_independent(run: &Run) -> Result<Figure> {
    let until = run.steps_done();
    if until == 0 {
        let missing = "no training step is done yet".to_owned();
        return Err(ReportError::NothingToShow { path: run.path.clone(), missing });
    }

    let steps = run.recording.steps_independent(until);
    let n_layers = steps.len();
    let every = n_layers.div_ceil(BARS);
    let upper = steps.iter().skip(1).copied().max().unwrap_or(0);
    let x = Axis::layers("layer", n_layers, 16);
    let y = Axis::counts("training steps independent", until as f64, 7);

    let sheet = Sheet {
        title: format!("Steps for which each layer was independent: {}", run.name()),
        alt: format!(
            "A bar for {} of {n_layers} layers, of {} training steps. Layer 0 is always \
             independent; the most of the others is {} steps.",
            if every > 1 { format!("one in {every}") } else { "each".to_owned() },
            whole(until),
            whole(upper)
        ),
        legend: vec![
            (Key::Bar { colour: series(0) }, "this run".to_owned()),
            (
                Key::Line { colour: INK, opacity: 0.75, width: 3.0 },
                "expected of random actions".to_owned(),
            ),
        ],
        height: 400.0,
    };

    sheet.draw(|area| {
        let mut chart = Chart::new(area, &x, &y, left_of(&[&y]))?;
        let half = (chart.place((0.46, 0.0)).0 - chart.place((0.0, 0.0)).0).max(px(2.0));

        for (layer, &steps) in steps.iter().enumerate().step_by(every) {
            let at = layer as f64;
            chart.rectangle([(at - 0.38, steps as f64), (at + 0.38, 0.0)], filled(series(0)))?;

            let line = Shape::Line(vec![(-half, 0), (half, 0)], stroke(INK, 0.75, 3.0));
            chart.put((at, until as f64 / (at + 1.0)), line)?;
        }

        Ok(())
    })
}
