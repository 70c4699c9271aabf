//! The programs that run on a GPU: built here, or copied from the machine where they were built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use dlt_study::program::make_folder;
use serde_json::Value;

use crate::steps::Steps;

/// The command line tool.
pub(super) const DLT: &str = "dlt";
/// The tests that compare a GPU with the CPU.
pub(super) const PARITY: &str = "parity";
/// This program, which runs the check on a machine without cargo.
const XTASK: &str = "xtask";

/// Programs with CUDA, by name.
pub(super) struct Programs {
    paths: Vec<(&'static str, PathBuf)>,
}

impl Programs {
    /// Builds them into `folder`, apart from the build without CUDA.
    pub(super) fn build(root: &Path, folder: &Path, steps: &Steps) -> Result<Self> {
        let build = |name: &'static str, task: &[&str]| -> Result<(&'static str, PathBuf)> {
            let mut cargo = Command::new("cargo");
            cargo.args(task).args(["--release", "--features", "cuda", "--target-dir"]).arg(folder);
            cargo.args(["--message-format", "json-render-diagnostics"]);
            cargo.env("CARGO_TERM_COLOR", "never").current_dir(root);

            let written = steps.command(&format!("build of {name}"), &mut cargo).context(
                "the build with CUDA failed: it needs CUDA 12 or 13.0 to 13.4 with nvcc on PATH, cuBLAS, \
                 cuRAND and NVRTC to link, and g++",
            )?;

            match executable(&written, name) {
                Some(path) => Ok((name, path)),
                None if steps.is_dry() => Ok((name, PathBuf::from(name))),
                None => bail!("expected cargo to say where it put {name}, got no such line"),
            }
        };

        let dlt = build(DLT, &["build", "-p", "dlt-cli", "--bin", "dlt"])?;
        let parity = build(PARITY, &["test", "--no-run", "-p", "dlt-train", "--test", "parity"])?;
        Ok(Self { paths: vec![dlt, parity] })
    }

    /// The programs that [`Self::copy`] put into a folder.
    pub(super) fn within(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for name in [DLT, PARITY] {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "--programs: expected {} from `cargo xtask gpu-check --package`, got no such file",
                path.display()
            );
            paths.push((name, path));
        }

        Ok(Self { paths })
    }

    /// Copies them, and this program, into a folder.
    pub(super) fn copy(mut self, folder: &Path, steps: &Steps) -> Result<()> {
        let this = std::env::current_exe().context("cannot find the path of this program")?;
        self.paths.push((XTASK, this));

        steps.work("package", &format!("copies the programs into {}", folder.display()), || {
            make_folder(folder)?;
            for (name, path) in &self.paths {
                let to = folder.join(name);
                fs::copy(path, &to).with_context(|| {
                    format!("cannot copy {} to {}", path.display(), to.display())
                })?;
            }

            Ok(())
        })
    }

    /// The command of one program, to run in a working tree.
    pub(super) fn command(&self, name: &str, root: &Path) -> Command {
        let path =
            self.paths.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_path());
        let mut command = Command::new(path.unwrap_or(Path::new(name)));
        command.current_dir(root);
        command
    }
}

/// The path of a target's program, from the JSON that cargo wrote.
fn executable(written: &str, target: &str) -> Option<PathBuf> {
    let messages = written.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = messages.filter(|message| message["target"]["name"] == target);
    found.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_what_cargo_writes() {
        let written = "   Compiling dlt\n{\"target\":{\"name\":\"dlt\"},\"executable\":null}\n{\"target\":{\"name\":\
                       \"dlt\"},\"executable\":\"/t/dlt\"}\n";
        assert_eq!(executable(written, "dlt"), Some(PathBuf::from("/t/dlt")));
        assert_eq!(executable(written, "parity"), None);
    }

    #[test]
    fn rejects_a_folder_without_the_programs() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DLT), "").unwrap();

        let error = Programs::within(folder.path()).err().unwrap().to_string();
        assert!(error.contains("parity from `cargo xtask gpu-check --package`"), "{error}");
        fs::write(folder.path().join(PARITY), "").unwrap();
        assert!(Programs::within(folder.path()).is_ok());
    }
}
