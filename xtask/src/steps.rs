//! Steps of a long command, one after the other. Each prints its name, its command and its seconds on
//! standard error, because standard output is for results. The output of a step is shown only if
//! the step fails.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dlt_study::program::make_folder;

/// The steps of one command.
pub(crate) struct Steps {
    name: &'static str,
    log: PathBuf,
    start: Instant,
    is_dry: bool,
}

/// The outcome of a program.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// Its output on both streams, in order.
    pub(crate) written: String,
    /// How it failed; `None` if it succeeded.
    pub(crate) failure: Option<String>,
}

impl Steps {
    /// Steps of `cargo xtask NAME`. Their output goes to a file in `folder`. Dry steps are only
    /// printed.
    pub(crate) fn new(name: &'static str, folder: &Path, is_dry: bool) -> Result<Self> {
        if !is_dry {
            make_folder(folder)?;
        }
        Ok(Self { name, log: folder.join(format!("{name}.log")), start: Instant::now(), is_dry })
    }

    /// Whether steps are only printed.
    pub(crate) fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// Runs a program as a step, and returns its output.
    ///
    /// # Errors
    ///
    /// If the program fails. Its output is shown before.
    pub(crate) fn command(&self, name: &str, command: &mut Command) -> Result<String> {
        self.work(name, &command_line(command), || match self.attempt(command)? {
            Attempt { written, failure: None } => Ok(written),
            Attempt { written, failure: Some(why) } => {
                io::stderr().write_all(written.as_bytes())?;
                bail!("{name} failed ({why}); its output is above")
            }
        })
    }

    /// Runs a program as a step. A failure of the program is a result, not an error.
    pub(crate) fn trial(&self, name: &str, command: &mut Command) -> Result<Attempt> {
        self.work(name, &command_line(command), || self.attempt(command))
    }

    fn attempt(&self, command: &mut Command) -> Result<Attempt> {
        let both = File::create(&self.log).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = both.with_context(|| format!("cannot write {}", self.log.display()))?;
        let program = command.get_program().display().to_string();
        let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status();
        let status = status.with_context(|| format!("cannot start {program}"))?;
        let written =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;

        let written = String::from_utf8_lossy(&written).into_owned();
        Ok(Attempt { written, failure: (!status.success()).then(|| status.to_string()) })
    }

    /// Runs `work` as a step. A dry step returns the default value.
    pub(crate) fn work<T: Default>(
        &self,
        name: &str,
        what: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.is_dry {
            writeln!(io::stdout(), "{name}: {what}")?;
            return Ok(T::default());
        }

        let mut out = io::stderr();
        writeln!(out, "{name}: {what}")?;

        let start = Instant::now();
        let done = work();
        let seconds = start.elapsed().as_secs();

        match done {
            Ok(_) => writeln!(out, "{name}: done, {seconds} s")?,
            Err(_) => writeln!(out, "{name}: FAILED after {seconds} s")?,
        }

        done
    }

    /// Prints that all steps are done.
    pub(crate) fn finish(self) -> Result<()> {
        if self.is_dry {
            return Ok(writeln!(io::stdout(), "{}: nothing was run", self.name)?);
        }
        Ok(writeln!(io::stderr(), "{}: all done, {} s", self.name, self.start.elapsed().as_secs())?)
    }
}

/// The command as one would type it, with the variables that it adds to the environment.
fn command_line(command: &Command) -> String {
    let environment = command.get_envs().filter_map(|(name, value)| {
        let name = name.to_string_lossy();
        let value = value?.to_string_lossy();

        // Only the first folder of PATH is ours; the others are those of this machine.
        let value =
            if name == "PATH" { value.split(':').next().unwrap_or_default().into() } else { value };
        Some(format!("{name}={value}"))
    });

    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());

    environment.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_ends_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let steps = Steps::new("trial", folder.path(), false).unwrap();
        let written =
            steps.command("one", Command::new("sh").args(["-c", "echo a; echo b >&2"])).unwrap();

        assert_eq!(written, "a\nb\n");
        let error = steps
            .command("two", Command::new("sh").args(["-c", "exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("two failed (exit status: 3)"), "{error}");

        let error =
            steps.command("three", &mut Command::new("no-such-program")).unwrap_err().to_string();
        assert_eq!(error, "cannot start no-such-program");
    }

    #[test]
    fn dry_steps_do_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let steps = Steps::new("trial", &folder.path().join("none"), true).unwrap();
        let mut command = Command::new("sh");

        command.args(["-c", "touch made"]).current_dir(folder.path());
        assert_eq!(steps.command("one", &mut command).unwrap(), "");
        steps.work("two", "panics", || -> Result<()> { panic!("it ran") }).unwrap();
        steps.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_command_line_names_the_environment_and_no_folder_of_programs() {
        let mut command = Command::new("/opt/x/cargo");
        command.arg("build").env("CUDA_COMPUTE_CAP", "80").env("PATH", "/a/bin:/b:/c");
        assert_eq!(command_line(&command), "CUDA_COMPUTE_CAP=80 PATH=/a/bin cargo build");
    }
}
