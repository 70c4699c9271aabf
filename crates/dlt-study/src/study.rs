//! The commands of the study: their options, and what each does with cells, records and pages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use self::selection::{Rates, ablations, parse_rates, with_needs};
use self::slurm::SlurmArguments;
use crate::cell::{Cell, CellId, Plan};
use crate::cost::Costs;
use crate::figures::{self, Drawing};
use crate::grid::{self, Part};
use crate::launch::{Launcher, parse_duration, parse_seeds};
use crate::method::points;
use crate::program::{self, Profile};
use crate::record::Records;
use crate::results::{self, Results};
use crate::scale::Scale;
use crate::scaling::{self, ScaleArguments};
use crate::store::{self, Store};
use crate::view::View;
use crate::{baselines, excerpt, stand_in, tables};

mod overview;
mod selection;
mod slurm;

/// Experiments.
#[derive(Subcommand)]
pub enum StudyCommand {
    /// Run Table 4's ablations and print the table
    Ablation(AblationArguments),
    /// Run what a table of the paper needs, and print it
    Table(TableArguments),
    /// Run the study of where tying pays, over the learning rate, the steps between decisions and the
    /// share of training with decisions
    Regime(StudyArguments),
    /// Run the study of our method against conventional training, fixed patterns, chance and the
    /// paper's method, all on the same number of tokens
    Method(MethodArguments),
    /// Run what a figure of the paper needs, and draw it
    Figure(FigureArguments),
    /// Run every table, the regime study, the study of our method, and every figure
    All(StudyArguments),
    /// Run one cell, as each task of --slurm does
    Cell(CellArguments),
    /// Show the status of every cell
    Status(StudyArguments),
    /// Copy what has been run into results/ as records, tables and figures
    Report(ReportArguments),
    /// Predict a training step in several processes: bytes, messages, efficiency, and what limits it.
    /// It is arithmetic and runs nothing
    Scale(ScaleArguments),
}

#[derive(Args)]
pub struct AblationArguments {
    /// All rows
    #[arg(long, conflicts_with = "only", required_unless_present = "only")]
    all: bool,
    /// Only these rows and what they need: i to ix, conventional, full, random, or the name of
    /// another row
    #[arg(long, value_name = "ROW,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    study: StudyArguments,
}

#[derive(Args)]
pub struct MethodArguments {
    /// Only these rows and what they need: conventional, grow, grow-random, one-block, sizes, or the
    /// name of another row
    #[arg(long, value_name = "ROW,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these learning rates, as in 5e-4,1e-3. With best, each row runs at the rate that is best
    /// on validation so far. Rows with one rate ignore the option
    #[arg(long, value_name = "RATE,...", value_parser = parse_rates, default_value = "5e-4,1e-3,2e-3")]
    rates: Rates,
    #[command(flatten)]
    study: StudyArguments,
}

#[derive(Args)]
pub struct TableArguments {
    /// Number of the table
    #[arg(value_name = "1..6", value_parser = clap::value_parser!(u8).range(1..=6))]
    number: u8,
    #[command(flatten)]
    study: StudyArguments,
}

#[derive(Args)]
pub struct FigureArguments {
    /// Number of the figure
    #[arg(value_name = "1..4", value_parser = clap::value_parser!(u8).range(1..=4))]
    number: u8,
    #[command(flatten)]
    study: StudyArguments,
}

#[derive(Args)]
pub struct CellArguments {
    /// Name of the cell, as in shakespeare/full-1
    #[arg(value_name = "CELL")]
    name: String,
    #[command(flatten)]
    study: StudyArguments,
}

#[derive(Args)]
pub struct ReportArguments {
    /// Change nothing. List what differs from what the records and the grid give now, and fail if
    /// anything does
    #[arg(long)]
    check: bool,
    /// Folder for the results [default: results/SCALE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    study: StudyArguments,
}

