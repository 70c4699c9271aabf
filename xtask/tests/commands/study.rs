//! The experiments at scale smoke, with a script in place of `dlt` that writes run folders of four
//! steps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{fake, stderr, stdout};

mod damage;
mod kill;
mod method;
mod options;
mod results;
mod slurm;
mod tables;

/// Folder of the runs of scale smoke, below the folder of a test.
const RUNS: &str = "runs/study/smoke";
/// Longest time that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for the runs of a test.
struct Study {
    folder: tempfile::TempDir,
    /// For the fake `dlt`.
    environment: BTreeMap<&'static str, String>,
    scale: &'static str,
}

impl Study {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: BTreeMap::new(), scale: "smoke" }
    }

    /// Sets a variable for the fake `dlt` from here on. An empty value counts as none.
    fn with(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).args(["--scale", self.scale, "--dlt"]).arg(fake("study_dlt.sh"));

        for name in ["FAKE_STEP_S", "FAKE_SLOW", "FAKE_FAILS", "FAKE_CODE", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }

        command.envs(&self.environment).env("FAKE_LOG", self.path("log"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that succeeds, and returns its standard output.
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// Runs a command that ends with exit code 1, and returns its standard output and error.
    fn fail(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}\n{}",
            stdout(&output),
            stderr(&output)
        );

        (stdout(&output), stderr(&output))
    }

    /// Starts a command, with its standard error in a file `stderr`.
    fn start(&self, arguments: &[&str]) -> Child {
        let stderr = File::create(self.path("stderr")).unwrap();
        self.command(arguments).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The text of a file of the runs; empty if it does not exist.
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(RUNS).join(path)).unwrap_or_default()
    }

    /// The command lines of `dlt` so far, without process numbers.
    fn commands(&self) -> Vec<String> {
        self.started().into_iter().map(|(_, command)| command).collect()
    }

    /// The same, with process numbers.
    fn started(&self) -> Vec<(u32, String)> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let started = log.lines().filter_map(|line| line.split_once(" dlt "));
        started.map(|(process, command)| (process.parse().unwrap(), command.to_owned())).collect()
    }

    /// The command lines that run a cell, from the start or resumed.
    fn runs_of(&self, cell: &str) -> Vec<String> {
        let commands = self.commands().into_iter();
        commands.filter(|command| run_of(command).as_deref() == Some(cell)).collect()
    }

    /// The cells in the order in which they were started, each as often as it was started.
    fn cells(&self) -> Vec<String> {
        self.commands().iter().filter_map(|command| run_of(command)).collect()
    }
}

/// The cell that a command line of `dlt` runs.
fn run_of(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split(' ').collect();
    if !["train", "finetune"].contains(&words[0]) {
        return None;
    }

    let at = words.iter().position(|word| ["--out", "--resume"].contains(word)).unwrap();
    Some(words[at + 1].rsplit_once("study/smoke/").unwrap().1.to_owned())
}

/// The cells of the first row of a table that starts with this label.
fn row<'t>(table: &'t str, label: &str) -> Vec<&'t str> {
    let row = table.lines().find(|line| line.starts_with(&format!("| {label}")));
    row.unwrap_or_else(|| panic!("no row {label} in\n{table}"))
        .trim_matches(['|', ' '])
        .split(" | ")
        .collect()
}

/// Waits for something that must happen.
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill(process: u32) {
    // It may have ended by itself in between.
    let _ = Command::new("kill")
        .args(["-9", &process.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }

    files.sort();
    files
}
