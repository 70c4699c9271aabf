//! Runs every command of README.md, in its order and in one folder. Each must end with code 0.
//!
//! `dlt` runs with `DLT_REHEARSAL=1`, which README explains, and fetches from a local server
//! instead of the hub. `cargo xtask` only says what it would do (`--dry-run`). `cargo test` is not
//! run again: it runs this test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use dlt_hub_stand_in::{Column, Repository, parquet};

use crate::data::World;
use crate::workplace::Said;

const README: &str = include_str!("../../README.md");

/// Words that README leaves to the reader, and what replaces them here.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("hf:OWNER/NAME:CONFIG:COLUMN", "hf:someone/books:english:body"),
    ("PATH", "python3"),
    ("FOLDER", "package"),
];

/// Commands of `cargo xtask` that change nothing, and have no `--dry-run`.
const LOOKS: [&str; 1] = ["status"];

/// Commands of `cargo xtask` that ask `dlt` how much runs would need, and build it unless `--dlt`
/// names one.
const STUDIES: [&str; 3] = ["ablation", "table", "all"];

/// A command of README.
#[derive(Debug)]
enum Step {
    /// `cargo run --release -- ARGUMENTS`, with any features.
    Dlt(Vec<String>),
    /// `cargo xtask ARGUMENTS`.
    Task(Vec<String>),
    /// `cargo test --workspace`, which runs this test.
    Tests,
}

impl Step {
    fn of(line: &str) -> Self {
        let mut words = words(line);
        let begins = |with: &[&str]| {
            words.iter().map(String::as_str).take(with.len()).eq(with.iter().copied())
        };

        if begins(&["cargo", "run", "--release"]) {
            let dashes =
                words.iter().position(|word| word == "--").expect("arguments of dlt after --");
            return Self::Dlt(words.split_off(dashes + 1));
        }

        if begins(&["cargo", "xtask"]) {
            return Self::Task(words.split_off(2));
        }

        assert_eq!(
            words,
            ["cargo", "test", "--workspace"],
            "README has a command that nothing here can run"
        );

        Self::Tests
    }
}

/// Every line of README's blocks of commands.
fn commands() -> Vec<&'static str> {
    let mut lines = Vec::new();
    let mut is_shell = false;

    for line in README.lines() {
        match line.trim_end() {
            "```sh" => is_shell = true,
            "```" => is_shell = false,
            "" => {}
            line if is_shell => lines.push(line),
            _ => {}
        }
    }

    lines
}

/// Words as a shell splits them, up to a comment; README quotes with double quotes only.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    let mut is_open = false;

    for letter in line.chars() {
        match letter {
            '"' => (is_quoted, is_open) = (!is_quoted, true),
            '#' if !is_quoted && !is_open => break,
            ' ' if !is_quoted => {
                if is_open {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            letter => {
                word.push(letter);
                is_open = true;
            }
        }
    }

    if is_open {
        words.push(word);
    }

    let is_plain = |word: &String| !word.contains(['\'', '$', '|', '&', ';', '>', '<', '\\']);
    assert!(!is_quoted && words.iter().all(is_plain), "{line}: more than words");
    words.into_iter().map(|word| replaced(&word)).collect()
}

fn replaced(word: &str) -> String {
    PLACEHOLDERS
        .iter()
        .find(|(placeholder, _)| *placeholder == word)
        .map_or(word, |(_, replacement)| replacement)
        .to_owned()
}

/// What README expects to exist: the reader's own texts, and data sets of the hub.
fn world() -> World {
    let world = World::new();
    let text = world.place.read("text.txt");
    world.place.write("my.txt", &text[..text.floor_char_boundary(20_000)]);
    world.place.write("other.txt", &text[..text.floor_char_boundary(2_000)]);

    let rows = text.lines().filter(|line| !line.is_empty());
    let rows = rows.map(|line| format!("{}\n", serde_json::json!({ "id": 1, "body": line })));
    world.place.write("my.jsonl", rows.collect::<String>());

    let body = |rows: usize| {
        let lines = text.lines().filter(|line| !line.is_empty()).cycle().take(rows);
        parquet(&[Column::Text("body", lines.map(str::to_owned).collect())], 50)
    };

    let mut books = Repository::dataset("someone/books");
    for (split, rows) in [("train", 400), ("validation", 100), ("test", 100)] {
        books = books.file(&format!("english/{split}-00000-of-00001.parquet"), body(rows));
    }

    world.hub.serve(books);
    serve_gpt2(&world);
    world
}

/// Serves a tiny GPT-2 under the name of the published one.
fn serve_gpt2(world: &World) {
    run(world, &["train", "--preset", "smoke", "--data", "my.txt", "--out", "gpt2"]).unwrap();
    run(world, &["export", "gpt2", "--format", "hf", "--out", "gpt2-hf"]).unwrap();

    let mut model = Repository::model("openai-community/gpt2");
    for file in std::fs::read_dir(world.place.path("gpt2-hf")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        model = model.file(&name, std::fs::read(&path).unwrap());
    }

    world.hub.serve(model);
}

fn dlt(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command.env("DLT_REHEARSAL", "1");
    command
}

fn run(world: &World, arguments: &[&str]) -> Outcome {
    outcome(&Said::by(&mut dlt(world, arguments)))
}

/// What went wrong, if anything did.
type Outcome = Result<(), String>;

fn outcome(said: &Said) -> Outcome {
    if said.code == Some(0) { Ok(()) } else { Err(format!("{:?}: {}", said.code, said.err)) }
}

/// Runs `dlt watch`, which serves until it is ended: gets its page, and ends it.
fn watch(world: &World, arguments: &[&str]) -> Outcome {
    let mut process = dlt(world, arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let address = line.trim().trim_start_matches("http://").trim_end_matches('/');
    let page = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map(|_| page)
    });

    process.kill().unwrap();
    process.wait().unwrap();

    match page {
        Ok(page) if page.starts_with("HTTP/1.1 200") => Ok(()),
        other => Err(format!("no page at {line:?}: {other:?}")),
    }
}

