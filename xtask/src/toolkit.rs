//! Compiles and links CUDA code without an installed CUDA. The compiler is from Python's package
//! index, and the libraries are stubs that hold only names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use dlt_study::metadata;

use crate::steps::Steps;

mod stubs;

/// The compiler and its headers. Other versions were not tried; cudarc supports CUDA up to 13.4.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// The GPU architecture that kernels are compiled for, because there is no GPU to ask: Ampere. Later
/// GPUs run its code too.
const COMPUTE_CAPABILITY: &str = "80";

/// A toolkit of wheels and stubs.
pub(crate) struct Toolkit {
    folder: PathBuf,
}

impl Toolkit {
    /// The toolkit in this folder, whether it already exists or not.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes the parts that do not exist yet.
    pub(crate) fn make(&self, steps: &Steps, root: &Path) -> Result<()> {
        steps.work("programs", "looks for python3 with pip, gcc and g++", || {
            need("python3", &["-m", "pip", "--version"], "python3 with pip", "python3-pip")?;
            need("gcc", &["--version"], "gcc", "build-essential")?;
            need("g++", &["--version"], "g++", "build-essential")
        })?;

        self.install(steps)?;

        let what = "link-time stubs from the names that cudarc declares";
        steps.work("stubs", what, || {
            stubs::make(&cudarc(root)?, &self.home().join("lib").join("stubs"))
        })
    }

    fn install(&self, steps: &Steps) -> Result<()> {
        let stamp = self.folder.join("wheels.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == WHEELS.join("\n")) {
            return Ok(());
        }

        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--upgrade",
        ])
        .args(["--retries", "2", "--timeout", "30", "--target"])
        .arg(&self.folder)
        .args(WHEELS);
        steps.command("wheels", &mut pip).context(
            "pip cannot install NVIDIA's wheels: they need access to the package index, 105 MB, and \
             Linux on x86-64 or aarch64",
        )?;

        if steps.is_dry() {
            return Ok(());
        }

        let home = self.home();
        let bin = home.join("bin");
        let has_nvcc = bin.join("nvcc").is_file();
        ensure!(has_nvcc, "expected nvcc in {} after pip installed it, got nothing", bin.display());

        for programs in [bin, home.join("nvvm").join("bin")] {
            make_executable(&programs)?;
        }

        link("libcudart.so.13", &home.join("lib").join("libcudart.so"))?;
        fs::write(&stamp, WHEELS.join("\n"))
            .with_context(|| format!("cannot write {}", stamp.display()))
    }

    fn home(&self) -> PathBuf {
        self.folder.join("nvidia").join("cu13")
    }

    /// Environment variables of a build.
    pub(crate) fn building(&self) -> Vec<(&'static str, String)> {
        let home = self.home();
        let path = std::env::var("PATH").unwrap_or_default();

        vec![
            ("CUDA_HOME", home.display().to_string()),
            ("PATH", format!("{}:{path}", home.join("bin").display())),
            ("CUDA_COMPUTE_CAP", COMPUTE_CAPABILITY.to_owned()),
            // cudarc's build script looks for library folders only once, so it does not find the
            // folder of the stubs by itself if that is made later.
            ("LIBRARY_PATH", home.join("lib").join("stubs").display().to_string()),
        ]
    }

    /// The environment variable with which a program loads the stubs in place of the driver and its
    /// libraries.
    pub(crate) fn running(&self) -> (&'static str, String) {
        let libraries = self.home().join("lib");
        let stubs = libraries.join("stubs");
        ("LD_LIBRARY_PATH", format!("{}:{}", libraries.display(), stubs.display()))
    }
}

/// Checks that a program runs.
///
/// # Errors
///
/// If it does not, with the command that installs it.
fn need(program: &str, arguments: &[&str], what: &str, package: &str) -> Result<()> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => bail!("{what} is missing: on Debian or Ubuntu, sudo apt-get install {package}"),
    }
}

/// The folder of cudarc's sources, which cargo fetches if necessary.
fn cudarc(root: &Path) -> Result<PathBuf> {
    let metadata = metadata::of_all(root, &["dlt-cli/nccl"])
        .context("cargo cannot find the sources of cudarc: it needs the crate registry once")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();

    let manifest = packages
        .filter(|package| package["name"] == "cudarc")
        .find_map(|package| package["manifest_path"].as_str())
        .context(
            "cargo metadata has no crate cudarc: does the feature cuda still enable candle's?",
        )?;

    Ok(Path::new(manifest).with_file_name("src"))
}

#[cfg(unix)]
fn make_executable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_file() {
            let mode = fs::metadata(&path)?.permissions().mode() | 0o111;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .with_context(|| format!("cannot make {} executable", path.display()))?;
        }
    }

    Ok(())
}

#[cfg(unix)]
fn link(to: &str, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        std::os::unix::fs::symlink(to, path)
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_folder: &Path) -> Result<()> {
    bail!("the wheels of CUDA are only for Linux")
}

#[cfg(not(unix))]
fn link(_to: &str, _path: &Path) -> Result<()> {
    bail!("the wheels of CUDA are only for Linux")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_missing_program_and_says_what_to_install() {
        let error = need("no-such-program", &[], "g++", "build-essential").unwrap_err().to_string();
        assert_eq!(
            error,
            "g++ is missing: on Debian or Ubuntu, sudo apt-get install build-essential"
        );
    }

    #[test]
    fn a_build_finds_the_compiler_first() {
        let toolkit = Toolkit::at(PathBuf::from("t"));
        let building = toolkit.building();
        assert!(building[1].1.starts_with("t/nvidia/cu13/bin:"), "{building:?}");
        assert_eq!(toolkit.running().1, "t/nvidia/cu13/lib:t/nvidia/cu13/lib/stubs");
    }
}
