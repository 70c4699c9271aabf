//! Builds programs of this workspace with cargo, reads files, and replaces them atomically.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::metadata;

/// The cargo profile of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The profile of the tests, so that nothing has to be built twice.
    Dev,
    /// The profile of what is measured.
    Release,
}

/// Builds a program with cargo, shows cargo's progress, and returns the program's path.
pub fn build(root: &Path, profile: Profile, what: &[&str], program: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (flag, folder): (&[&str], _) = match profile {
        Profile::Dev => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };

    let status = Command::new(cargo)
        .arg("build")
        .args(flag)
        .args(what)
        .current_dir(root)
        .status()
        .context("cannot start cargo build")?;
    ensure!(status.success(), "cargo build {} {} failed", flag.join(" "), what.join(" "));

    let path = metadata::target_directory(root)?.join(folder).join(program);
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(path.is_file(), "cargo build made no {}", path.display());

    Ok(path)
}

/// The text of a file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes a folder and those above it, if they do not exist.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a temporary file next to `path` and renames it, so that an old file is never left half
/// written.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    dlt_spec::durable::replace(path, contents.as_ref())
        .with_context(|| format!("cannot write {}", path.display()))
}
