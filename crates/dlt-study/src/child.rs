//! A child process: started with a time limit, with its failure described in words.

use std::fmt::{self, Write as _};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two checks whether a child has ended. It is short compared with any measurement.
const POLL: Duration = Duration::from_millis(5);
/// How long the streams of an ended child may stay open: a grandchild can keep them open.
const GRACE: Duration = Duration::from_secs(2);
/// Only the last lines of a failed child's diagnostics are kept, because they show the reason.
const DIAGNOSTIC_LINES: usize = 12;

/// What to start.
#[derive(Clone, Debug)]
pub struct Child {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// The outcome of a child that succeeded.
#[derive(Clone, Debug)]
pub struct Finished {
    /// All of its standard output.
    pub stdout: String,
    /// From its start until it was seen to have ended.
    pub elapsed: Duration,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How it ended, or why it did not start.
    pub reason: String,
    /// The last lines of its standard error.
    pub diagnostics: String,
}

impl Child {
    /// A program, without arguments, in the environment of this process.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The command as one would type it. The program is shown by its name alone, because its folder is
    /// that of one machine.
    pub fn command_line(&self) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy();
        let mut line = String::new();
        for (name, value) in &self.environment {
            line += &format!("{name}={} ", quoted(value));
        }

        line += &quoted(&name);
        for argument in &self.arguments {
            line += &format!(" {}", quoted(&portable(argument)));
        }

        line
    }

    /// Runs it to its end, or stops it after `limit`.
    pub fn run(&self, limit: Duration) -> Result<Finished, Failure> {
        let start = Instant::now();
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Failure::new(format!("cannot start {}: {error}", self.program.display()))
            })?;

        let stdout = process.stdout.take().map(Collector::start);
        let stderr = process.stderr.take().map(Collector::start);
        let status = loop {
            match process.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if start.elapsed() > limit => {
                    // It may have ended in between, so errors do not matter: either way it is gone.
                    process.kill().ok();
                    process.wait().ok();
                    break Err(format!("stopped: it took more than {} s", limit.as_secs()));
                }
                Ok(None) => thread::sleep(POLL),
                Err(error) => break Err(format!("cannot wait for it: {error}")),
            }
        };

        let elapsed = start.elapsed();
        let [stdout, stderr] =
            [stdout, stderr].map(|part| part.map(Collector::finish).unwrap_or_default());

        match status {
            Ok(status) if status.success() => Ok(Finished { stdout, elapsed }),
            Ok(status) => Err(Failure { reason: ending(status), diagnostics: last_lines(&stderr) }),
            Err(reason) => Err(Failure { reason, diagnostics: last_lines(&stderr) }),
        }
    }
}

impl Failure {
    /// A failure without diagnostics.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), diagnostics: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)?;
        for line in self.diagnostics.lines() {
            out.write_char('\n')?;
            write!(out, "    {line}")?;
        }

        Ok(())
    }
}

/// An argument that is the same on every machine: an absolute path is reduced to its last part.
pub fn portable(argument: &str) -> String {
    let (flag, value) = match argument.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => (format!("{flag}="), value),
        _ => (String::new(), argument),
    };

    let path = Path::new(value);
    match path.file_name() {
        Some(name) if path.is_absolute() => format!("{flag}{}", name.to_string_lossy()),
        _ => argument.to_owned(),
    }
}

/// A word, quoted for a shell if necessary.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_=.,/:+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let often = if signal == 9 { ", often for lack of memory" } else { "" };
        return format!("killed by signal {signal}{often}");
    }

    status
        .code()
        .map_or_else(|| "ended without an exit code".to_owned(), |code| format!("exit code {code}"))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(DIAGNOSTIC_LINES)..].join("\n")
}

/// Reads a stream in a thread. Without it, a child that fills the pipe would wait for ever.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collector {
    fn start(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count) = stream.read(&mut piece) {
                if count == 0 {
                    break;
                }

                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..count]);
            }
        });

        Self { bytes, reader }
    }

    fn finish(self) -> String {
        let start = Instant::now();
        while !self.reader.is_finished() && start.elapsed() < GRACE {
            thread::sleep(POLL);
        }

        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Child {
        Child::new("sh").arguments(["-c", script])
    }

    #[test]
    fn a_child_that_ends_well_gives_its_output() {
        let child = shell("echo \"one $WORD\"; echo aside >&2").environment("WORD", "two");
        assert_eq!(child.run(LIMIT).unwrap().stdout, "one two\n");
    }

    #[test]
    fn a_long_output_does_not_block() {
        let child = shell("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done");
        assert_eq!(child.run(LIMIT).unwrap().stdout.len(), 220_000);
    }

    #[test]
    fn a_failure_says_the_code_and_the_end_of_the_diagnostics() {
        let failure =
            shell("for i in $(seq 30); do echo line $i >&2; done; exit 3").run(LIMIT).unwrap_err();
        assert_eq!(failure.reason, "exit code 3");
        assert_eq!(failure.diagnostics.lines().count(), DIAGNOSTIC_LINES);
        assert!(failure.to_string().ends_with("    line 30"), "{failure}");
    }

    #[test]
    fn a_killed_child_says_the_signal() {
        let failure = shell("kill -9 $$").run(LIMIT).unwrap_err();
        assert_eq!(failure.reason, "killed by signal 9, often for lack of memory");
    }

    #[test]
    fn a_child_that_takes_too_long_is_stopped() {
        let start = Instant::now();
        let failure =
            shell("echo waiting >&2; exec sleep 30").run(Duration::from_millis(300)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(failure.reason.starts_with("stopped: it took more than 0 s"), "{failure}");
        assert_eq!(failure.diagnostics, "waiting");
    }

    #[test]
    fn a_program_that_does_not_exist_is_a_failure() {
        let failure = Child::new("no-such-program-anywhere").run(LIMIT).unwrap_err();
        assert!(failure.reason.starts_with("cannot start no-such-program-anywhere: "), "{failure}");
    }

    #[test]
    fn a_command_line_names_no_folder_of_this_machine() {
        let child =
            Child::new("/opt/x/python").arguments(["/opt/y/step.py", "--a=/opt/z", "b c", "d/e"]);
        assert_eq!(child.command_line(), "python step.py --a=z 'b c' d/e");
    }
}
