//! `cargo xtask`: the checks, benchmarks and experiments of this repository as commands.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use dlt_study::StudyCommand;

use crate::bench::BenchArguments;
use crate::tree::Tree;
use crate::workspace::Workspace;

mod bench;
mod cuda_check;
mod finding;
mod fuzz;
mod gpu_check;
mod markdown;
mod provenance;
mod rust_source;
mod steps;
mod tidy;
mod toolkit;
mod tree;
mod workspace;

/// The checks, benchmarks and experiments of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct XtaskArguments {
    #[command(subcommand)]
    command: XtaskCommand,
}

#[derive(Subcommand)]
enum XtaskCommand {
    /// Run every check: format, tidy, clippy, documentation, tests. The same as `bash .ci/run`.
    Ci,
    /// Check what the compiler does not: edges between crates, documents, presets and the layout of
    /// the sources.
    Tidy,
    /// Compare a training step with PyTorch, or the kernels with their floors. Prints medians over
    /// rounds, and ratios.
    Bench(BenchArguments),
    /// Run the fuzz targets, which cover everything that reads bytes from outside.
    Fuzz(fuzz::FuzzArguments),
    #[command(flatten)]
    Study(StudyCommand),
    /// Build with CUDA on a machine without a GPU, and run the tests that need no GPU.
    CudaCheck(cuda_check::CudaCheckArguments),
    /// Compare a GPU with the CPU, train and measure on it, and write a report.
    GpuCheck(gpu_check::GpuCheckArguments),
}

fn main() -> Result<ExitCode> {
    match XtaskArguments::parse().command {
        XtaskCommand::Ci => ci(&root()),
        XtaskCommand::Tidy => report_tidiness(&root()),
        XtaskCommand::Bench(arguments) => bench::run(&root(), &arguments),
        XtaskCommand::Fuzz(arguments) => fuzz::run(&root(), &arguments),
        XtaskCommand::Study(command) => dlt_study::run(&root(), &command),
        XtaskCommand::CudaCheck(arguments) => cuda_check::run(&root(), &arguments),
        XtaskCommand::GpuCheck(arguments) => gpu_check::run(&root(), &arguments),
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
    let command = XtaskArguments::command();
    let commands: Vec<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let report = tidy::check(&tree, &Workspace::read(root)?, &commands);

    for note in &report.notes {
        println!("note: {note}");
    }

    for finding in &report.findings {
        eprintln!("{finding}");
    }

    if report.findings.is_empty() {
        println!("tidy: {} files, nothing to fix", tree.paths().count());
        return Ok(ExitCode::SUCCESS);
    }

    eprintln!("tidy: {} to fix", report.findings.len());
    Ok(ExitCode::FAILURE)
}

/// The folder of the workspace, which is the parent of this crate's folder.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
