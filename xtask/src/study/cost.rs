//! What a cell will cost, told before it is run: arithmetic from its spec, time from a rate, memory from `dlt`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use dlt_spec::size::block_parameters;
use dlt_spec::spec::{Architecture, Initial, InitialName, PolicyKind, Size};
use dlt_spec::{CheckedSpec, fields};
use serde_json::Value;

use super::cell::{Cell, Job};
use super::grid::place;
use super::scale::Scale;
use super::store::Store;
use super::subject::Subject;
use crate::child::Child;
use crate::spread::Spread;

/// Arithmetic of a core of a laptop in training, in operations a second: what the main job does on one.
const RATE_PER_CORE: f64 = 120e9;
const GPT2_VOCABULARY: usize = 50_257;
/// Windows of a batch of `dlt finetune`, where nothing else is said.
const FINETUNING_BATCH: usize = 32;
const LIMIT: Duration = Duration::from_secs(60);

/// Operations of a training step: forward, and backward as twice that.
pub(crate) fn operations_per_step(spec: &CheckedSpec, batch: usize, has_classes: bool) -> f64 {
    let positions = (batch * spec.tokens()) as f64;
    let (layers, width) = (spec.model.layers as f64, spec.model.width as f64);
    let block = block_parameters(&spec.model).unwrap_or(0) as f64;
    let head = if has_classes { 0.0 } else { GPT2_VOCABULARY as f64 * width };
    let attention = 2.0 * layers * spec.tokens() as f64 * width;
    6.0 * positions * (layers * block + head + attention)
}

/// Steps of a cell, where its spec says them.
pub(crate) fn steps(cell: &Cell, spec: &CheckedSpec) -> Option<usize> {
    match (&cell.job, spec.training.steps) {
        (Job::Predict { .. }, _) => Some(0),
        // Otherwise it is epochs of the task.
        (Job::Finetune { .. }, _) if !cell.settings.iter().any(|one| one.sets("training.steps")) => None,
        (_, Size::Fixed(steps)) => Some(steps),
        (_, Size::Auto(_)) => None,
    }
}

/// The spec whose size a cell has.
pub(crate) fn sized(cell: &Cell, scale: Scale) -> Result<CheckedSpec> {
    let like = match &cell.job {
        Job::Finetune { .. } => place(Subject::pretrained(scale), cell.row, cell.seed, scale).cell(),
        _ => None,
    };
    Ok(like.as_ref().unwrap_or(cell).spec()?)
}

/// Operations of a whole cell; `None` where the number of steps hangs on the data.
pub(crate) fn operations(cell: &Cell, scale: Scale) -> Result<Option<f64>> {
    let spec = sized(cell, scale)?;
    let own = cell.spec()?;
    let (batch, has_classes) = match cell.job {
        Job::Finetune { .. } => (FINETUNING_BATCH, true),
        _ => (spec.training.batch, spec.model.architecture == Architecture::Vit),
    };
    Ok(steps(cell, &own).map(|steps| steps as f64 * operations_per_step(&spec, batch, has_classes)))
}

/// Operations a second: of the runs that are there, or by default.
pub(crate) fn rate(store: &Store, cells: &[Cell], scale: Scale) -> f64 {
    let measured = cells.iter().filter_map(|cell| {
        let summary = store.summary(&cell.id).ok()??;
        let of_all = operations(cell, scale).ok()??;
        (summary.elapsed_s > 0.0 && of_all > 0.0).then(|| of_all / summary.elapsed_s)
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Spread::of(measured).map_or(RATE_PER_CORE * cores as f64, |spread| spread.median)
}

/// Memory of training at its peak, in 10^6 bytes: of the state that a run of this kind usually has.
pub(crate) fn memory_mb(dlt: &Path, spec: &CheckedSpec) -> Result<f64> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().context("cannot make a temporary file")?;
    std::fs::write(file.path(), fields::render(spec)).context("cannot write a temporary file")?;
    let child = Child::new(dlt)
        .arguments(["inspect", "--json", "--memory"])
        .arguments([file.path().display().to_string()]);
    let finished = child.run(LIMIT).map_err(|failure| anyhow::anyhow!("dlt inspect --memory: {failure}"))?;
    let wanted = usual_state(spec);
    for line in finished.stdout.lines() {
        let row: Value = serde_json::from_str(line).context("dlt inspect --memory --json")?;
        if row["state"] == wanted {
            return row["peak_bytes"]
                .as_f64()
                .map(|bytes| bytes / 1e6)
                .context("no peak_bytes in its answer");
        }
    }
    anyhow::bail!("dlt inspect --memory --json says nothing about the state `{wanted}`")
}

/// As `dlt inspect --memory` names it.
fn usual_state(spec: &CheckedSpec) -> &'static str {
    match (spec.agent.policy, &spec.tying.initial) {
        (PolicyKind::None, Initial::Named(InitialName::Independent)) => "no layer tied",
        (PolicyKind::None, _) => "at the start",
        _ if spec.tying.initial == Initial::Named(InitialName::Independent) => "no layer tied",
        _ => "usual under a random policy",
    }
}

/// A time as one says it.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 200_000.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::row::Row;

    #[test]
    fn the_main_job_costs_what_its_preset_says() {
        let cell = place(Subject::Shakespeare, Row::Full, 1, Scale::Laptop).cell().unwrap();
        // The preset's comment says 56 GFLOP a step.
        let step = operations_per_step(&cell.spec().unwrap(), 8, false);
        assert!((52e9..60e9).contains(&step), "{step:e}");
        assert_eq!(operations(&cell, Scale::Laptop).unwrap(), Some(800.0 * step));
    }

    #[test]
    fn times_are_said_in_units_of_their_size() {
        assert_eq!([5.0, 600.0, 7200.0, 1e6].map(duration), ["5 s", "10 min", "2.0 h", "12 days"]);
    }
}