/// Options that every study has.
#[derive(Args, Debug)]
pub struct StudyArguments {
    /// Sizes of models and lengths of runs
    #[arg(long, value_enum, default_value = "laptop")]
    scale: Scale,
    /// Root seeds of every row, as in 1..3 or 1,4
    /// [default: 1 to 3 for the rows that are compared most, 1 for the others]
    #[arg(long, value_name = "SEEDS", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Cells that run at once. They share the threads
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Threads of all cells together [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Processes of each cell, which share its threads. It takes a dlt with the feature mpi
    #[arg(long, value_name = "N", default_value = "1")]
    processes: NonZeroUsize,
    /// Start no cell after this time, as in 90s, 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    budget: Option<Duration>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Data that are on this machine, as in wikitext-2=FOLDER. Can be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_source)]
    data: Vec<(String, String)>,
    /// Folder of the runs [default: runs/study/SCALE]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// A built dlt
    /// [default: cargo builds it; at scale smoke and for --dry-run with the profile of the tests]
    #[arg(long, value_name = "PATH")]
    dlt: Option<PathBuf>,
    /// Keep the checkpoints of finished runs, so that the runs can be made longer
    #[arg(long)]
    keep_checkpoints: bool,
    /// Print cells, cost and memory, and run nothing. With --slurm, print the scripts
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    slurm: SlurmArguments,
}

type Seeds = Vec<u64>;

/// Folder of the data sets that a scale makes for itself, below the folder of its runs.
const DATA: &str = "data";

fn parse_source(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.to_owned()))
        }
        _ => Err(format!("expected NAME=PATH, as in wikitext-2=data/wikitext-2, got {text}")),
    }
}

/// Exit code 0: everything that was requested is done. 1: a cell failed, or was not started in time.
pub fn run(root: &Path, command: &StudyCommand) -> Result<ExitCode> {
    if let StudyCommand::Cell(CellArguments { study, .. })
    | StudyCommand::Report(ReportArguments { study, .. })
    | StudyCommand::Status(study) = command
    {
        ensure!(!study.slurm.is_on(), "--slurm: expected a command that runs a study's cells");
    }

    match command {
        StudyCommand::Ablation(arguments) => {
            let study = Study::new(root, &arguments.study)?;
            let rows = ablations(&arguments.only)?;
            let cells = study.cells(&[Part::Table(4)]);
            let is_wanted = |cell: &Cell| arguments.all || rows.contains(&cell.row);

            study.carry_out(&with_needs(cells, is_wanted), &[Part::Table(4)])
        }
        StudyCommand::Method(arguments) => {
            let study = Study::new(root, &arguments.study)?;
            let cells = study.method(&arguments.only, &arguments.rates)?;
            study.carry_out(&cells, &[Part::Method])
        }
        StudyCommand::Table(arguments) => {
            Study::new(root, &arguments.study)?.parts(&[Part::Table(arguments.number)])
        }
        StudyCommand::Regime(arguments) => Study::new(root, arguments)?.parts(&[Part::Regime]),
        StudyCommand::Figure(arguments) => {
            Study::new(root, &arguments.study)?.figure(arguments.number)
        }
        StudyCommand::All(arguments) => Study::new(root, arguments)?.all(),
        StudyCommand::Cell(arguments) => Study::new(root, &arguments.study)?.cell(&arguments.name),
        StudyCommand::Report(arguments) => Study::new(root, &arguments.study)?.report(arguments),
        StudyCommand::Status(arguments) => Study::new(root, arguments)?.status(),
        StudyCommand::Scale(arguments) => scaling::run(arguments),
    }
}

/// A study at one scale.
struct Study<'a> {
    root: &'a Path,
    arguments: &'a StudyArguments,
    store: Store,
}

impl<'a> Study<'a> {
    fn new(root: &'a Path, arguments: &'a StudyArguments) -> Result<Self> {
        let scale = arguments.scale.name();
        let runs =
            arguments.runs.clone().unwrap_or_else(|| Path::new("runs").join("study").join(scale));
        let mut sources = BTreeMap::new();

        for (name, path) in &arguments.data {
            ensure!(Path::new(path).exists(), "--data {name}={path}: no such file or folder");
            sources.insert(name.clone(), path.clone());
        }

        let made = match arguments.scale {
            Scale::Smoke => stand_in::sources(&runs.join(DATA)),
            Scale::Long => excerpt::sources(&runs.join(DATA)),
            Scale::Laptop | Scale::Paper => BTreeMap::new(),
        };

        for (name, path) in made {
            sources.entry(name).or_insert(path);
        }

        if let Some(dlt) = &arguments.dlt {
            ensure!(dlt.is_file(), "--dlt {}: no such file", dlt.display());
        }

        let study = Self { root, arguments, store: Store::new(runs, sources) };
        let known: BTreeSet<&str> =
            study.all_cells().iter().filter_map(|cell| cell.data()).collect();
        for (name, _) in &arguments.data {
            let list = || known.iter().copied().collect::<Vec<_>>().join(", ");
            ensure!(
                known.contains(name.as_str()),
                "--data: at scale {scale}, expected one of {}, got {name}",
                list()
            );
        }

        Ok(study)
    }

