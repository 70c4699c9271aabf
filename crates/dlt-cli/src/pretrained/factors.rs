//! Factors of residual branches: weights that were trained with some compute something else with
//! others.

use dlt_spec::{CheckedSpec, ExitCode};

use crate::failure::{Failure, Result};

/// Refuses a spec whose layers multiply their residual branches by other factors than the weights
/// were trained with.
pub(super) fn check(name: &str, trained: &CheckedSpec, spec: &CheckedSpec) -> Result {
    let own = trained.residual_factors();
    let theirs = spec.residual_factors();
    if own == theirs {
        return Ok(());
    }

    let message = format!(
        "`tying.residual_scale`: {name} has factors of residual branches of {own:?}, and the spec says {theirs:?}: set it \
         and `tying.initial` as in the run that made the weights, or put the factors into the weights with `dlt export \
         --format hf` and `dlt import`"
    );

    Err(Failure::refused(ExitCode::BadSpec, message))
}

/// The word of a spec whose layers start in the groups of the weights: `none` where all factors are
/// 1. Where the groups are no longer those of the start, `uses` gives other factors and [`check`]
/// refuses it.
pub(super) fn word(trained: &CheckedSpec) -> &'static str {
    if trained.residual_factors().iter().all(|&factor| factor == 1.0) { "none" } else { "uses" }
}
