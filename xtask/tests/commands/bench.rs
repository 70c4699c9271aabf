//! `cargo xtask bench`, with scripts in place of `dlt`, Python and the example that measures kernels.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::{fake, stderr, stdout};

/// A folder for what a test writes, and the command in it.
struct Bench {
    folder: tempfile::TempDir,
    command: Command,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("bench").current_dir(folder.path()).env("FAKE_LOG", folder.path().join("log"));

        for name in ["FAKE_TORCH", "FAKE_DLT_FAILS", "FAKE_KERNELS_FAIL"] {
            command.env_remove(name);
        }

        Self { folder, command }
    }

    /// With the fake `dlt`.
    fn of_steps(arguments: &[&str]) -> Self {
        let mut bench = Self::new();
        bench.command.arg("--dlt").arg(fake("dlt.sh")).args(arguments);
        bench
    }

    fn with_python(mut self) -> Self {
        self.command.arg("--python").arg(fake("python.sh")).env("FAKE_TORCH", "9.9");
        self
    }

    fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn run(&mut self) -> Output {
        self.command.output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

#[test]
fn sides_take_turns_and_the_page_holds_medians_ratios_and_provenance() {
    let arguments = ["--only", "gpt2-24x256", "--rounds", "2", "--steps", "4", "--threads", "3"];
    let files = ["--out", "new/page.md", "--json", "runs.json"];
    let mut bench = Bench::of_steps(&[&arguments[..], &files].concat()).with_python();
    let output = bench.run();

    assert!(output.status.success(), "{}", stderr(&output));

    let log = bench.read("log");
    let programs: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();

    assert_eq!(programs, ["dlt", "python", "dlt", "dlt", "python", "python"].repeat(2));
    let sizes = "--layers 24 --width 256 --heads 4 --seq 128 --batch 16 --vocab 50257 --steps 4 --threads 3";
    let ours =
        format!("dlt bench step {sizes} --dtype f32 --tying none --checkpointing none --json");

    assert_eq!(log.lines().next(), Some(ours.as_str()));
    let peer = log.lines().nth(1).unwrap();
    assert!(peer.contains("data/peers/pytorch_step.py --layers 24"), "{peer}");
    assert!(peer.ends_with("--mode eager --dtype f32 --tying none"), "{peer}");

    let page = bench.read("new/page.md");
    for text in [
        "| dlt none | 50.0 | 4000 | 100 | 1,234,567 | 10.8000 | 2 |",
        "| tokens/s | dlt none | pytorch eager none | 2.00 | at least 1.50 | met |",
        "| peak memory | dlt none | pytorch eager none | 0.50 |  |  |",
        "| tokens/s | dlt none bf16 | pytorch compile none bf16 | 2.00 | at least 1.00, aim 1.30 | met, and the aim |",
        "Ours multiplied bf16 matrices by AMX.",
        "Python 3.0.0, PyTorch 9.9. Rounds: 2.",
        "rustc 1.",
        "commit ",
        "--python python.sh",
        &ours.replacen("dlt", "dlt.sh", 1),
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }

    assert!(
        stdout(&output).contains("2/2  gpt2-24x256  pytorch eager none"),
        "{}",
        stdout(&output)
    );

    let json: Value = serde_json::from_str(&bench.read("runs.json")).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["workloads"][0]["sides"][0]["runs"][1]["mean_rss_mb"], 90.5);
    assert_eq!(json["workloads"][0]["comparisons"][0]["ratio"], 2.0);
    assert_eq!(json["workloads"][0]["comparisons"][3]["aim"], 1.3);
    assert!(json["host"]["bf16_flags"].is_array(), "{}", json["host"]);
}

