//! Memory over training, and the trainable parameters that it depends on.

use super::Figure;
use super::axes::{Axis, extent, stacked, stairs, thinned};
use super::palette::{Mark, series};
use super::sheet::{Key, Sheet};
use crate::error::{ReportError, Result};
use crate::numbers::decimal;
use crate::run::Run;

/// Height of a panel, in pixels.
const PANEL: f64 = 260.0;

/// A quantity of each run.
struct Panel {
    name: &'static str,
    lines: Vec<Vec<(f64, f64)>>,
}

/// Resident memory after each training step, and the parameters in blocks that the step could
/// change; of one run or several. Both begin at 0, so that heights can be compared.
///
/// # Errors
/// [`ReportError::NothingToShow`] before the first training step, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn memory(runs: &[&Run]) -> Result<Figure> {
    let resident = |run: &&Run| {
        let rows = run.metrics.steps.iter();
        rows.filter_map(|row| Some((row.step as f64, row.current_rss_mb?))).collect::<Vec<_>>()
    };

    let trainable = |run: &&Run| {
        let rows = run.metrics.steps.iter();
        stairs(rows.map(|row| (row.step as f64, row.block_parameters as f64 / 1e6)))
    };

    let mut panels = vec![
        Panel { name: "resident memory (MB)", lines: runs.iter().map(resident).collect() },
        Panel { name: "block parameters (millions)", lines: runs.iter().map(trainable).collect() },
    ];
    panels.retain(|panel| panel.lines.iter().any(|line| !line.is_empty()));

    if panels.is_empty() {
        let path = runs.first().map(|run| run.path.clone()).unwrap_or_default();
        let missing = "no training step is recorded yet".to_owned();
        return Err(ReportError::NothingToShow { path, missing });
    }

    let names: Vec<_> = runs.iter().map(|run| run.name()).collect();
    let sheet = Sheet {
        title: match &names[..] {
            [name] => format!("Memory and trainable parameters: {name}"),
            names => format!("Memory and trainable parameters of {} runs", names.len()),
        },
        alt: alt(&panels, &names),
        legend: match &names[..] {
            [_] => Vec::new(),
            names => names
                .iter()
                .enumerate()
                .map(|(index, name)| (Key::series(index), name.clone()))
                .collect(),
        },
        height: PANEL * panels.len() as f64 + 30.0,
    };

    let steps =
        |panel: &Panel| panel.lines.iter().flatten().map(|point| point.0).fold(1.0, f64::max);
    let x = Axis::steps("training steps", 0.0, panels.iter().map(steps).fold(1.0, f64::max));
    let axis = |panel: &Panel| {
        let most = extent(panel.lines.iter().flatten().map(|point| point.1))
            .map_or(1.0, |extent| extent.end);
        Axis::values(panel.name, 0.0..most, 6)
    };

    let axes: Vec<_> = panels.iter().map(axis).collect();

    sheet.draw(|area| {
        stacked(area, &x, &axes, |chart, panel| {
            for (index, line) in panels[panel].lines.iter().enumerate() {
                // The first lines are the widest, so that all show where they coincide.
                let width = 2.2 + (1.2 * (names.len() - 1 - index) as f64).min(2.4);
                chart.line(&thinned(line), series(index), 1.0, width)?;

                if let (Some(&last), true) = (line.last(), names.len() > 1) {
                    chart.point(last, Mark::of(index), 5.0, series(index))?;
                }
            }

            Ok(())
        })
    })
}

fn alt(panels: &[Panel], names: &[String]) -> String {
    let mut text = String::from("Lines over training steps.");
    for panel in panels {
        for (line, name) in panel.lines.iter().zip(names) {
            if let Some(extent) = extent(line.iter().map(|point| point.1)) {
                let [least, most] = [extent.start, extent.end].map(|number| decimal(number, 1));
                text += &format!(" {name}: {} from {least} to {most}.", panel.name);
            }
        }
    }

    text
}
