//! What a person sees of a study without running it: its cost, and the status of its cells.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::Study;
use crate::cell::{Cell, CellId};
use crate::cost::{self, Memories};
use crate::store::CellStatus;
use crate::table::Table;

impl Study<'_> {
    /// Prints what would be run, and its cost in time and memory. Runs nothing.
    pub(super) fn dry_run(&self, dlt: &Path, cells: &[Cell]) -> Result<ExitCode> {
        let scale = self.arguments.scale;
        let costs = self.costs(cells)?;
        let mut table = Table::new(&["cell", "status", "steps", "PFLOP", "time", "memory, MB"]);
        let mut open = Vec::new();
        let mut memories = Memories::new(dlt, scale);

        for cell in cells {
            let operations = cost::operations(cell, scale)?;
            let status = self.store.status(cell);

            if status != CellStatus::Done {
                open.push(cell);
            }

            let unknown = || "not known".to_owned();
            table.push([
                cell.id.to_string(),
                word(&status),
                cost::steps(cell, &cell.spec()?).map_or_else(unknown, |steps| steps.to_string()),
                operations.map_or_else(unknown, |operations| format!("{:.3}", operations / 1e15)),
                costs.time(cell).map_or_else(unknown, cost::duration),
                format!("{:.0}", memories.mb(cell)?),
            ]);
        }

        let out = &mut io::stdout().lock();
        writeln!(out, "{table}")?;

        let expected = costs.forecast(open, self.arguments.jobs.get()).text();
        writeln!(out, "{} cells; those not done yet take {expected}", cells.len())?;
        writeln!(
            out,
            "(times as recorded, scaled to {} threads per cell; without a similar record, at {:.0} \
             GFLOP/s; memory besides the program and its data)",
            self.threads(),
            costs.rate() / 1e9
        )?;

        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn status(&self) -> Result<ExitCode> {
        let cells = self.all_cells();
        let mut table =
            Table::new(&["cell", "status", "steps", "perplexity or accuracy, validation", "why"]);

        for cell in &cells {
            let status = self.store.status(cell);
            let mut steps = String::new();
            let mut result = String::new();
            let mut failure = String::new();

            match &status {
                CellStatus::Begun { step } | CellStatus::Running { step } => {
                    steps = step.to_string()
                }
                CellStatus::Failed { reason } | CellStatus::Damaged { reason } => {
                    failure = format!("{reason}; {}", self.store.log(&cell.id).display())
                }
                CellStatus::Waiting { on } => {
                    failure = format!(
                        "needs {}",
                        on.iter().map(CellId::as_str).collect::<Vec<_>>().join(", ")
                    )
                }
                _ => {}
            }

            if status == CellStatus::Done
                && let Some(summary) = self.store.summary(&cell.id)?
            {
                steps = summary.steps.to_string();
                result = summary.validation_scores.map_or_else(
                    || format!("{:.2}", summary.validation_perplexity),
                    |scores| format!("{:.3}", scores.accuracy),
                );
            }

            table.push([cell.id.to_string(), word(&status), steps, result, failure]);
        }

        write!(io::stdout().lock(), "{table}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The status of a cell, as a table shows it.
fn word(status: &CellStatus) -> String {
    let word = match status {
        CellStatus::Missing => "to do",
        CellStatus::Waiting { .. } => "waits for another",
        CellStatus::Begun { .. } => "stopped",
        CellStatus::Running { .. } => "running",
        CellStatus::Done => "done",
        CellStatus::Failed { .. } | CellStatus::Damaged { .. } => "FAILED",
        CellStatus::Stale => "stale: other settings",
    };

    word.to_owned()
}
