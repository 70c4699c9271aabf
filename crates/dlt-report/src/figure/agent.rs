//! What the agent did and learned: exploration, predicted values, targets, rewards.

use dlt_spec::record::DecisionRow;

use super::Figure;
use super::axes::{Axis, Chart, extent, stacked, thinned, ticks};
use super::palette::{Mark, series};
use super::sheet::{Drawn, Key, Sheet};
use crate::error::{ReportError, Result};
use crate::numbers::{decimal, whole};
use crate::run::Run;

/// Name of the panel of rewards.
const REWARD: &str = "reward";
/// Height of a panel, in pixels.
const PANEL: f64 = 190.0;
/// Largest number of decisions that are drawn as points.
const POINTS: usize = 300;
/// An axis is logarithmic if the largest value is more than this many times the median. Negative
/// perplexities begin at minus ten thousands and end at minus tens.
const ORDERS: f64 = 20.0;

/// One of the charts that are drawn one above the other.
struct Panel {
    name: &'static str,
    lines: Vec<(usize, Vec<(f64, f64)>)>,
    scale: Scale,
}

/// How values become heights.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    /// A share, from 0 to 1.
    Share,
    /// The values themselves.
    Linear,
    /// Logarithmic on both sides of 0.
    Orders,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sizes: Vec<_> = values.filter(|value| value.is_finite()).map(f64::abs).collect();
        sizes.sort_by(f64::total_cmp);

        let middle = sizes.get(sizes.len() / 2);
        let most = sizes.last();
        match (middle, most) {
            (Some(&middle), Some(&most)) if most > ORDERS * middle.max(1.0) => Self::Orders,
            _ => Self::Linear,
        }
    }

    fn height(self, value: f64) -> f64 {
        if self == Self::Orders {
            // The logarithm of 1 + |value|, with the sign of the value, has no pole at 0.
            value.signum() * value.abs().ln_1p() / std::f64::consts::LN_10
        } else {
            value
        }
    }

    fn axis(self, name: &str, heights: std::ops::Range<f64>) -> Axis {
        match self {
            Self::Share => Axis::labelled(name, 0.0..1.05, ticks(&(0.0..1.0), 4, 0.0)),
            Self::Linear => Axis::values(name, heights, 5),
            Self::Orders => {
                let low = heights.start.floor();
                let high = heights.end.ceil();
                let every = ((high - low) / 8.0).ceil().max(1.0) as usize;
                let powers = (low as i32..=high as i32).filter(|power| power % every as i32 == 0);

                let value = |power: i32| match power {
                    0 => 0.0,
                    power => f64::from(power.signum()) * 10f64.powi(power.abs()),
                };

                let tick = |power: i32| (self.height(value(power)), decimal(value(power), 0));
                let pad = 0.05 * (heights.end - heights.start).max(1.0);
                Axis::labelled(
                    name,
                    heights.start - pad..heights.end + pad,
                    powers.map(tick).collect(),
                )
            }
        }
    }
}

/// Panels over the decisions: the probability of a random action (epsilon), the value that Q
/// predicted with its target, and the reward. A panel is left out if the policy has no such values.
///
/// # Errors
/// [`ReportError::NothingToShow`] if the policy has none of these, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn agent(run: &Run) -> Result<Figure> {
    let decisions = &run.metrics.decisions;
    let panels = panels(decisions);
    if panels.is_empty() {
        let missing = "no decision with epsilon, a value or a reward is recorded; \
                       `agent.policy = \"q\"` gives them";
        return Err(ReportError::NothingToShow {
            path: run.path.clone(),
            missing: missing.to_owned(),
        });
    }

    let explored = decisions.iter().filter(|row| row.explored).count();
    let has_values = panels.iter().any(|panel| panel.lines.len() > 1);
    let mut legend = Vec::new();

    if has_values {
        legend.push((Key::series(0), "Q of the action".to_owned()));
        legend.push((Key::series(1), "its target".to_owned()));
    }

    if panels.iter().any(|panel| panel.name == REWARD) {
        let word = format!("reward: {}", run.spec.agent.reward.axis());
        legend.push((Key::series(3), word));
    }

    let sheet = Sheet {
        title: format!("The agent: {}", run.name()),
        alt: format!(
            "Panels over {} decisions, of which {} drew a random action: {}.",
            whole(decisions.len()),
            whole(explored),
            panels.iter().map(|panel| panel.name).collect::<Vec<_>>().join(", ")
        ),
        legend,
        height: PANEL * panels.len() as f64 + 30.0,
    };

    let x = Axis::steps("decision", 0.0, decisions.last().map_or(1.0, |row| row.visit as f64));
    let axis = |panel: &Panel| {
        let heights =
            panel.lines.iter().flat_map(|line| &line.1).map(|point| panel.scale.height(point.1));
        let scale = if panel.scale == Scale::Orders { " (log)" } else { "" };
        panel.scale.axis(&format!("{}{scale}", panel.name), extent(heights).unwrap_or(0.0..1.0))
    };

    let axes: Vec<_> = panels.iter().map(axis).collect();

    sheet.draw(|area| stacked(area, &x, &axes, |chart, index| draw(chart, &panels[index])))
}

fn draw(chart: &mut Chart, panel: &Panel) -> Drawn {
    for (index, line) in &panel.lines {
        let heights: Vec<_> =
            line.iter().map(|&(x, value)| (x, panel.scale.height(value))).collect();
        chart.line(&thinned(&heights), series(*index), 1.0, 2.2)?;

        if heights.len() > POINTS || panel.scale == Scale::Share {
            continue;
        }

        for &point in heights.iter().filter(|point| point.1.is_finite()) {
            chart.point(point, Mark::of(*index), 3.6, series(*index))?;
        }
    }

    Ok(())
}

fn panels(decisions: &[DecisionRow]) -> Vec<Panel> {
    let line = |read: &dyn Fn(&DecisionRow) -> Option<f64>| {
        let points = decisions.iter().filter_map(|row| Some((row.visit as f64, read(row)?)));
        points.collect::<Vec<_>>()
    };

    let panel = |name, lines: Vec<(usize, Vec<(f64, f64)>)>, scale: Option<Scale>| {
        let scale = scale.unwrap_or_else(|| {
            Scale::of(lines.iter().flat_map(|line| &line.1).map(|point| point.1))
        });
        Panel { name, lines, scale }
    };

    let values = vec![(0, line(&|row| row.q_predicted)), (1, line(&|row| row.q_target))];
    let mut panels = vec![
        panel("epsilon", vec![(2, line(&|row| row.epsilon))], Some(Scale::Share)),
        panel("Q value", values, None),
        panel(REWARD, vec![(3, line(&|row| row.reward))], None),
    ];
    panels.retain(|panel| {
        panel.lines.iter().flat_map(|line| &line.1).any(|point| point.1.is_finite())
    });

    panels
}
