//! `cargo xtask bench`: compares a training step with its peer, and the kernels with their floors.
//! Everything that is measured runs in its own process.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use dlt_study::child::{Child, portable};
use dlt_study::program::{Profile, build, replace};

use crate::provenance::Provenance;
use grid::{Program, Side, Workload};
use kernels::{KernelTimes, Round};
use page::Heading;
use peer::Peer;
use products::PeerRound;
use rounds::Measured;

mod comparison;
mod decode;
mod grid;
mod kernels;
mod measurement;
mod page;
pub(crate) mod peer;
mod processes;
mod products;
mod rounds;

/// The time limit of `mpirun --version`.
const PROBE: Duration = Duration::from_secs(60);

/// Exit code for a missing resource, the same as that of `dlt`.
const MISSING_RESOURCE: u8 = 5;

/// By default glibc returns large buffers to the system after each use. Getting fresh pages for them
/// would take most of the time of a small kernel. `dlt` sets the same for itself.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
);

/// Options of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// Measure the kernels of dlt-kernels instead, as fused, composed and floor, and linear maps on
    /// one thread, compared with PyTorch's
    #[arg(long, conflicts_with_all = ["dlt", "only", "steps"])]
    kernels: bool,
    /// Measure generation instead, ours with and without tying, and that of transformers
    #[arg(long, conflicts_with_all = ["kernels", "only", "steps"])]
    decode: bool,
    /// Measure the main size in so many processes instead, started by mpirun, and PyTorch's
    /// DistributedDataParallel. They share the threads
    #[arg(long, value_name = "N", conflicts_with_all = ["kernels", "decode", "only"], value_parser = clap::value_parser!(u32).range(2..))]
    processes: Option<u32>,
    /// What starts several processes [default: mpirun]
    #[arg(long, value_name = "PATH", requires = "processes")]
    mpirun: Option<PathBuf>,
    /// Only these workloads
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = PossibleValuesParser::new(grid::NAMES))]
    only: Vec<String>,
    /// How often each side runs. The sides of a workload take turns
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// Training steps of a run. The first one is not counted
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..))]
    steps: u32,
    /// Threads of each side
    #[arg(long, value_name = "N", default_value = "2")]
    threads: NonZeroUsize,
    /// Python with PyTorch, for the peer [default: .venv-peer/bin/python, then python3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Another script with the peer's command line and keys [default: one of data/peers]
    #[arg(long, value_name = "PATH")]
    peer_script: Option<PathBuf>,
    /// Leave the peer out
    #[arg(long, conflicts_with_all = ["python", "peer_script"])]
    ours_only: bool,
    /// A built dlt [default: cargo builds it in the release profile]
    #[arg(long, value_name = "PATH")]
    dlt: Option<PathBuf>,
    /// A built example kernel_times [default: cargo builds it in the release profile]
    #[arg(long, value_name = "PATH", requires = "kernels")]
    kernel_times: Option<PathBuf>,
    /// Stop a run after this many seconds. It counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..))]
    limit_s: u64,
    /// Print the commands in the order in which they would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the results as a page of Markdown
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
    /// Write every run as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Exit code 0: every run gave figures, whatever they are. 1: a run failed. 5: the peer cannot run.
pub(crate) fn run(root: &Path, arguments: &BenchArguments) -> Result<ExitCode> {
    let out = &mut io::stdout().lock();
    if arguments.decode {
        return run_decode(root, arguments, out);
    }
    if let Some(processes) = arguments.processes {
        arguments.check_division(processes as usize)?;
    }

    match (arguments.kernels, arguments.dry_run) {
        (true, _) => run_kernels(root, arguments, out),
        (false, true) => dry_run_of_steps(root, arguments, out),
        (false, false) => run_steps(root, arguments, out),
    }
}

