//! Sets variables for the compiler that say what the program is built from. `dlt --version` and the
//! provenance of runs show them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = Path::new("../..");
    let revision = revision(root);
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let long =
        revision.as_ref().map_or(version.clone(), |revision| format!("{version} ({revision})"));

    println!("cargo::rustc-env=DLT_LONG_VERSION={long}");
    println!("cargo::rustc-env=DLT_REVISION={}", revision.unwrap_or_default());

    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let toolchain =
        output(Command::new(compiler).arg("--version")).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=DLT_TOOLCHAIN={toolchain}");

    // Only paths that exist: for a missing one, cargo would run this script every time.
    let log =
        output(git(root).args(["rev-parse", "--git-path", "logs/HEAD"])).map(|log| root.join(log));
    let sources = ["build.rs", "..", "../../data/presets", "../../Cargo.lock"].map(PathBuf::from);

    for path in sources.into_iter().chain(log).filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// The revision of the checkout, with `-dirty` at its end if tracked files were changed. `None`
/// without git, or if the sources are inside another repository.
fn revision(root: &Path) -> Option<String> {
    let top = PathBuf::from(output(git(root).args(["rev-parse", "--show-toplevel"]))?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }

    let revision =
        output(git(root).args(["rev-parse", "HEAD"])).filter(|revision| !revision.is_empty())?;
    let changes = output(git(root).args(["status", "--porcelain", "--untracked-files=no"]))?;

    Some(if changes.is_empty() { revision } else { format!("{revision}-dirty") })
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    // A build must not take the locks of git, because somebody may be committing.
    git.env("GIT_OPTIONAL_LOCKS", "0").arg("-C").arg(root);
    git
}

/// What a command prints to standard output, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let done = command.output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
