//! A folder in which the program is run, and its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Bytes of the text that most tests train on: enough for windows of 32 tokens in every split.
const TEXT_BYTES: usize = 40_000;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_dlt");

/// A temporary folder; each test has its own.
pub(crate) struct Workplace(TempDir);

/// The output of the program and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Runs a command to its end.
    pub(crate) fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The same output, after checking that the program succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

impl Workplace {
    /// A folder that holds `text.txt`, some Shakespeare.
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let shipped =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/shakespeare/train.txt");
        let text = fs::read_to_string(shipped).unwrap();

        place.write("text.txt", &text[..text.floor_char_boundary(TEXT_BYTES)]);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The program with these arguments, in this folder, without the user's cache and settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(PROGRAM, arguments)
    }

    /// Another program that may start this one: as [`command`](Self::command).
    pub(crate) fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());

        // Tokens of the shipped text are kept from test to test.
        command.env("DLT_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dlt-cache"));
        command.env_remove("DLT_LOG").env_remove("DLT_PRODUCTS").env("RUST_BACKTRACE", "1");

        command
    }

    pub(crate) fn dlt(&self, arguments: &[&str]) -> Said {
        Said::by(&mut self.command(arguments))
    }

    /// Trains a small model on `text.txt` for twelve steps, with six decisions, into the folder
    /// `name`.
    pub(crate) fn train(&self, name: &str, more: &[&str]) -> Said {
        let mut arguments = vec![
            "train", "--preset", "smoke", "--data", "text.txt", "--steps", "12", "--out", name,
        ];
        arguments.extend(["--set", "tying.decide_every=2", "--set", "evaluation.every_steps=4"]);
        arguments.extend(more);

        self.dlt(&arguments).ok()
    }
}