fn run_steps(root: &Path, arguments: &BenchArguments, out: &mut dyn Write) -> Result<ExitCode> {
    arguments.prepare_destinations()?;
    let workloads = arguments.workloads();
    let needs_peer = workloads
        .iter()
        .flat_map(|workload| &workload.sides)
        .any(|side| side.program == Program::PyTorch);

    let peer = match needs_peer.then(|| arguments.peer(root, peer::SCRIPT)).transpose() {
        Ok(peer) => peer.flatten(),
        Err(message) => {
            writeln!(io::stderr(), "{message}")?;
            return Ok(ExitCode::from(MISSING_RESOURCE));
        }
    };

    if arguments.processes.is_some()
        && let Err(failure) = Child::new(arguments.mpirun()).arguments(["--version"]).run(PROBE)
    {
        let advice = "install Open MPI or MPICH, or name another with --mpirun PATH";
        writeln!(io::stderr(), "{failure}\n{advice}")?;
        return Ok(ExitCode::from(MISSING_RESOURCE));
    }

    let heading = arguments.heading(root, peer.as_ref());
    let dlt = match &arguments.dlt {
        Some(dlt) => dlt.clone(),
        None => build(root, Profile::Release, &["-p", "dlt-cli"], "dlt")?,
    };

    writeln!(out, "{}\n", heading.paragraphs())?;
    let mut measured: Vec<Measured> = Vec::new();

    for workload in workloads {
        let children: Vec<Child> = workload
            .sides
            .iter()
            .map(|side| arguments.child(&workload, side, &dlt, peer.as_ref()))
            .collect();

        let done =
            rounds::run(workload, &children, arguments.rounds.get(), arguments.limit(), out)?;
        writeln!(out, "{}", page::section(&done))?;
        measured.push(done);

        // The files are written after each workload, so that an interrupted run leaves its results.
        let page = match arguments.processes {
            Some(processes) => processes::markdown(&heading, &measured[0], processes),
            None => page::markdown(&heading, &measured),
        };
        arguments.write(&page, &page::json(&heading, &measured))?;
    }

    ending(measured.iter().map(Measured::failures).sum())
}

fn dry_run_of_steps(
    root: &Path,
    arguments: &BenchArguments,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let peer = arguments.peer(root, peer::SCRIPT).map_err(Error::msg)?;
    let dlt = arguments.dlt.clone().unwrap_or_else(|| PathBuf::from("dlt"));

    for workload in arguments.workloads() {
        for (_, side) in rounds::order(arguments.rounds.get(), workload.sides.len()) {
            let child = arguments.child(&workload, &workload.sides[side], &dlt, peer.as_ref());
            writeln!(out, "{}", child.command_line())?;
        }
    }

    Ok(ExitCode::SUCCESS)
}

fn run_kernels(root: &Path, arguments: &BenchArguments, out: &mut dyn Write) -> Result<ExitCode> {
    arguments.prepare_destinations()?;
    let peer = match arguments.peer(root, products::SCRIPT) {
        Ok(peer) => peer,
        Err(message) => {
            writeln!(io::stderr(), "{message}")?;
            return Ok(ExitCode::from(MISSING_RESOURCE));
        }
    };

    let program = match (&arguments.kernel_times, arguments.dry_run) {
        (Some(program), _) => program.clone(),
        (None, true) => PathBuf::from("kernel_times"),
        (None, false) => build(
            root,
            Profile::Release,
            &["-p", "dlt-kernels", "--example", "kernel_times"],
            "examples/kernel_times",
        )?,
    };

    let heading = arguments.heading(root, peer.as_ref());
    let ours = arguments.kernel_child(&program);
    let peer = peer.map(|peer| peer.child().arguments(products::options()));
    let mut rounds = Vec::new();
    let mut peer_rounds = Vec::new();
    let mut failures = 0;

    for number in 1..=arguments.rounds.get() {
        if arguments.dry_run {
            for child in [Some(&ours), peer.as_ref()].into_iter().flatten() {
                writeln!(out, "{}", child.command_line())?;
            }
            continue;
        }

        let mut tell = |what: &str, failure: Option<&String>| {
            failures += usize::from(failure.is_some());
            let said = failure.map_or("measured".to_owned(), |why| format!("FAILED: {why}"));
            writeln!(out, "{number}/{}  {what}  {said}", arguments.rounds)
        };

        let round = arguments.round(&ours, Round::parse);
        tell("kernels", round.as_ref().err())?;
        rounds.extend(round);

        if let Some(peer) = &peer {
            let round = arguments.round(peer, PeerRound::parse);
            tell("pytorch", round.as_ref().err())?;
            peer_rounds.extend(round);
        }
    }

    if rounds.is_empty() {
        return ending(failures);
    }

    let times = KernelTimes::of(&rounds, peer_rounds)?;
    let page = times.markdown(&heading);
    writeln!(out, "\n{page}")?;
    arguments.write(&page, &times.json(&heading))?;

    ending(failures)
}

