//! Finds a Python that can run the peer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlt_study::child::Child;

/// The peer's script for a training step, from the root of the repository.
pub(crate) const SCRIPT: &str = "data/peers/pytorch_step.py";

/// The Python environment that is tried first. Git ignores it, and the commands in the message below
/// make it.
const ENVIRONMENT: &str = ".venv-peer/bin/python";

/// The time limit is long, because importing PyTorch reads a gigabyte of libraries.
const PROBE_LIMIT: Duration = Duration::from_secs(300);
const PROBE: &str = "import platform, torch; print('Python', platform.python_version() + ', PyTorch', torch.__version__)";

/// A Python that has PyTorch.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) python: PathBuf,
    pub(crate) script: PathBuf,
    /// `Python 3.12.1, PyTorch 2.9.0`
    pub(crate) versions: String,
}

impl Peer {
    /// Python with the script.
    pub(crate) fn child(&self) -> Child {
        Child::new(&self.python).arguments([self.script.display().to_string()])
    }
}

/// Finds a Python with PyTorch. `named` is a script that replaces `script`, which is from the root.
///
/// # Errors
///
/// A message that lists what was tried and what to do.
pub(crate) fn find(
    root: &Path,
    python: Option<&Path>,
    named: Option<&Path>,
    script: &str,
) -> Result<Peer, String> {
    let script = named.map_or_else(|| default_script(root, script), Path::to_owned);
    if !script.is_file() {
        return Err(format!(
            "the peer's script {} does not exist: name one with --peer-script",
            script.display()
        ));
    }

    let mut tried = String::new();
    for python in candidates(root, python) {
        match Child::new(&python).arguments(["-c", PROBE]).run(PROBE_LIMIT) {
            Ok(finished) => {
                return Ok(Peer { python, script, versions: finished.stdout.trim().to_owned() });
            }
            Err(failure) => {
                let why = failure.diagnostics.lines().last().unwrap_or(&failure.reason).to_owned();
                tried += &format!("\n  {}: {why}", python.display());
            }
        }
    }

    Err(format!(
        "found no Python with PyTorch for the peer. Tried:{tried}\nTo install one:\n  python3 -m venv \
         .venv-peer && .venv-peer/bin/pip install torch numpy\nor name one with --python PATH, or \
         measure without the peer with --ours-only"
    ))
}

/// A path as short as possible, because it is shown in the commands of a page.
fn default_script(root: &Path, script: &str) -> PathBuf {
    match std::env::current_dir() {
        Ok(folder) if folder == root => PathBuf::from(script),
        _ => root.join(script),
    }
}

/// The Pythons to try, in this order.
pub(crate) fn candidates(root: &Path, python: Option<&Path>) -> Vec<PathBuf> {
    match python {
        Some(python) => vec![python.to_owned()],
        None => {
            let environment = root.join(ENVIRONMENT);
            let found = environment.is_file().then_some(environment);
            found.into_iter().chain([PathBuf::from("python3")]).collect()
        }
    }
}
