//! `DLT_PRODUCTS` in the environment chooses what multiplies bf16 matrices on the processor, for tests
//! and comparisons.

use dlt_run::provenance::processor;
use dlt_train::{instruction_set, product_engine, set_product_engine};

use crate::failure::{Failure, Result};

/// Variable with the name of an engine: `amx`, `avx512-bf16` or `f32`.
pub(crate) const VARIABLE: &str = "DLT_PRODUCTS";

/// Sets the engine that the variable names. Without it, the fastest one of this machine stays.
///
/// # Errors
/// If this machine has no such engine.
pub(crate) fn choose() -> Result {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(());
    };

    set_product_engine(&value.to_string_lossy()).map_err(|message| {
        Failure::usage(format!(
            "{VARIABLE}: cannot choose what multiplies bf16 matrices: {message}"
        ))
    })
}

/// What computes on the processor: its name, vector loops and products of bf16.
pub(crate) fn described() -> String {
    format!(
        "{}, {} on {}, products of bf16 by {}",
        processor().unwrap_or_else(|| "unknown".to_owned()),
        instruction_set(),
        std::env::consts::ARCH,
        product_engine()
    )
}
