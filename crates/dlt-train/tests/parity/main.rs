//! Compares another implementation with the CPU's kernels: the GPU, in a program with CUDA on a
//! machine that has one; else, on the CPU, the operations of candle that a GPU would run. `cargo
//! xtask gpu-check` reads the lines that begin with `parity: `.
#![allow(clippy::print_stdout, reason = "what was compared is the result")]

mod comparison;
#[path = "../../../dlt-models/tests/models/families.rs"]
#[allow(dead_code, reason = "families are those of the models' tests, which use more of them")]
mod families;
#[path = "../../../dlt-models/tests/models/fixtures.rs"]
#[allow(dead_code, reason = "the families need the smallest of them only")]
mod fixtures;
mod kernels;
mod models;