/// Runs a command of `cargo xtask` in the root of the repository, with `--dry-run`.
fn task(mut arguments: Vec<String>) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if STUDIES.contains(&arguments[0].as_str()) {
        arguments.extend(["--dlt", env!("CARGO_BIN_EXE_dlt")].map(str::to_owned));
    }

    let is_look = LOOKS.contains(&arguments[0].as_str());
    if !is_look && !arguments.iter().any(|argument| argument == "--dry-run") {
        arguments.push("--dry-run".to_owned());
    }

    outcome(&Said::by(xtask().args(&arguments).current_dir(root)))
}

/// The program behind `cargo xtask`: the one that was built together with `dlt`, if there is one,
/// or else through cargo.
fn xtask() -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_dlt"))
        .with_file_name(format!("xtask{}", std::env::consts::EXE_SUFFIX));
    if built.is_file() {
        return Command::new(built);
    }

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("xtask");
    cargo
}

#[test]
fn every_command_of_the_readme_works_in_its_order() {
    let world = world();
    let mut of_dlt = 0;
    let mut of_tasks = 0;
    let mut of_tests = 0;
    let mut failures = String::new();

    for line in commands() {
        let outcome = match Step::of(line) {
            Step::Dlt(arguments) => {
                of_dlt += 1;
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                if arguments[0] == "watch" {
                    watch(&world, &arguments)
                } else {
                    run(&world, &arguments)
                }
            }
            Step::Task(arguments) => {
                of_tasks += 1;
                task(arguments)
            }
            Step::Tests => {
                of_tests += 1;
                Ok(())
            }
        };

        if let Err(error) = outcome {
            failures.push_str(&format!("\n{line}\n{error}\n"));
        }
    }

    assert!(failures.is_empty(), "{failures}");
    assert!(of_dlt >= 30 && of_tasks >= 10 && of_tests == 1, "{of_dlt} {of_tasks} {of_tests}");

    // Each run of the preset has its own folder, whose name says what differs from the preset.
    for run in [
        "shakespeare-12-1",
        "shakespeare-12-1-2",
        "shakespeare-12-my-1",
        "shakespeare-12-random-1",
        "shakespeare-12-conventional-1",
        "shakespeare-12-paper-1",
        "shakespeare-12-reference-1",
        "shakespeare-12-wikitext-2-1",
        "shakespeare-12-gpt2-my-1",
        "shakespeare-12-1-sst2-1",
    ] {
        assert!(
            world.place.path(&format!("runs/{run}/summary.json")).is_file(),
            "{run} is not there"
        );
        assert!(!run.contains("-my-") || README.contains("runs/shakespeare-12-my-1"));
    }
}

#[test]
fn the_readme_explains_how_its_commands_are_tried() {
    assert!(README.contains("`DLT_REHEARSAL=1`"));
    assert_eq!(words("a \"b # c\"  d=e # f"), ["a", "b # c", "d=e"]);
    for line in commands() {
        Step::of(line);
    }
}
