//! `cargo xtask fuzz`: runs the targets of cargo-fuzz, one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

#[derive(Args)]
pub(crate) struct FuzzArguments {
    /// Minutes for each target
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Only this target. Can be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes <= 100_000.0 => Ok(minutes),
        _ => Err(format!("expected minutes above 0, got `{text}`")),
    }
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool answers on its streams"
)]
pub(crate) fn run(root: &Path, arguments: &FuzzArguments) -> Result<ExitCode> {
    let folder = root.join("fuzz");
    let all = targets(&folder)?;
    let chosen = if arguments.target.is_empty() { all.clone() } else { arguments.target.clone() };

    if let Some(unknown) = chosen.iter().find(|target| !all.contains(target)) {
        bail!("no target `{unknown}` in {}, expected one of {}", folder.display(), all.join(", "));
    }

    let toolchain = Toolchain::find(&folder)?;
    let mut failed = Vec::new();

    for target in &chosen {
        println!("fuzz: {target}, {} minutes", arguments.minutes);
        if !toolchain.run(&folder, target, arguments.minutes)? {
            failed.push(target.as_str());
        }
    }

    if failed.is_empty() {
        println!("fuzz: {} targets, nothing found", chosen.len());
        return Ok(ExitCode::SUCCESS);
    }

    eprintln!(
        "fuzz: {} failed; the inputs are in {}: fix the cause and add a regression test",
        failed.join(", "),
        folder.join("artifacts").display()
    );

    Ok(ExitCode::FAILURE)
}

/// The names of the targets, sorted. Each is one file.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();

    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }

    names.sort();
    Ok(names)
}

/// A way to run cargo-fuzz. Its flags need a nightly compiler, or `RUSTC_BOOTSTRAP=1` with another
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toolchain {
    Nightly,
    Bootstrap,
}

impl Toolchain {
    fn find(folder: &Path) -> Result<Self> {
        if !succeeds(Command::new("cargo").args(["fuzz", "--version"]).current_dir(folder)) {
            bail!("cargo-fuzz is missing: install it with `cargo install cargo-fuzz`");
        }

        for toolchain in [Self::Nightly, Self::Bootstrap] {
            // Printing the targets shows whether a compiler accepts unstable flags, and builds nothing.
            if succeeds(toolchain.cargo(folder).args([
                "rustc",
                "-Zunstable-options",
                "--print",
                "target-list",
            ])) {
                return Ok(toolchain);
            }
        }

        bail!(
            "fuzzing needs a nightly toolchain, and RUSTC_BOOTSTRAP=1 with the present one fails too: \
             run `rustup toolchain install nightly --profile minimal`"
        )
    }

    fn cargo(self, folder: &Path) -> Command {
        // cargo and rustup set these for `cargo xtask`. They would force the workspace's toolchain.
        let mut command = Command::new("cargo");
        for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }

        match self {
            Self::Nightly => command.arg("+nightly"),
            Self::Bootstrap => command.env("RUSTC_BOOTSTRAP", "1"),
        };

        command.current_dir(folder);
        command
    }

    /// Runs a target, and returns whether it found nothing. New inputs go to a folder that is not
    /// committed.
    fn run(self, folder: &Path, target: &str, minutes: f64) -> Result<bool> {
        let fresh = PathBuf::from("target").join("corpus").join(target);
        fs::create_dir_all(folder.join(&fresh))?;

        let mut command = self.cargo(folder);
        command.args(["fuzz", "run", "--fuzz-dir", ".", target]).arg(fresh);
        command.arg(Path::new("corpus").join(target)).arg("--");

        let seconds = (minutes * 60.0).ceil();
        command.args([
            format!("-max_total_time={seconds}"),
            "-timeout=10".into(),
            "-rss_limit_mb=2048".into(),
        ]);

        // A joined thread may still be freeing its own memory when libFuzzer looks for leaks, which
        // gives false findings. A real leak reaches the memory limit above.
        command.args(["-print_final_stats=1", "-max_len=16384", "-detect_leaks=0"]);
        let status = command.status().context("cannot start cargo fuzz")?;

        Ok(status.success())
    }
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_described_and_has_something_to_begin_with() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let targets = targets(&folder).unwrap();
        assert!(targets.len() >= 6, "{targets:?}");

        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let manifest = read("Cargo.toml");
        let guide = read("README.md");

        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            assert!(guide.contains(&format!("| `{target}` |")), "{target}");

            let corpus = folder.join("corpus").join(&target);
            let files: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap()).collect();
            assert!(!files.is_empty(), "{target}");

            let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
            assert!(bytes < 64 << 10, "{target}: a corpus is small");
        }
    }

    #[test]
    fn rejects_minutes_that_are_none() {
        for text in ["0", "-1", "nan", "inf", "x", ""] {
            assert!(minutes(text).is_err(), "{text}");
        }
        assert_eq!(minutes("0.5"), Ok(0.5));
    }
}
