//! Compiles the sources of the CUDA kernels as C++ for the CPU.

/// Relative to the folder of this crate, where build scripts run.
const KERNELS: &str = "../dlt-kernels/cuda";

fn main() {
    for watched in ["host", KERNELS] {
        println!("cargo::rerun-if-changed={watched}");
    }

    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include("host")
        .include(KERNELS)
        .file("host/host.cpp")
        // Without contraction into fused multiply-adds, the arithmetic is that of the source. nvcc
        // gets `--fmad=false` for the same reason.
        .flag("-ffp-contract=off")
        .opt_level(2)
        .compile("dlt_kernels_host");
}
