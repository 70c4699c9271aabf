//! The walk of groups over training: which group was split or merged when, and the disagreement
//! that decided it.

use std::collections::BTreeMap;

use dlt_state::State;

use super::Figure;
use super::axes::{Axis, Chart, UPRIGHT, extent, left_of};
use super::palette::{MUTED, Mark, series};
use super::room::{RADIUS, Room};
use super::sheet::{Drawn, Key, Sheet, px};
use super::strip::{SCALE, Strips, independent};
use crate::error::{ReportError, Result};
use crate::numbers::{significant, whole};
use crate::run::Run;

/// Height of the panel of disagreements between its axes, in pixels.
const PANEL: f64 = 150.0;
/// Distance between points of a stem that no word may cover, in pixels.
const STEM: f64 = 8.0;
/// Largest number of decisions that get words about what they did.
const WORDS: usize = 16;

/// What a decision did to the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Split,
    /// Layers joined another group: all of their group, or some of it, also if another group was
    /// divided.
    Merged,
    /// The gate undid it.
    Refused,
}

/// A decision that changed the groups, or that the gate undid.
struct Turn {
    step: usize,
    deed: Deed,
    conflict: Option<f64>,
    /// Layers that are independent from here on, each with its previous owner.
    untied: Vec<(usize, usize)>,
    /// Layers that were independent before, each with its new owner.
    joined: Vec<(usize, usize)>,
    /// Layers that moved from one group to another, each with its new owner. Both groups exist
    /// before and after.
    moved: Vec<(usize, usize)>,
}

impl Deed {
    const ALL: [Self; 3] = [Self::Split, Self::Merged, Self::Refused];

    /// Its word, mark and colour.
    fn look(self) -> (&'static str, Mark, &'static str) {
        match self {
            Self::Split => ("a group is split", Mark::Circle, series(1)),
            Self::Merged => ("layers join another group", Mark::Square, series(0)),
            Self::Refused => ("undone by the gate", Mark::Triangle, MUTED),
        }
    }
}

impl Turn {
    /// `6 leaves 0`, `6 leaves 0, 9 joins 3`, `4 moves to 2`.
    fn words(&self) -> String {
        let untied = self.untied.iter().map(|(layer, from)| format!("{layer} leaves {from}"));
        let joined = self.joined.iter().map(|(layer, to)| format!("{layer} joins {to}"));
        let moved = self.moved.iter().map(|(layer, to)| format!("{layer} moves to {to}"));
        untied.chain(joined).chain(moved).collect::<Vec<_>>().join(", ")
    }
}

/// The owners of layers over time. A panel below shows, at each decision that changed the groups,
/// how much the gradients of the split group disagreed. Without measured disagreements there are
/// only the owners.
///
/// # Errors
/// [`ReportError::NothingToShow`] if no decision changed the groups, [`ReportError::Picture`] if it
/// cannot be drawn.
pub fn walk(run: &Run) -> Result<Figure> {
    let strips = Strips::of(run)?;
    let turns = turns(run);
    if turns.is_empty() {
        let missing = "no decision has changed the groups".to_owned();
        return Err(ReportError::NothingToShow { path: run.path.clone(), missing });
    }

    let conflicts = extent(turns.iter().filter_map(|turn| turn.conflict));
    let mut legend = vec![independent()];
    for deed in Deed::ALL.into_iter().filter(|deed| turns.iter().any(|turn| turn.deed == *deed)) {
        let (word, mark, colour) = deed.look();
        legend.push((Key::Marked { colour, mark }, word.to_owned()));
    }

    let panel = if conflicts.is_some() { PANEL + UPRIGHT } else { 0.0 };
    let sheet = Sheet {
        title: format!("Groups over training: {}", run.name()),
        alt: alt(run, &turns),
        legend,
        height: strips.height() + panel,
    };

    sheet.draw(|area| {
        let (upper, lower) = area.split_vertically(px(strips.height()));
        let right = area.dim_in_pixel().0 as i32 - px(SCALE);
        let (upper, scale) = upper.split_horizontally(right);
        let (lower, _) = lower.split_horizontally(right);
        let x = strips.steps();
        let y = strips.layers();

        let below = conflicts
            .map(|values| Axis::values("disagreement", 0.0..values.end.max(f64::MIN_POSITIVE), 5));
        let left = left_of(&[&y].into_iter().chain(&below).collect::<Vec<_>>());
        let mut chart =
            Chart::new(&upper, &if below.is_some() { x.unnamed() } else { x.clone() }, &y, left)?;

        strips.draw(&mut chart)?;
        marks(&mut chart, &turns)?;
        strips.owners(&scale, below.is_none())?;

        match below {
            Some(below) => disagreements(&mut Chart::new(&lower, &x, &below, left)?, &turns),
            None => Ok(()),
        }
    })
}

