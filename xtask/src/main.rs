//! `cargo xtask`: the checks, benchmarks and experiments of this repository as commands.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use crate::bench::BenchArguments;
use crate::tree::Tree;
use crate::workspace::Workspace;

mod bench;
mod child;
mod cuda_check;
mod finding;
mod fuzz;
mod gpu_check;
mod markdown;
mod program;
mod provenance;
mod rust_source;
mod spread;
mod steps;
mod study;
mod table;
mod tidy;
mod toolkit;
mod tree;
mod workspace;

/// The checks, benchmarks and experiments of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check: format, tidy, clippy, documentation, tests. The same as `bash .ci/run`.
    Ci,
    /// Check what the compiler does not: edges between crates, documents, presets, layout of the
    /// sources.
    Tidy,
    /// Measure a training step beside PyTorch, or the kernels beside their floors: medians of
    /// rounds, and ratios.
    Bench(BenchArguments),
    /// Run the fuzz targets: everything that reads bytes from outside.
    Fuzz(fuzz::Arguments),
    #[command(flatten)]
    Study(study::Task),
    /// Build with CUDA on a machine without a GPU, and run the tests that need none.
    CudaCheck(cuda_check::Arguments),
    /// Compare a GPU with the CPU, train and measure on it, and write a report.
    GpuCheck(gpu_check::Arguments),
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Task::Ci => ci(&root()),
        Task::Tidy => report_tidiness(&root()),
        Task::Bench(arguments) => bench::run(&root(), &arguments),
        Task::Fuzz(arguments) => fuzz::run(&root(), &arguments),
        Task::Study(task) => study::run(&root(), &task),
        Task::CudaCheck(arguments) => cuda_check::run(&root(), &arguments),
        Task::GpuCheck(arguments) => gpu_check::run(&root(), &arguments),
    }
}

fn ci(root: &Path) -> Result<ExitCode> {
    let script = root.join(".ci").join("run");
    let status = Command::new("bash")
        .arg(&script)
        .status()
        .with_context(|| format!("cannot start bash with {}", script.display()))?;

    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool answers on its streams"
)]
fn report_tidiness(root: &Path) -> Result<ExitCode> {
    let tree = Tree::read(root)?;
    let command = Arguments::command();
    let commands: Vec<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let report = tidy::check(&tree, &Workspace::read(root)?, &commands);

    for note in &report.notes {
        println!("note: {note}");
    }

    for finding in &report.findings {
        eprintln!("{finding}");
    }

    if report.findings.is_empty() {
        println!("tidy: {} files, nothing to mend", tree.paths().count());
        return Ok(ExitCode::SUCCESS);
    }

    eprintln!("tidy: {} to mend", report.findings.len());
    Ok(ExitCode::FAILURE)
}

/// The folder of the workspace: the parent of this crate's.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
