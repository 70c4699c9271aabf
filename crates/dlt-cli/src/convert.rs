//! `dlt convert`: writes the metrics of a run for other programs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dlt_report::{csv, tensorboard};
use dlt_run::{new_folder, refuse_existing};

use crate::failure::{Failure, Result};
use crate::output;

pub(crate) const HELP: &str = "\
tensorboard writes an event file, as `dlt train --tensorboard` does during training.
csv writes steps.csv, evaluations.csv and decisions.csv. Column names include units. A cell is
empty if there is no value, and NaN if a number was not finite.
Without --out, the files go into the run's folder and replace those of an earlier call.

Examples:
  dlt convert runs/shakespeare-12-1 --to tensorboard && tensorboard --logdir runs
  dlt convert runs/shakespeare-12-1 --to csv --out tables";

#[derive(Args, Debug)]
pub(crate) struct ConvertTask {
    /// Run folder, finished or not
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Format to write
    #[arg(long, value_enum)]
    to: Target,
    /// Folder to write, which must not exist yet [default: RUN/tensorboard or RUN/csv]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// An event file for TensorBoard
    Tensorboard,
    /// Three tables
    Csv,
}

pub(crate) fn run(task: &ConvertTask) -> Result {
    let write = |folder: &Path| -> Result<Vec<PathBuf>> {
        Ok(match task.to {
            Target::Tensorboard => vec![tensorboard::convert(&task.run, folder)?],
            Target::Csv => csv::convert(&task.run, folder)?,
        })
    };

    let mut paths = Vec::new();
    match &task.out {
        Some(out) => {
            refuse_existing(out)?;
            new_folder::<Failure>(out, |folder| {
                // Files are written in a temporary folder; the user sees their final paths.
                let names =
                    write(folder)?.into_iter().map(|path| path.file_name().map(ToOwned::to_owned));
                paths.extend(names.flatten().map(|name| out.join(name)));
                Ok(())
            })?;
        }
        None => {
            let name = match task.to {
                Target::Tensorboard => tensorboard::FOLDER,
                Target::Csv => csv::FOLDER,
            };

            paths = write(&task.run.join(name))?;
        }
    }

    output::print(&paths.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
}
