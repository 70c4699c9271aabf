//! What a person sees of a study without running it: what it would cost, and what has become of its
//! cells.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::Study;
use super::cell::{Cell, CellId};
use super::cost;
use super::store::Standing;
use crate::table::Table;

impl Study<'_> {
    /// What would be run, and what it would take.
    pub(super) fn foretell(&self, dlt: &Path, cells: &[Cell]) -> Result<()> {
        let scale = self.arguments.scale;
        let costs = self.costs(cells)?;
        let mut table = Table::new(&["cell", "standing", "steps", "PFLOP", "time", "memory, MB"]);
        let mut open = Vec::new();
        let mut sizes = Vec::new();

        for cell in cells {
            let spec = cost::sized(cell, scale)?;
            let operations = cost::operations(cell, scale)?;
            let standing = self.store.standing(cell);

            if standing != Standing::Done {
                open.push(cell);
            }

            let model = spec.model.clone();
            let training = spec.training.clone();

            // Times of splits say how many blocks there are in the end.
            let size = (model, training, spec.agent.policy, spec.tying.clone());
            let memory = match sizes.iter().find(|(other, _)| *other == size) {
                Some((_, memory)) => *memory,
                None => {
                    let memory = cost::memory_mb(dlt, &spec)?;
                    sizes.push((size, memory));
                    memory
                }
            };

            let unknown = || "not known".to_owned();
            table.push([
                cell.id.to_string(),
                word(&standing),
                cost::steps(cell, &cell.spec()?).map_or_else(unknown, |steps| steps.to_string()),
                operations.map_or_else(unknown, |operations| format!("{:.3}", operations / 1e15)),
                costs.time(cell).map_or_else(unknown, cost::duration),
                format!("{memory:.0}"),
            ]);
        }

        let out = &mut io::stdout().lock();
        writeln!(out, "{table}")?;

        let expected = costs.forecast(open, self.arguments.jobs.get()).text();
        writeln!(out, "{} cells; what is not done yet takes {expected}", cells.len())?;
        writeln!(
            out,
            "(times as recorded, scaled to {} threads a cell; where nothing like a cell was recorded, at {:.0} GFLOP/s; memory \
             beside the program and its data)",
            self.threads(),
            costs.rate() / 1e9
        )?;

        Ok(())
    }

    pub(super) fn status(&self) -> Result<ExitCode> {
        let cells = self.all_cells();
        let mut table =
            Table::new(&["cell", "standing", "steps", "perplexity or accuracy, validation", "why"]);

        for cell in &cells {
            let standing = self.store.standing(cell);
            let mut steps = String::new();
            let mut result = String::new();
            let mut failure = String::new();

            match &standing {
                Standing::Begun { step } | Standing::Running { step } => steps = step.to_string(),
                Standing::Failed { reason } | Standing::Damaged { reason } => {
                    failure = format!("{reason}; {}", self.store.log(&cell.id).display())
                }
                Standing::Waiting { on } => {
                    failure = format!(
                        "needs {}",
                        on.iter().map(CellId::as_str).collect::<Vec<_>>().join(", ")
                    )
                }
                _ => {}
            }

            if standing == Standing::Done
                && let Some(summary) = self.store.summary(&cell.id)?
            {
                steps = summary.steps.to_string();
                result = summary.validation_scores.map_or_else(
                    || format!("{:.2}", summary.validation_perplexity),
                    |scores| format!("{:.3}", scores.accuracy),
                );
            }

            table.push([cell.id.to_string(), word(&standing), steps, result, failure]);
        }

        write!(io::stdout().lock(), "{table}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn word(standing: &Standing) -> String {
    let word = match standing {
        Standing::Missing => "to do",
        Standing::Waiting { .. } => "waits for another",
        Standing::Begun { .. } => "stopped",
        Standing::Running { .. } => "running",
        Standing::Done => "done",
        Standing::Failed { .. } | Standing::Damaged { .. } => "FAILED",
        Standing::Stale => "stale: other settings",
    };

    word.to_owned()
}
