//! `cargo xtask gpu-check`, for a machine with a GPU: compares the GPU with the CPU, trains the main
//! job on it, and compares memory and speed with PyTorch. It writes everything into one file for a
//! report.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use dlt_study::metadata;
use serde_json::{Value, json};

use crate::bench::peer;
use crate::provenance::Provenance;
use crate::steps::{Attempt, Steps};
use measurements::{Measurement, measurements};
use programs::{DLT, PARITY, Programs};

mod measurements;
mod programs;

#[derive(Args)]
pub(crate) struct GpuCheckArguments {
    /// Steps of the main job
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Number of the GPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: usize,
    /// Python with a PyTorch that was built with CUDA
    /// [default: .venv-peer/bin/python, then python3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Leave PyTorch out
    #[arg(long, conflicts_with = "python")]
    ours_only: bool,
    /// Only build, and put the programs into a folder for a machine without Rust. Needs no GPU
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["programs", "steps", "gpu", "python", "ours_only", "out"])]
    package: Option<PathBuf>,
    /// Use the programs in a folder that --package made, and build nothing. Run it in a copy of the
    /// repository
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// File for the results
    #[arg(long, value_name = "FILE.json", default_value = "gpu-check.json")]
    out: PathBuf,
    /// Print the steps and run none
    #[arg(long)]
    dry_run: bool,
}

/// Exit code 0: everything ran and agreed. 1: something did not; the file lists what.
pub(crate) fn run(root: &Path, arguments: &GpuCheckArguments) -> Result<ExitCode> {
    if let Some(folder) = &arguments.package {
        let target = metadata::target_directory(root)?;
        let steps = Steps::new("gpu-check", &target, arguments.dry_run)?;
        Programs::build(root, &target.join("gpu"), &steps)?.copy(folder, &steps)?;
        steps.finish()?;
        return Ok(ExitCode::SUCCESS);
    }

    match &arguments.programs {
        // The root was compiled in where the programs were built, and may not exist here.
        Some(folder) => check(&std::env::current_dir()?, arguments, folder),
        None => check(root, arguments, &metadata::target_directory(root)?.join("gpu")),
    }
}

/// The whole check, in a working tree. Its files go to `folder`.
fn check(root: &Path, arguments: &GpuCheckArguments, folder: &Path) -> Result<ExitCode> {
    let folder = std::path::absolute(folder)?;
    let steps = Steps::new("gpu-check", &folder, arguments.dry_run)?;
    let check = Check { root, arguments, python: arguments.python(root)?, steps, folder };
    let report = check.carry_out()?;
    check.finish(&report)
}

impl GpuCheckArguments {
    /// The Python of the peer, unless it is left out.
    fn python(&self, root: &Path) -> Result<Option<PathBuf>> {
        match (self.ours_only, self.dry_run) {
            (true, _) => Ok(None),
            (false, true) => Ok(peer::candidates(root, self.python.as_deref()).into_iter().next()),
            (false, false) => match peer::find(root, self.python.as_deref(), None, peer::SCRIPT) {
                Ok(peer) => Ok(Some(peer.python)),
                Err(message) => bail!("{message}"),
            },
        }
    }
}

struct Check<'a> {
    root: &'a Path,
    arguments: &'a GpuCheckArguments,
    python: Option<PathBuf>,
    steps: Steps,
    /// Folder for the files that the check makes on its way.
    folder: PathBuf,
}