/// A mark at the lower edge of the strips for each decision.
fn marks(chart: &mut Chart, turns: &[Turn]) -> Drawn {
    turns.iter().try_for_each(|turn| {
        let (_, mark, colour) = turn.deed.look();
        chart.point((turn.step as f64, -0.5), mark, 4.0, colour)
    })
}

/// A stem for each disagreement. The first ones get words about what was done.
fn disagreements(chart: &mut Chart, turns: &[Turn]) -> Drawn {
    let measured = || {
        turns.iter().filter_map(|turn| Some((turn, turn.conflict.filter(|one| one.is_finite())?)))
    };
    let mut room = Room::default();

    for (turn, conflict) in measured() {
        let at = (turn.step as f64, conflict);
        let (_, mark, colour) = turn.deed.look();
        chart.line(&[(at.0, 0.0), at], colour, 1.0, 2.0)?;
        chart.point(at, mark, RADIUS, colour)?;

        let high = STEM * chart.pixel()[1];
        (0..)
            .map(|one| conflict - high * f64::from(one))
            .take_while(|y| *y > 0.0)
            .for_each(|y| room.take(chart, (at.0, y)));
    }

    // The alternative text has the words for which there is no room here.
    measured().take(WORDS).try_for_each(|(turn, conflict)| {
        room.write(chart, (turn.step as f64, conflict), &turn.words())
    })
}

/// Decisions that changed the groups, and those that were undone.
fn turns(run: &Run) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut before = run.recording.initial();
    let measured = run.metrics.decisions.iter();
    let conflicts: BTreeMap<usize, f64> =
        measured.filter_map(|decision| Some((decision.visit, decision.conflict?))).collect();

    for (visit, row) in run.recording.rows().iter().enumerate() {
        let conflict = conflicts.get(&visit).copied();
        let untied = newly_independent(before, row.state());
        // Backwards in time, a layer that joined a group becomes independent.
        let joined = newly_independent(row.state(), before);
        let moved = moved(before, row.state());
        let deed = match row.refused() {
            Some(_) => Some(Deed::Refused),
            None if before == row.state() => None,
            None if joined.is_empty() && moved.is_empty() => Some(Deed::Split),
            None => Some(Deed::Merged),
        };

        let step = row.step();
        turns.extend(deed.map(|deed| Turn { step, deed, conflict, untied, joined, moved }));
        before = row.state();
    }

    turns
}

/// Layers that are independent in `after` and were not in `before`, with their owners in `before`.
fn newly_independent(before: &State, after: &State) -> Vec<(usize, usize)> {
    let is_new = |&layer: &usize| after.owner(layer) == layer && before.owner(layer) != layer;
    (0..after.n_layers()).filter(is_new).map(|layer| (layer, before.owner(layer))).collect()
}

/// Layers that are independent in neither state and moved from one group to another, with their
/// owners in `after`. Both groups exist in both states.
fn moved(before: &State, after: &State) -> Vec<(usize, usize)> {
    let has = |owner: usize| before.owner(owner) == owner && after.owner(owner) == owner;
    let went = |&layer: &usize| {
        let from = before.owner(layer);
        let to = after.owner(layer);
        from != to && from != layer && to != layer && has(from) && has(to)
    };

    (0..after.n_layers()).filter(went).map(|layer| (layer, after.owner(layer))).collect()
}

fn alt(run: &Run, turns: &[Turn]) -> String {
    let mut text = format!(
        "Strips of {} layers over {} training steps. The shade is the layer whose weights are \
         used.",
        run.recording.n_layers(),
        whole(run.steps_done())
    );

    for turn in turns.iter().take(WORDS) {
        let what =
            if turn.deed == Deed::Refused { turn.deed.look().0.to_owned() } else { turn.words() };
        text += &format!(" Step {}: {what}", whole(turn.step));

        if let Some(conflict) = turn.conflict {
            text += &format!(" (disagreement {})", significant(conflict));
        }
        text.push('.');
    }

    if turns.len() > WORDS {
        text += &format!(" {} more decisions.", whole(turns.len() - WORDS));
    }

    text
}