fn run_decode(root: &Path, arguments: &BenchArguments, out: &mut dyn Write) -> Result<ExitCode> {
    arguments.prepare_destinations()?;
    let peer = match arguments.peer(root, decode::SCRIPT) {
        Ok(peer) => peer,
        Err(message) => {
            writeln!(io::stderr(), "{message}")?;
            return Ok(ExitCode::from(MISSING_RESOURCE));
        }
    };

    let dlt = match (&arguments.dlt, arguments.dry_run) {
        (Some(dlt), _) => dlt.clone(),
        (None, true) => PathBuf::from("dlt"),
        (None, false) => build(root, Profile::Release, &["-p", "dlt-cli"], "dlt")?,
    };

    let children: Vec<Child> = decode::SIDES
        .iter()
        .filter_map(|&(_, program, options)| {
            let child = match program {
                Program::Dlt => Child::new(&dlt).arguments(["bench", "decode", "--json"]),
                Program::PyTorch => peer.as_ref()?.child(),
            };

            let threads = arguments.threads.to_string();
            Some(
                child.arguments(["--threads", threads.as_str()]).arguments(options.iter().copied()),
            )
        })
        .collect();

    let mut runs: decode::Runs = children.iter().map(|_| Vec::new()).collect();
    for (round, side) in rounds::order(arguments.rounds.get(), children.len()) {
        if arguments.dry_run {
            writeln!(out, "{}", children[side].command_line())?;
            continue;
        }

        let run = arguments.round(&children[side], decode::Figures::parse);
        let said = run.as_ref().map_or_else(
            |why| format!("FAILED: {why}"),
            |figures| format!("{:.1} tokens/s", figures.tokens_per_s),
        );
        writeln!(out, "{round}/{}  {:<18}  {said}", arguments.rounds, decode::SIDES[side].0)?;
        runs[side].push(run);
    }

    if arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }

    let heading = arguments.heading(root, peer.as_ref());
    let page = decode::markdown(&heading, &runs);
    writeln!(out, "\n{page}")?;
    arguments.write(&page, &decode::json(&heading, &runs))?;

    ending(runs.iter().flatten().filter(|run| run.is_err()).count())
}

fn ending(failures: usize) -> Result<ExitCode> {
    if failures == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stderr(), "bench: {failures} runs FAILED")?;
    Ok(ExitCode::FAILURE)
}