#[test]
fn a_failed_run_is_a_cell_and_the_others_continue() {
    let arguments = ["--only", "gpt2-24x1024", "--rounds", "2", "--out", "page.md"];
    let mut bench = Bench::of_steps(&arguments).environment("FAKE_DLT_FAILS", "sum");
    let output = bench.run();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bench.read("log").lines().count(), 6);

    let page = bench.read("page.md");
    for text in [
        "| dlt sum | **FAILED** 2 of 2 |",
        "| time a step | dlt owner | dlt none | 1.00 | at most 0.85 | **not met** |",
        "FAILED: dlt sum, round 1:\n\n```text\nexit code 5\n    a word of warning\n    not enough memory for it\n```",
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }

    assert!(stderr(&output).contains("2 runs FAILED"), "{}", stderr(&output));
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_counts_as_failed() {
    // A program that never ends, whatever its arguments.
    let mut bench = Bench::new();
    let arguments = ["--only", "gpt2-24x256", "--ours-only", "--rounds", "1", "--limit-s", "1"];
    bench.command.arg("--dlt").arg(fake("waiting.sh")).args(arguments);

    let output = bench.run();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("stopped: it took more than 1 s"), "{}", stdout(&output));
}

#[test]
fn rejects_a_python_without_torch_and_says_what_helps() {
    let mut bench = Bench::of_steps(&["--only", "gpt2-24x256"]).with_python();
    bench.command.env_remove("FAKE_TORCH");

    let output = bench.run();
    assert_eq!(output.status.code(), Some(5));

    let message = stderr(&output);
    for text in [
        "python.sh: ModuleNotFoundError: No module named 'torch'",
        "pip install torch",
        "--ours-only",
    ] {
        assert!(message.contains(text), "no {text} in {message}");
    }

    assert!(!bench.folder.path().join("log").exists(), "something was measured");
}

