//! `cargo xtask gpu-check` and `cuda-check`, as far as they run without a GPU and without a build.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments);
    command
}

/// Runs xtask with an empty `PATH`, so that it finds no program except cargo, whose path cargo sets.
fn xtask_alone(arguments: &[&str]) -> Output {
    let nothing = tempfile::tempdir().unwrap();
    xtask(arguments).env("PATH", nothing.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that `text` contains each of `words`, in this order.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at = rest.find(word).unwrap_or_else(|| panic!("expected {word:?} next in\n{text}"));
        rest = &rest[at + word.len()..];
    }
}

#[test]
fn a_dry_gpu_check_prints_every_step_and_runs_none() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.json");
    let arguments =
        ["gpu-check", "--dry-run", "--steps", "7", "--gpu", "1", "--python", "python9", "--out"];
    let output = xtask(&arguments).arg(&out).output().unwrap();

    assert!(output.status.success(), "{}", text(&output.stderr));
    let steps = [
        "driver: nvidia-smi --query-gpu=",
        "--id=1",
        "compiler: nvcc --version",
        "build of dlt: ",
        "cargo build -p dlt-cli --bin dlt --release --features cuda",
        "build of parity: ",
        "cargo test --no-run -p dlt-train --test parity --release --features cuda",
        "parity: ",
        "CUDA_VISIBLE_DEVICES=1",
        "parity --nocapture --test-threads 1",
        "training: dlt train --quiet --device cuda:1 --steps 7",
        "24x1024, memory by groups: dlt untied: dlt bench step --json --layers 24",
        "12x384: PyTorch eager, f32: python9 data/peers/pytorch_step.py --layers 12",
        "--device cuda:1",
        "report.json",
        "gpu-check: nothing was run",
    ];
    assert_in_order(&text(&output.stdout), &steps);
    assert!(!out.exists());
}

#[test]
fn a_dry_gpu_check_leaves_the_peer_out() {
    let output = xtask(&["gpu-check", "--dry-run", "--ours-only"]).output().unwrap();
    assert!(output.status.success() && !text(&output.stdout).contains("pytorch_step.py"));
}

#[test]
fn a_dry_package_needs_no_gpu() {
    let output = xtask(&["gpu-check", "--dry-run", "--package", "elsewhere"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let said = text(&output.stdout);
    assert_in_order(
        &said,
        &["build of dlt: ", "build of parity: ", "package: copies the programs into elsewhere"],
    );
    assert!(!said.contains("nvidia-smi"));
}

#[test]
fn a_gpu_check_of_packaged_programs_builds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["dlt", "parity"] {
        std::fs::write(folder.path().join(program), "").unwrap();
    }

    let output = xtask(&["gpu-check", "--dry-run", "--ours-only", "--programs"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let said = text(&output.stdout);
    assert_in_order(&said, &["driver: nvidia-smi", "parity: ", "training: ", "dlt train --quiet"]);
    assert!(!said.contains("cargo") && !said.contains("nvcc"), "{said}");
}

#[test]
fn rejects_a_gpu_check_without_a_driver() {
    let output = xtask_alone(&["gpu-check", "--ours-only"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("no GPU to check") && said.contains("cuda-check"), "{said}");
}

#[test]
fn a_dry_cuda_check_prints_every_step() {
    let output = xtask(&["cuda-check", "--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let steps = [
        "programs: ",
        "stubs: ",
        "build: ",
        "CUDA_COMPUTE_CAP=80",
        "cargo build --workspace --features cuda,nccl --target-dir",
        "--all-targets",
        "tests: ",
        "cargo test --workspace --features cuda,nccl",
        "libraries: readelf",
        "driver without a GPU: LD_LIBRARY_PATH=",
        "dlt train --device cuda",
        "cuda-check: nothing was run",
    ];
    assert_in_order(&text(&output.stdout), &steps);
}

#[test]
fn rejects_a_cuda_check_without_python() {
    let output = xtask_alone(&["cuda-check"]);
    assert!(!output.status.success());

    let said = text(&output.stderr);
    assert!(
        said.contains("python3 with pip is missing: on Debian or Ubuntu, sudo apt-get install"),
        "{said}"
    );
}
