//! With the feature `cuda`: compiles the kernels to PTX, which the driver turns into code for the GPU that it finds, and
//! says in `CUDA_MAJOR` which version's libraries the program is linked with.

use std::env;
use std::path::Path;
use std::process::Command;

/// The files of `cuda/` that hold kernels.
const SOURCES: [&str; 7] = ["attention", "elementwise", "embedding", "loss", "norm", "optimizer", "sums"];
/// The oldest GPUs that today's nvcc compiles for; newer ones take the same PTX, and nothing here needs more.
const ARCHITECTURE: &str = "compute_75";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-env-changed=NVCC");
    println!("cargo::rerun-if-env-changed=PATH");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    println!("cargo::rustc-env=CUDA_MAJOR={}", major_version(&nvcc)?);
    for source in SOURCES {
        compile(&nvcc, &format!("cuda/{source}.cu"), &Path::new(&out).join(format!("{source}.ptx")))?;
    }
    Ok(())
}

fn compile(nvcc: &str, source: &str, to: &Path) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args(["--ptx", "--std=c++17", "--gpu-architecture", ARCHITECTURE]);
    // The arithmetic as it is written: no contraction, so it is that of the build for the CPU, which the tests check.
    command.arg("--fmad=false").arg(source).arg("-o").arg(to);
    said(&mut command, &format!("compile {source}")).map(drop)
}

/// 13 of CUDA 13.0.
fn major_version(nvcc: &str) -> Result<u32, String> {
    let text = said(Command::new(nvcc).arg("--version"), "say its version")?;
    let version = text.split_once("release ").and_then(|(_, rest)| rest.split_once('.'));
    match version.and_then(|(major, _)| major.parse().ok()) {
        Some(major @ 12..) => Ok(major),
        _ => Err(format!("expected nvcc of CUDA 12 or later, came {}", text.trim())),
    }
}

/// What nvcc writes to its standard output.
fn said(command: &mut Command, to: &str) -> Result<String, String> {
    let output = command.output().map_err(|error| {
        format!(
            "expected nvcc of the CUDA toolkit, which the feature `cuda` needs, to {to}, came no program {:?} \
             ({error}): put it on PATH, or name it in NVCC",
            command.get_program()
        )
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("expected nvcc to {to}, came {}: {}", output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
