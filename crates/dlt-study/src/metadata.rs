//! What cargo says about the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The folder of cargo's build output, as configured on this machine.
pub fn target_directory(root: &Path) -> Result<PathBuf> {
    let metadata = of_members(root)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata has an entry without 'target_directory'")?;

    Ok(PathBuf::from(folder))
}

/// Cargo's metadata from the manifests alone, which needs no network and no lock file.
pub fn of_members(root: &Path) -> Result<Value> {
    ask(root, &["--no-deps"])
}

/// Cargo's metadata with all dependencies under these features. Cargo fetches missing crates.
pub fn of_all(root: &Path, features: &[&str]) -> Result<Value> {
    ask(root, &["--locked", "--features", &features.join(",")])
}

fn ask(root: &Path, arguments: &[&str]) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(arguments)
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;

    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}
