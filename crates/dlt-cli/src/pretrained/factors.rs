//! Factors of residual branches. Weights that were trained with some factors compute something else
//! with others.

use dlt_spec::{CheckedSpec, ExitCode};

use crate::failure::{Failure, Result};

/// Refuses a spec whose layers multiply their residual branches by factors other than those that
/// the weights were trained with.
pub(super) fn check(name: &str, trained: &CheckedSpec, spec: &CheckedSpec) -> Result {
    let own = trained.residual_factors();
    let theirs = spec.residual_factors();
    if own == theirs {
        return Ok(());
    }

    let message = format!(
        "`tying.residual_scale`: expected the residual factors of {name}, {own:?}, but the spec gives {theirs:?}; set it \
         and `tying.initial` as in the run that made the weights, or move the factors into the weights: use `dlt export \
         --format hf` and then `dlt import`"
    );

    Err(Failure::refused(ExitCode::BadSpec, message))
}

/// The value of `tying.residual_scale` for layers that start in the groups of the weights: `none`
/// if all factors are 1, or else `uses`. If the groups are no longer those that training began
/// with, `uses` gives other factors, and [`check`] refuses them.
pub(super) fn word(trained: &CheckedSpec) -> &'static str {
    if trained.residual_factors().iter().all(|&factor| factor == 1.0) { "none" } else { "uses" }
}