#[test]
fn rejects_a_python_and_a_peer_that_do_not_exist() {
    for (flag, said) in
        [("--python", "cannot start nowhere"), ("--peer-script", "nowhere does not exist")]
    {
        let output = Bench::of_steps(&["--only", "gpt2-24x256", flag, "nowhere"]).run();
        assert_eq!(output.status.code(), Some(5), "{flag}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn several_processes_divide_the_threads_and_have_their_own_page() {
    let arguments = ["--processes", "2", "--rounds", "2", "--steps", "4", "--out", "page.md"];
    let mut bench = Bench::of_steps(&arguments).with_python();
    bench.command.arg("--mpirun").arg(fake("mpirun.sh"));
    let output = bench.run();
    assert!(output.status.success(), "{}", stderr(&output));

    let log = bench.read("log");
    let programs: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(programs, ["mpirun", "dlt", "python"].repeat(6));

    let sizes = "--layers 12 --width 384 --heads 6 --seq 256 --batch 8 --vocab 50257 --steps 4";
    let first = log.lines().next().unwrap();
    assert!(first.starts_with("mpirun -n 2 --bind-to none "), "{first}");
    let ours = format!("dlt.sh bench step {sizes} --threads 1 --dtype f32 --tying none");
    assert!(first.contains(&ours) && first.ends_with(" --json"), "{first}");

    let in_one = log.lines().nth(1).unwrap();
    assert!(in_one.starts_with(&format!("dlt bench step {sizes} --threads 2 ")), "{in_one}");
    let peer = log.lines().nth(2).unwrap();
    assert!(peer.contains(&format!(" --processes 2 {sizes} --threads 1 ")), "{peer}");

    let page = bench.read("page.md");
    for text in [
        "# A training step in 2 processes, compared with PyTorch",
        "| untied | 5000 | 4000 | 2500 | 2.00 | 1.25 |",
        "| one-group | 0.10 | 0.30 | 4.9 | 4.9 | 110 | 100 | 250 |",
        "| memory of a process | 4-groups dlt | 4-groups ddp | 0.44 |  |  |",
        "mpirun.sh -n 2 --bind-to none dlt.sh bench step",
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }
}

#[test]
fn rejects_processes_that_cannot_divide_the_step_or_be_started() {
    for (arguments, code, said) in [
        (&["--processes", "3"][..], 1, "expected a divisor of 2 threads, got 3"),
        (&["--processes", "16", "--threads", "16"], 1, "of 8 windows of the batch, got 16"),
        (&["--processes", "2", "--mpirun", "nowhere"], 5, "cannot start nowhere"),
        (&["--processes", "1"], 2, "--processes"),
        (&["--processes", "2", "--decode"], 2, "--processes"),
        (&["--mpirun", "mpirun"], 2, "--processes"),
    ] {
        let mut bench = Bench::of_steps(arguments).with_python();
        let output = bench.run();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(!bench.folder.path().join("log").exists(), "something was measured");
    }
}

#[test]
fn without_the_peer_no_python_is_needed() {
    let mut bench = Bench::of_steps(&["--ours-only", "--rounds", "1"]);
    assert!(bench.run().status.success());

    let log = bench.read("log");
    // Seven sides of the main size, three of each of the next two, three of the last.
    assert_eq!(log.lines().filter(|line| line.starts_with("dlt bench step ")).count(), 16);
    assert_eq!(log.lines().count(), 16);
}

#[test]
fn a_dry_run_prints_the_commands_in_their_order_and_starts_nothing() {
    let mut bench =
        Bench::of_steps(&["--dry-run", "--rounds", "2", "--only", "gpt2-6x768,gpt2-24x1024"]);
    let output = bench.run();
    assert!(output.status.success());

    let text = stdout(&output);
    let firsts: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(firsts.len(), 18);

    let is_peer: Vec<bool> = firsts.iter().map(|name| name.starts_with("python")).collect();
    assert_eq!(is_peer[..12], [false, true, false, false, true, true].repeat(2));
    assert!(!is_peer[12..].contains(&true));
    assert!(!bench.folder.path().join("log").exists(), "something was started");
}

#[test]
fn rejects_wrong_command_lines_as_usage() {
    for arguments in [
        &["--only", "gpt3"][..],
        &["--rounds", "0"],
        &["--steps", "1"],
        &["--kernels", "--steps", "4"],
        &["--ours-only", "--python", "python3"],
        &["--limit-s", "0"],
    ] {
        assert_eq!(Bench::of_steps(arguments).run().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn rejects_a_page_that_cannot_be_written_before_it_measures() {
    for page in ["taken/page.md", "."] {
        let mut bench = Bench::of_steps(&["--ours-only", "--out", page]);
        fs::write(bench.folder.path().join("taken"), "a file").unwrap();

        let output = bench.run();
        assert_eq!(output.status.code(), Some(1), "{page}");
        assert!(stderr(&output).contains(&format!("cannot write {page}")), "{}", stderr(&output));
        assert!(!bench.folder.path().join("log").exists(), "something was measured");
    }
}

#[test]
fn the_kernels_have_a_separate_table() {
    let mut bench = Bench::new();
    bench.command.args([
        "--kernels",
        "--rounds",
        "2",
        "--threads",
        "3",
        "--out",
        "page.md",
        "--json",
        "k.json",
    ]);
    bench.command.arg("--kernel-times").arg(fake("kernel_times.sh"));
    let mut bench = bench.with_python();

    let output = bench.run();
    assert!(output.status.success(), "{}", stderr(&output));
    let log = bench.read("log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!([lines[0], lines[2]], ["kernel_times --json with 3 threads"; 2]);
    let peer = "pytorch_product.py 2048x384x1536 2048x768x3072 --threads 1";
    assert!(lines.len() == 4 && lines[1].ends_with(peer) && lines[3] == lines[1], "{log}");

    let page = bench.read("page.md");
    let row = "| layer_norm | forward | [2, 3] | 0.50 | 2.00 | 4.0 | 0.25 | 0.50 |";
    assert!(page.contains(row) && page.contains("matrix products 400 GFLOP/s"), "{page}");

    let row = "| 4 x 2 x 3 | bf16 | forward | 2.00 | 8.00 | 24 | 0.50 | 16 | 1.50 | - | - |";
    assert!(page.contains(row) && page.contains("of bf16 900 GFLOP/s, by AMX."), "{page}");

    let json: Value = serde_json::from_str(&bench.read("k.json")).unwrap();
    assert_eq!(json["kernels"][0]["floor_ms"], 0.25);
    assert_eq!(json["products"][0]["peer_ms"], 3.0);

    let failed = bench.environment("FAKE_KERNELS_FAIL", "1").run();
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("2/2  kernels  FAILED: exit code 1"), "{}", stdout(&failed));
}
