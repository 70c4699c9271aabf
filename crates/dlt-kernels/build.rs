//! With the feature `cuda`, compiles the kernels to PTX. The driver turns PTX into code for the GPU
//! that it finds.

use std::env;
use std::path::Path;
use std::process::Command;

/// The files of `cuda/` that hold kernels.
const SOURCES: [&str; 8] =
    ["attention", "elementwise", "embedding", "loss", "norm", "optimizer", "sketch", "sums"];
/// The oldest GPUs that today's nvcc compiles for. Newer GPUs run the same PTX, and no kernel here
/// needs more.
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

    for source in SOURCES {
        compile(
            &nvcc,
            &format!("cuda/{source}.cu"),
            &Path::new(&out).join(format!("{source}.ptx")),
        )?;
    }

    Ok(())
}

fn compile(nvcc: &str, source: &str, to: &Path) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args(["--ptx", "--std=c++17", "--gpu-architecture", ARCHITECTURE]);

    // Without contraction into fused multiply-adds, the arithmetic is that of the source. The tests
    // check the build for the CPU, which computes the same.
    command.arg("--fmad=false").arg(source).arg("-o").arg(to);
    let output = command.output().map_err(|error| {
        format!(
            "expected nvcc of the CUDA toolkit, which the feature `cuda` needs \
             to compile {source}, got no program {nvcc:?} ({error}): \
             put it on PATH, or name it in NVCC"
        )
    })?;

    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "expected nvcc to compile {source}, got {}: {}",
            output.status,
            said.trim()
        ));
    }

    Ok(())
}