impl Check<'_> {
    fn carry_out(&self) -> Result<Value> {
        let gpu = self.gpu()?;
        let (compiler, programs) = match &self.arguments.programs {
            Some(_) => (None, Programs::within(&self.folder)?),
            None => {
                (Some(self.compiler()?), Programs::build(self.root, &self.folder, &self.steps)?)
            }
        };

        let mut failed = Vec::new();
        let parity = self.parity(&programs, &mut failed)?;
        let training = self.training(&programs, &mut failed)?;
        let mut measured = Vec::new();

        for measurement in measurements(self.python.is_some()) {
            measured.push(self.measure(&programs, &measurement, &mut failed)?);
        }

        Ok(json!({
            "schema": 1, "gpu": gpu, "nvcc": compiler, "host": Provenance::read(self.root).json(),
            "parity": parity, "training": training, "measurements": measured, "failed": failed,
        }))
    }

    /// What the driver reports about the GPU.
    fn gpu(&self) -> Result<String> {
        let fields =
            ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"];
        let mut driver = Command::new("nvidia-smi");
        driver.args(fields).arg(format!("--id={}", self.arguments.gpu));

        let gpu = self.steps.command("driver", &mut driver).context(
            "no GPU to check: nvidia-smi, which is part of the NVIDIA driver, finds none. \
             `cargo xtask cuda-check` builds and tests without a GPU",
        )?;

        Ok(gpu.trim().to_owned())
    }

    /// The version that nvcc reports.
    fn compiler(&self) -> Result<String> {
        let mut nvcc = Command::new("nvcc");
        let compiler = self.steps.command("compiler", nvcc.arg("--version")).context(
            "nvcc is missing: install CUDA 12 or 13.0 to 13.4 and put its folder `bin` on PATH",
        )?;
        let version = compiler.lines().find(|line| line.contains("release")).unwrap_or_default();

        Ok(version.trim().to_owned())
    }

    fn device(&self) -> String {
        format!("cuda:{}", self.arguments.gpu)
    }

    /// Compares every operation, every architecture, training and generation with the CPU. Returns one
    /// line of JSON per comparison.
    fn parity(&self, programs: &Programs, failed: &mut Vec<String>) -> Result<Vec<Value>> {
        let mut tests = programs.command(PARITY, self.root);
        // `auto` uses the first GPU that it sees, so the tests may only see this one.
        tests.env("CUDA_VISIBLE_DEVICES", self.arguments.gpu.to_string());
        tests.args(["--nocapture", "--test-threads", "1"]);

        let attempt = self.steps.trial("parity", &mut tests)?;
        let lines = parity_lines(&attempt.written);
        if self.steps.is_dry() {
            return Ok(lines);
        }

        let on_gpu = lines
            .iter()
            .filter(|line| line["side"].as_str().is_some_and(|side| side.contains("cuda")));
        if on_gpu.count() == 0 {
            failed.push("parity: nothing was compared on a GPU".to_owned());
        }

        note(failed, "parity", &attempt);
        Ok(lines)
    }

    /// Trains the main job for fewer steps. Returns its summary and provenance.
    fn training(&self, programs: &Programs, failed: &mut Vec<String>) -> Result<Value> {
        let run = self.folder.join(format!("run-{}", std::process::id()));
        let mut dlt = programs.command(DLT, self.root);
        dlt.args(["train", "--quiet", "--device", &self.device(), "--steps"]);
        dlt.arg(self.arguments.steps.to_string()).arg("--out").arg(&run);

        let attempt = self.steps.trial("training", &mut dlt)?;
        note(failed, "training", &attempt);

        let record = |name: &str| -> Value {
            let text = fs::read_to_string(run.join(name)).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };

        Ok(json!({ "summary": record("summary.json"), "provenance": record("provenance.json") }))
    }

    fn measure(
        &self,
        programs: &Programs,
        measurement: &Measurement,
        failed: &mut Vec<String>,
    ) -> Result<Value> {
        let mut command = match (&self.python, measurement.is_peer) {
            (Some(python), true) => {
                let mut command = Command::new(python);
                command.arg(peer::SCRIPT).current_dir(self.root);
                command
            }
            _ => {
                let mut command = programs.command(DLT, self.root);
                command.args(["bench", "step", "--json"]);
                command
            }
        };

        command.args(&measurement.arguments).args(["--device", &self.device()]);
        let attempt = self.steps.trial(&measurement.name, &mut command)?;
        note(failed, &measurement.name, &attempt);

        let line =
            attempt.written.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(json!({ "name": measurement.name, "figures": line, "failure": attempt.failure }))
    }

    #[allow(clippy::print_stdout, reason = "a command line tool answers on its streams")]
    fn finish(self, report: &Value) -> Result<ExitCode> {
        let out = &self.arguments.out;
        if self.steps.is_dry() {
            println!("then all results are written to {}", out.display());
            self.steps.finish()?;
            return Ok(ExitCode::SUCCESS);
        }

        let text =
            serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
        fs::write(out, text + "\n").with_context(|| format!("cannot write {}", out.display()))?;
        measurements::print(report, &mut io::stdout())?;
        println!("All results are in {}: attach it to a report.", out.display());

        let failed: Vec<&str> =
            report["failed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for failure in &failed {
            writeln!(io::stderr(), "{failure}")?;
        }

        self.steps.finish()?;
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The lines of JSON that the parity tests print, one per comparison.
fn parity_lines(written: &str) -> Vec<Value> {
    // The test harness writes the name of a test before its first line.
    let lines = written.lines().filter_map(|line| line.split_once("parity: "));
    lines.filter_map(|(_, line)| serde_json::from_str(line).ok()).collect()
}

/// Remembers a failure with the end of what was written.
fn note(failed: &mut Vec<String>, name: &str, attempt: &Attempt) {
    let Some(why) = &attempt.failure else { return };
    let lines: Vec<&str> = attempt.written.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(12)..].join("\n    ");
    failed.push(format!("{name}: {why}\n    {end}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_anywhere_in_a_line() {
        let written = "running 1 test\ntest a ... parity: {\"what\":\"linear\",\"apart\":1e-7}\nparity: {\"what\":\
                       \"norm\",\"apart\":2e-7}\nok\nparity: broken\n";
        let lines = parity_lines(written);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["what"], "norm");
    }

    #[test]
    fn a_failure_is_noted_with_the_end_of_what_was_written() {
        let mut failed = Vec::new();
        note(&mut failed, "a", &Attempt::default());

        let written = "one\n\ntwo\n".to_owned();
        let failure = Some("exit status: 1".to_owned());
        note(&mut failed, "b", &Attempt { written, failure });
        assert_eq!(failed, ["b: exit status: 1\n    one\n    two"]);
    }
}