impl BenchArguments {
    fn workloads(&self) -> Vec<Workload> {
        let mut workloads = match self.processes {
            Some(processes) => vec![grid::among(processes as usize)],
            None => grid::workloads(),
        };
        workloads.retain(|workload| {
            self.only.is_empty() || self.only.iter().any(|name| name == workload.name)
        });

        if self.ours_only {
            workloads = workloads.into_iter().map(Workload::ours_only).collect();
        }

        workloads
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_s)
    }

    /// Processes divide the batch and the threads.
    fn check_division(&self, processes: usize) -> Result<()> {
        let batch = grid::among(processes).shape.batch;
        for (what, whole) in [("threads", self.threads.get()), ("windows of the batch", batch)] {
            ensure!(
                whole.is_multiple_of(processes),
                "--processes: expected a divisor of {whole} {what}, got {processes}"
            );
        }

        Ok(())
    }

    fn mpirun(&self) -> &Path {
        self.mpirun.as_deref().unwrap_or(Path::new("mpirun"))
    }

    /// The command that runs a side. Without a peer, no side needs one.
    fn child(&self, workload: &Workload, side: &Side, dlt: &Path, peer: Option<&Peer>) -> Child {
        let processes = side.processes.to_string();
        let child = match (side.program, peer) {
            (Program::PyTorch, Some(peer)) if side.processes > 1 => Child::new(&peer.python)
                .arguments([&peer.script.display().to_string(), "--processes", &processes]),
            (Program::PyTorch, Some(peer)) => peer.child(),
            // Open MPI binds a process to one core by itself, whatever its number of threads.
            _ if side.processes > 1 => Child::new(self.mpirun())
                .arguments(["-n", &processes, "--bind-to", "none", &dlt.display().to_string()])
                .arguments(["bench", "step"]),
            _ => Child::new(dlt).arguments(["bench", "step"]),
        };

        let threads = self.threads.get() / side.processes;
        let numbers = [("--steps", self.steps.to_string()), ("--threads", threads.to_string())];
        let numbers = numbers.into_iter().flat_map(|(flag, number)| [flag.to_owned(), number]);
        let child = child
            .arguments(workload.shape.options())
            .arguments(numbers)
            .arguments(side.options.clone());

        match side.program {
            Program::Dlt => child.arguments(["--json"]),
            Program::PyTorch => child,
        }
    }

    /// The peer that runs this script or the one that an option names; `None` if it is left out. A
    /// dry run does not look for it.
    fn peer(&self, root: &Path, script: &'static str) -> Result<Option<Peer>, String> {
        let python = self.python.as_deref();
        if self.ours_only {
            return Ok(None);
        }
        if self.dry_run {
            let python = peer::candidates(root, python).remove(0);
            let script = self.peer_script.clone().unwrap_or_else(|| PathBuf::from(script));
            return Ok(Some(Peer { python, script, versions: String::new() }));
        }

        peer::find(root, python, self.peer_script.as_deref(), script).map(Some)
    }

    /// Runs a program once and parses what it prints.
    fn round<T>(&self, child: &Child, parse: fn(&str) -> Result<T>) -> Result<T, String> {
        let finished = child.run(self.limit()).map_err(|failure| failure.to_string())?;
        parse(&finished.stdout).map_err(|error| format!("no figures: {error:#}"))
    }

    fn kernel_child(&self, program: &Path) -> Child {
        let child = Child::new(program).arguments(["--json"]);
        child
            .environment("RAYON_NUM_THREADS", self.threads.to_string())
            .environment(ALLOCATOR.0, ALLOCATOR.1)
    }

    fn heading(&self, root: &Path, peer: Option<&Peer>) -> Heading {
        let words = std::env::args().skip(1).map(|word| portable(&word));

        Heading {
            provenance: Provenance::read(root),
            command: Child::new("cargo")
                .arguments(["xtask".to_owned()])
                .arguments(words)
                .command_line(),
            rounds: self.rounds.get(),
            peer: peer.map(|peer| peer.versions.clone()),
        }
    }

    /// Makes the folders of the output files. It runs before anything is measured, so that a wrong
    /// path does not cost a long measurement.
    fn prepare_destinations(&self) -> Result<()> {
        for path in [&self.out, &self.json].into_iter().flatten() {
            ensure!(!path.is_dir(), "cannot write {}: it is a folder, name a file", path.display());

            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| {
                    format!("cannot write {}: cannot make its folder", path.display())
                })?;
            }
        }

        Ok(())
    }

    fn write(&self, page: &str, json: &serde_json::Value) -> Result<()> {
        if let Some(path) = &self.out {
            replace(path, page)?;
        }
        if let Some(path) = &self.json {
            replace(path, format!("{json:#}\n"))?;
        }

        Ok(())
    }
}
