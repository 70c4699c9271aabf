//! `cargo xtask cuda-check`: builds everything with CUDA on a machine without a GPU, and runs the
//! tests that need none.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};
use clap::Args;
use dlt_study::metadata;

use crate::steps::{Attempt, Steps};
use crate::toolkit::Toolkit;

/// All cargo features that need CUDA.
const FEATURES: &str = "cuda,nccl";

/// Whether a program with CUDA starts without NVIDIA's libraries on this platform, because it loads
/// them itself.
const STARTS_ALONE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

#[derive(Args)]
pub(crate) struct CudaCheckArguments {
    /// Only make the toolkit, and print what a shell has to export to build with it
    #[arg(long)]
    toolkit: bool,
    /// Print the steps and run none
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(root: &Path, arguments: &CudaCheckArguments) -> Result<ExitCode> {
    let target = metadata::target_directory(root)?;
    let steps = Steps::new("cuda-check", &target, arguments.dry_run)?;
    let toolkit = Toolkit::at(target.join("cuda-toolkit"));

    toolkit.make(&steps, root)?;
    if arguments.toolkit {
        let running = (!STARTS_ALONE).then(|| toolkit.running());
        for (name, value) in toolkit.building().into_iter().chain(running) {
            writeln!(io::stdout(), "export {name}={value}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }

    // A separate folder, so that the build without CUDA stays as it is.
    let folder = target.join("cuda");
    let cargo = |task: &str| {
        let mut cargo = Command::new("cargo");
        cargo.args([task, "--workspace", "--features", FEATURES, "--target-dir"]).arg(&folder);
        cargo.envs(toolkit.building()).env("CARGO_TERM_COLOR", "never").current_dir(root);
        cargo
    };

    steps.command("build", cargo("build").arg("--all-targets"))?;

    let mut tests = cargo("test");
    if STARTS_ALONE {
        // No library path, so the tests prove that a program starts without NVIDIA's libraries.
        tests.env_remove("LD_LIBRARY_PATH");
    } else {
        tests.envs([toolkit.running()]);
    }

    let written = steps.command("tests", &mut tests)?;
    ensure!(steps.is_dry() || written.lines().any(has_run_tests), "no test ran");

    let program = folder.join("debug").join("dlt");
    if STARTS_ALONE {
        let mut readelf = Command::new("readelf");
        let needed =
            steps.command("libraries", readelf.args(["--wide", "--dynamic"]).arg(&program))?;
        if let Some(line) = needed.lines().find(|line| is_of_nvidia(line)) {
            let line = line.trim();
            bail!(
                "expected a program that starts without NVIDIA's libraries, got one that needs {line}"
            )
        }
    }

    let mut dlt = Command::new(&program);
    dlt.args(["train", "--device", "cuda", "--out"])
        .arg(folder.join("no-run"))
        .envs([toolkit.running()]);

    let attempt = steps.trial("driver without a GPU", dlt.current_dir(root))?;
    ensure!(
        steps.is_dry() || finds_no_gpu(&attempt),
        "expected exit code 5 and the message that there is no GPU, got {attempt:?}"
    );

    steps.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether this line of readelf says that the system loads a library of NVIDIA with the program.
fn is_of_nvidia(line: &str) -> bool {
    line.contains("(NEEDED)")
        && ["[libcu", "[libnv", "[libnccl"].iter().any(|name| line.contains(name))
}

/// Whether a program called the stub of the driver, and reported its answer.
fn finds_no_gpu(attempt: &Attempt) -> bool {
    attempt.failure.as_deref() == Some("exit status: 5")
        && attempt.written.contains("the driver finds no GPU")
}

fn has_run_tests(line: &str) -> bool {
    line.strip_prefix("test result: ok. ").is_some_and(|rest| !rest.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_of_the_driver_is_asked() {
        let attempt = |written: &str, failure: Option<&str>| Attempt {
            written: written.to_owned(),
            failure: failure.map(str::to_owned),
        };

        let said = "error: device cuda:0: the driver finds no GPU; use --device cpu";
        assert!(finds_no_gpu(&attempt(said, Some("exit status: 5"))));
        assert!(!finds_no_gpu(&attempt(said, Some("exit status: 1"))));
        assert!(!finds_no_gpu(&attempt(
            "the NVIDIA driver cannot be loaded",
            Some("exit status: 5")
        )));
        assert!(!finds_no_gpu(&attempt("", None)));
    }

    #[test]
    fn libraries_of_nvidia_are_recognised_among_those_that_a_program_needs() {
        let line = |name: &str| {
            format!(" 0x0000000000000001 (NEEDED)             Shared library: [{name}]")
        };
        for name in ["libcuda.so.1", "libcudart.so.13", "libnvrtc.so.13", "libnccl.so.2"] {
            assert!(is_of_nvidia(&line(name)), "{name}");
        }

        assert!(!is_of_nvidia(&line("libc.so.6")));

        assert!(!is_of_nvidia(
            " 0x000000000000001d (RUNPATH)            Library runpath: [libcuda]"
        ));
    }

    #[test]
    fn a_run_without_tests_is_recognised() {
        assert!(has_run_tests("test result: ok. 12 passed; 0 failed; 0 ignored"));
        assert!(!has_run_tests("test result: ok. 0 passed; 0 failed; 0 ignored"));
        assert!(!has_run_tests("test result: FAILED. 2 passed; 1 failed"));
    }
}
