//! Runs the sides of a workload in turn, so that a disturbance of the machine affects all of them.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use dlt_study::child::{Child, Failure};

use super::grid::Workload;
use super::measurement::Measurement;

/// The outcome of a run.
pub(crate) type Outcome = Result<Measurement, Failure>;

/// A workload that was run.
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    /// The command line of each side.
    pub(crate) command_lines: Vec<String>,
    /// For each side, its runs in the order of the rounds.
    pub(crate) outcomes: Vec<Vec<Outcome>>,
}

/// The order of runs, as pairs of round and side. Every side runs once before any runs again. Rounds
/// are counted from 1.
pub(crate) fn order(rounds: usize, sides: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=rounds).flat_map(move |round| (0..sides).map(move |side| (round, side)))
}

/// Runs all sides in all rounds, and writes a line as each run ends. `children` has the command of
/// each side.
pub(crate) fn run(
    workload: Workload,
    children: &[Child],
    rounds: usize,
    limit: Duration,
    out: &mut dyn Write,
) -> Result<Measured> {
    let mut outcomes = vec![Vec::new(); children.len()];
    for (round, side) in order(rounds, children.len()) {
        let (outcome, seconds) = measure(&children[side], limit);
        let said = match &outcome {
            Ok(measurement) => figures(measurement, seconds),
            Err(failure) => format!("FAILED: {failure}"),
        };

        writeln!(
            out,
            "{round}/{rounds}  {}  {:<25}  {said}",
            workload.name, workload.sides[side].name
        )?;
        out.flush()?;
        outcomes[side].push(outcome);
    }

    let command_lines = children.iter().map(Child::command_line).collect();
    Ok(Measured { workload, command_lines, outcomes })
}

fn measure(child: &Child, limit: Duration) -> (Outcome, f64) {
    match child.run(limit) {
        Ok(finished) => {
            let parsed = Measurement::parse(&finished.stdout);
            let outcome = parsed.map_err(|error| Failure::new(format!("no figures: {error:#}")));
            (outcome, finished.elapsed.as_secs_f64())
        }
        Err(failure) => (Err(failure), 0.0),
    }
}

fn figures(measurement: &Measurement, seconds: f64) -> String {
    let peak = measurement.peak_rss_mb.map_or("-".to_owned(), |peak| format!("{peak:.0}"));
    format!(
        "{:>9.1} ms/step  {:>8.1} tokens/s  {peak:>6} MB  loss {:.4}  ({seconds:.0} s)",
        measurement.step_ms_median, measurement.tokens_per_s, measurement.loss
    )
}

impl Measured {
    /// The runs of a side that gave figures.
    pub(crate) fn measurements(&self, side: usize) -> impl Iterator<Item = &Measurement> {
        self.outcomes[side].iter().filter_map(|outcome| outcome.as_ref().ok())
    }

    pub(crate) fn failures(&self) -> usize {
        self.outcomes.iter().flatten().filter(|outcome| outcome.is_err()).count()
    }

    /// The index of a side.
    pub(crate) fn side(&self, name: &str) -> Option<usize> {
        self.workload.sides.iter().position(|side| side.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_runs_once_before_any_runs_again() {
        let expected = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)];
        assert_eq!(order(2, 3).collect::<Vec<_>>(), expected);
    }
}
