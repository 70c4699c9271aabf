//! `dlt figure`: draws one figure of runs into a file.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dlt_report::Run;
use dlt_report::correlation::Correlations;
use dlt_report::figure::{self, CorrelationPanel, Figure, Tradeoff};
use dlt_report::run::MODEL_FILE;

use crate::failure::{Failure, Result};
use crate::output;

pub(crate) const HELP: &str = "\
The ending of --out, .svg or .png, chooses the format.
map, events, independent and correlations are Figures 1 to 4 of the paper. The others are ours.
loss and memory show several runs in one figure.
correlations shows one run, or two next to each other. It shows the layers that are independent in
the first run, for every run. --save keeps them, so that they can be drawn without the model.

Examples:
  dlt figure map runs/shakespeare-12-1 --out map.svg
  dlt figure loss runs/a runs/conventional runs/random --out loss.png
  dlt figure correlations runs/a runs/conventional --out correlations.svg
  dlt figure correlations runs/a --save      keep them in runs/a/correlations.json";

#[derive(Args, Debug)]
pub(crate) struct FigureTask {
    /// What the figure shows
    #[arg(value_enum)]
    pub(crate) kind: FigureKind,
    /// Run folders, finished or not; for tradeoff, a file of points
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// The file, .svg or .png
    #[arg(long, value_name = "FILE", required_unless_present = "save")]
    pub(crate) out: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
    /// With correlations: also keep them in the run folders
    #[arg(long)]
    pub(crate) save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FigureKind {
    /// Which layer uses whose weights at the end (Figure 1)
    Map,
    /// Layers tied and untied over training (Figure 2)
    Events,
    /// Number of steps that each layer was independent (Figure 3)
    Independent,
    /// Correlations between the feed-forward weights of layers (Figure 4)
    Correlations,
    /// Losses over training
    Loss,
    /// The state over training
    States,
    /// Exploration, Q-values and rewards over the decisions
    Agent,
    /// Memory over training
    Memory,
    /// Groups over training: when each was split or merged, and by what disagreement
    Walk,
    /// Perplexity against block parameters, from a file of points that `cargo xtask method` writes
    Tradeoff,
}

pub(crate) fn run(task: &FigureTask) -> Result {
    if task.save && task.kind != FigureKind::Correlations {
        return Err(Failure::usage("--save: only correlations can be kept"));
    }

    if task.kind == FigureKind::Tradeoff {
        let [points] = &task.runs[..] else {
            let got = task.runs.len();
            return Err(Failure::usage(format!("expected one file of points, got {got}")));
        };
        return write(task, &figure::tradeoff(&Tradeoff::read(points)?)?);
    }

    let runs = task.runs.iter().map(|run| Ok(Run::read(run)?)).collect::<Result<Vec<_>>>()?;
    if task.save {
        for (run, correlations) in runs.iter().zip(correlations(&runs)?) {
            correlations.save(&run.path)?;
        }
    }

    if task.out.is_none() {
        return Ok(());
    }

    write(task, &draw(task.kind, &runs)?)
}

/// Writes a figure into the file of `--out`, in the format that its ending says.
fn write(task: &FigureTask, figure: &Figure) -> Result {
    let Some(out) = &task.out else { return Ok(()) };
    let bytes = match out.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => figure.svg().as_bytes().to_vec(),
        Some("png") => figure.png()?,
        _ => {
            return Err(Failure::usage(format!(
                "--out {}: expected a name that ends in .svg or .png",
                out.display()
            )));
        }
    };

    if task.force {
        output::replace(out, &bytes)?;
    } else {
        output::create(out, &bytes)?;
    }

    output::note(&format!("wrote {}", out.display()));
    Ok(())
}

/// Draws a figure of this kind.
///
/// # Errors
/// If it shows one run and several were given, or a run lacks what it needs.
fn draw(kind: FigureKind, runs: &[Run]) -> Result<Figure> {
    let all: Vec<&Run> = runs.iter().collect();
    let one = || match runs {
        [run] => Ok(run),
        _ => Err(Failure::usage(format!("expected one run, got {}", runs.len()))),
    };

    Ok(match kind {
        FigureKind::Map => {
            let run = one()?;
            let title =
                format!("{}: who uses whose weights after step {}", run.name(), run.steps_done());
            figure::replication_map(run.state(), &title)?
        }
        FigureKind::Events => figure::events(one()?)?,
        FigureKind::Independent => figure::steps_independent(one()?)?,
        FigureKind::States => figure::state_strip(one()?)?,
        FigureKind::Agent => figure::agent(one()?)?,
        FigureKind::Loss => figure::loss(&all)?,
        FigureKind::Memory => figure::memory(&all)?,
        FigureKind::Walk => figure::walk(one()?)?,
        FigureKind::Tradeoff => {
            return Err(Failure::usage("tradeoff: expected a file of points"));
        }
        FigureKind::Correlations => {
            let names = runs.iter().map(Run::name).collect::<Vec<_>>();
            let of = correlations(runs)?;
            let panel = |(name, correlations)| CorrelationPanel { name, correlations, range: None };
            let panels: Vec<_> = names.iter().map(String::as_str).zip(&of).map(panel).collect();

            figure::correlations("Correlations between feed-forward weights of layers", &panels)?
        }
    })
}

/// The correlations of each run, between the layers that are independent in the first run.
fn correlations(runs: &[Run]) -> Result<Vec<Correlations>> {
    let mut all: Vec<Correlations> = Vec::new();
    for run in runs {
        // Saved ones first: the model may have been removed since.
        let found = match Correlations::saved(&run.path)? {
            Some(saved) => saved,
            None => of_model(&run.path, all.first().map(Correlations::layers))?,
        };

        all.push(found);
    }

    Ok(all)
}

fn of_model(run: &Path, layers: Option<&[usize]>) -> Result<Correlations> {
    Ok(Correlations::of_model(&run.join(MODEL_FILE), layers)?)
}