    fn plan(&self) -> Plan<'_> {
        Plan { scale: self.arguments.scale, seeds: self.arguments.seeds.as_deref() }
    }

    fn cells(&self, parts: &[Part]) -> Vec<Cell> {
        grid::cells(parts, self.plan())
    }

    /// The cells of every part that the scale has.
    fn all_cells(&self) -> Vec<Cell> {
        self.cells(&Part::all(self.arguments.scale))
    }

    fn parts(&self, parts: &[Part]) -> Result<ExitCode> {
        self.carry_out(&self.cells(parts), parts)
    }

    fn dlt(&self) -> Result<PathBuf> {
        // A dry run needs shapes only, so it does not wait minutes for a release build.
        let profile = match self.arguments.scale {
            Scale::Smoke => Profile::Dev,
            Scale::Laptop | Scale::Long | Scale::Paper if self.arguments.dry_run => Profile::Dev,
            Scale::Laptop | Scale::Long | Scale::Paper => Profile::Release,
        };

        match &self.arguments.dlt {
            Some(dlt) => {
                std::path::absolute(dlt).with_context(|| format!("--dlt {}", dlt.display()))
            }
            None => program::build(self.root, profile, &["-p", "dlt-cli"], "dlt"),
        }
    }

    /// Threads of each cell, at least 1.
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        (self.arguments.threads.map_or_else(cores, usize::from) / self.arguments.jobs.get()).max(1)
    }

    /// The expected time of cells, from what was recorded here and in the repository.
    fn costs(&self, cells: &[Cell]) -> Result<Costs> {
        Ok(Costs::new(cells, &self.records(cells)?, self.arguments.scale, self.threads()))
    }

    /// What was recorded here and in the repository. A record from here replaces the repository's.
    fn records(&self, cells: &[Cell]) -> Result<Records> {
        let kept = results::records(&results::folder(self.root, self.arguments.scale))?;
        Ok(Records::of_store(&self.store, cells)?.over(kept))
    }

    fn carry_out(&self, cells: &[Cell], parts: &[Part]) -> Result<ExitCode> {
        let dlt = self.dlt()?;
        match (self.arguments.slurm.is_on(), self.arguments.dry_run) {
            (true, _) => return self.submit(&dlt, cells),
            (false, true) => return self.dry_run(&dlt, cells),
            (false, false) => {}
        }

        self.write_data(&dlt)?;
        let launcher = Launcher {
            store: &self.store,
            dlt,
            scale: self.arguments.scale,
            costs: self.costs(cells)?,
            jobs: self.arguments.jobs.get(),
            threads: self.threads(),
            processes: self.arguments.processes.get(),
            device: self.arguments.device.clone(),
            budget: self.arguments.budget,
            keeps_checkpoints: self.arguments.keep_checkpoints,
        };

        let outcome = launcher.run(cells)?;
        let records = Records::of_store(&self.store, &self.all_cells())?;
        for &part in parts {
            let sheet = tables::sheet(part, &records, self.plan());
            writeln!(io::stdout().lock(), "{}", sheet.markdown(&self.command(part)))?;
        }

        let is_whole = outcome.failed.is_empty() && outcome.left.is_empty();
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn cell(&self, name: &str) -> Result<ExitCode> {
        let mut cells = self.all_cells();
        cells.retain(|cell| cell.id.as_str() == name);
        ensure!(
            !cells.is_empty(),
            "expected a cell as `cargo xtask status --scale {}` lists them, got {name}",
            self.arguments.scale.name()
        );

        self.carry_out(&cells, &[])
    }

    /// Whether cells run as child processes of this one.
    fn runs_here(&self) -> bool {
        !self.arguments.dry_run && !self.arguments.slurm.is_on()
    }

    /// Writes the data that a scale makes for itself.
    fn write_data(&self, dlt: &Path) -> Result<()> {
        let folder = self.store.root().join(DATA);
        match self.arguments.scale {
            Scale::Smoke => stand_in::write(&folder),
            Scale::Long => excerpt::write(self.root, dlt, &folder),
            Scale::Laptop | Scale::Paper => Ok(()),
        }
    }

    fn all(&self) -> Result<ExitCode> {
        let code = self.parts(&Part::all(self.arguments.scale))?;
        if self.runs_here() {
            let folder = self.store.root().join(results::FIGURES);
            let records = Records::of_store(&self.store, &self.all_cells())?;
            if let Some(text) = points::text(&View { records: &records, plan: self.plan() }) {
                store::make_parent(&points::path(&folder))?;
                program::replace(&points::path(&folder), text)?;
            }

            let drawings = figures::drawings().into_iter();
            self.draw(drawings.filter(|drawing| drawing.is_ready(&self.store, &folder)))?;
        }

        Ok(code)
    }

    fn figure(&self, number: u8) -> Result<ExitCode> {
        let numbered =
            figures::drawings().into_iter().filter(|drawing| drawing.number == Some(number));
        let (wanted, left): (Vec<Drawing>, Vec<Drawing>) =
            numbered.partition(|drawing| drawing.is_of(self.arguments.scale));

        for drawing in left {
            writeln!(io::stderr().lock(), "{}: this scale does not have its data", drawing.name)?;
        }

        let ids: Vec<_> = wanted.iter().flat_map(Drawing::cells).collect();
        let mut cells = self.cells(&[Part::Table(1), Part::Table(4)]);
        let is_there = |id: &CellId| cells.iter().any(|cell| cell.id == *id);

        ensure!(
            ids.iter().all(is_there),
            "--seeds: figures show runs with seed 1, so include seed 1"
        );
        cells.retain(|cell| ids.contains(&cell.id));

        let code = self.carry_out(&cells, &[])?;
        if code == ExitCode::SUCCESS && self.runs_here() {
            self.draw(wanted)?;
        }

        Ok(code)
    }

    fn draw(&self, drawings: impl IntoIterator<Item = Drawing>) -> Result<()> {
        let dlt = self.dlt()?;
        let folder = self.store.root().join(results::FIGURES);
        for drawing in drawings {
            for file in drawing.draw(&dlt, &self.store, &folder)? {
                writeln!(io::stdout().lock(), "wrote {}", file.display())?;
            }
        }

        Ok(())
    }

    fn report(&self, arguments: &ReportArguments) -> Result<ExitCode> {
        let folder = arguments
            .out
            .clone()
            .unwrap_or_else(|| results::folder(self.root, self.arguments.scale));

        // `dlt` is built with the baselines of scale laptop, at which its main job runs, from the
        // results in the repository. Results in another folder must not change them.
        let is_ours = arguments.out.is_none() && self.arguments.scale == Scale::Laptop;
        let baselines = is_ours.then(|| baselines::path(self.root));
        let results = Results { folder, plan: self.plan(), baselines };
        let command = |part| self.command(part);

        let out = &mut io::stdout().lock();
        if arguments.check {
            let stale = results.stale(&command)?;
            for one in &stale {
                writeln!(out, "{one}")?;
            }

            let folder = results.folder.display();
            match stale.len() {
                0 => writeln!(out, "{folder}: everything is up to date")?,
                count => writeln!(
                    out,
                    "{folder}: {count} not up to date: run `cargo xtask report` again"
                )?,
            }

            return Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }

        let cells = self.all_cells();
        let dlt = self.dlt()?;
        let mut failures: Vec<_> =
            figures::correlate(&dlt, &self.store).err().into_iter().collect();
        let records = results.collect(&self.store, &cells)?;

        failures.extend(results.keep_runs(&self.store, &cells));
        for (path, text) in results.pages(&records, &command)? {
            store::make_parent(&path)?;
            program::replace(&path, text)?;
            writeln!(out, "wrote {}", path.display())?;
        }

        let (files, undrawn) = results.draw(&dlt)?;
        for file in files {
            writeln!(out, "wrote {}", file.display())?;
        }

        failures.extend(undrawn);
        for failure in &failures {
            writeln!(io::stderr().lock(), "FAILED: {failure:#}")?;
        }

        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The command that makes the page of a part.
    fn command(&self, part: Part) -> String {
        let scale = self.arguments.scale.name();
        match part {
            Part::Table(4) => format!("cargo xtask ablation --all --scale {scale}"),
            Part::Table(number) => format!("cargo xtask table {number} --scale {scale}"),
            Part::Regime => format!("cargo xtask regime --scale {scale}"),
            Part::Method => format!("cargo xtask method --scale {scale}"),
        }
    }
}
