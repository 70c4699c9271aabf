//! `dlt report`: one page about runs, their figures as files, or their outcome as JSON.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use dlt_report::figure::Figure;
use dlt_report::page::{MARKER, Page, PageKind, figures};
use dlt_report::{Digest, ReportError, Run};
use dlt_spec::ExitCode;

use crate::failure::{Failure, Result};
use crate::output;

pub(crate) const HELP: &str = "\
The page is one file that needs no network: send it, print it, open it anywhere.
It shows the outcome next to its floors, and which layers share weights at every decision.
It also shows curves, the settings next to the paper's, and how to make the run again.
The page of an unfinished run says so; `dlt watch RUN` serves a page that stays up to date.

Examples:
  dlt report runs/shakespeare-12-1                  writes runs/shakespeare-12-1/report.html
  dlt report runs/a runs/b --out compared.html      compares runs
  dlt report runs/a --figures figures               writes each figure as SVG and PNG
  dlt report runs/a runs/b --json                   prints the outcomes, for scripts

With --json or --figures, a page is written only if --out is given.
Differences are to the first run of conventional training among those given.";

/// Bytes at the beginning of a file within which a page has its marker.
const HEAD: u64 = 512;

/// Name of the page in the folder of its run.
const PAGE_FILE: &str = "report.html";

#[derive(Args, Debug)]
pub(crate) struct ReportTask {
    /// Run folders, finished or not
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// File for the page [default: report.html in the run folder, if there is only one run]
    #[arg(long, value_name = "FILE.html")]
    pub(crate) out: Option<PathBuf>,
    /// Overwrite a file that is not a page of this program
    #[arg(long)]
    pub(crate) force: bool,
    /// Print a JSON list with the outcome of each run
    #[arg(long)]
    pub(crate) json: bool,
    /// Write each figure as SVG and PNG into this folder; with several runs, into a folder for
    /// each run
    #[arg(long, value_name = "DIR")]
    pub(crate) figures: Option<PathBuf>,
}

pub(crate) fn run(task: &ReportTask) -> Result {
    let page = match &task.out {
        Some(out) => Some(out.clone()),
        None if task.json || task.figures.is_some() => None,
        None => match &task.runs[..] {
            [run] => Some(run.join(PAGE_FILE)),
            _ => {
                return Err(Failure::usage(
                    "a page about several runs belongs to none of their folders; give --out FILE.html",
                ));
            }
        },
    };

    if let Some(page) = &page {
        check_place(page, task.force)?;
    }

    let runs: Vec<Run> =
        task.runs.iter().map(|run| Run::read(run)).collect::<dlt_report::Result<_>>()?;

    if let Some(folder) = &task.figures {
        let written = if folder.exists() {
            draw(&runs, folder)?
        } else {
            // A new folder gets its name only once it has all figures.
            let mut written = 0;
            dlt_run::new_folder(folder, |folder| draw(&runs, folder).map(|files| written = files))?;

            written
        };

        output::note(&format!("wrote {written} files into {}", folder.display()));
    }

    if let Some(page) = &page {
        output::replace(page, Page::new(&runs, PageKind::Still).document().as_bytes())?;
        output::note(&format!("wrote {}", page.display()));
    }

    if task.json {
        let digests: Vec<Digest> = runs.iter().map(Digest::of).collect();
        let json = serde_json::to_string_pretty(&digests)
            .map_err(|error| Failure::usage(error.to_string()))?;
        output::print(&format!("{json}\n"))?;
    }

    Ok(())
}

/// Refuses to overwrite an existing file that is not a page of this program.
fn check_place(path: &Path, force: bool) -> Result {
    if force || fs::symlink_metadata(path).is_err() {
        return Ok(());
    }

    let mut head = Vec::new();
    let read = dlt_spec::file::regular(path, u64::MAX)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head));
    if read.is_ok() && head.windows(MARKER.len()).any(|bytes| bytes == MARKER.as_bytes()) {
        return Ok(());
    }

    let reason = "it already exists and is no page of dlt report; --force overwrites it";
    Err(Failure::usage(format!("cannot write {}: {reason}", path.display())))
}

/// Draws all figures into a folder; returns the number of files.
fn draw(runs: &[Run], folder: &Path) -> Result<usize> {
    let mut written = 0;
    for (index, run) in runs.iter().enumerate() {
        let own = match runs.len() {
            1 => folder.to_owned(),
            // Two runs may have the same name, so a number makes the folder unique.
            _ => folder.join(format!("{}-{}", index + 1, run.name())),
        };

        for (name, figure) in figures(run) {
            match figure {
                Ok(figure) => written += write_figure(&own, name, &figure)?,
                Err(ReportError::NothingToShow { missing, .. }) => {
                    output::note(&format!("no {name} of {}: {missing}", run.name()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    if runs.len() > 1 {
        let figure = dlt_report::figure::loss(&runs.iter().collect::<Vec<_>>())?;
        written += write_figure(folder, "loss-beside-each-other", &figure)?;
    }

    Ok(written)
}

/// Writes a figure as SVG and as PNG; returns the number of files.
fn write_figure(folder: &Path, name: &str, figure: &Figure) -> Result<usize> {
    let cannot = |error: std::io::Error| {
        Failure::refused(
            ExitCode::Resources,
            format!("cannot write into {}: {error}", folder.display()),
        )
    };

    fs::create_dir_all(folder).map_err(cannot)?;
    output::replace(&folder.join(format!("{name}.svg")), figure.svg().as_bytes())?;
    output::replace(&folder.join(format!("{name}.png")), &figure.png()?)?;

    Ok(2)
}
