//! Factors of residual branches. Weights that were trained with some factors compute something else
//! with others.

use dlt_spec::CheckedSpec;

use crate::Result;
use crate::error::RunError;

/// Refuses a spec whose layers multiply their residual branches by factors other than those that
/// the weights were trained with.
pub(super) fn check(name: &str, trained: &CheckedSpec, spec: &CheckedSpec) -> Result<()> {
    let own = trained.residual_factors();
    let given = spec.residual_factors();
    if own == given {
        return Ok(());
    }

    Err(RunError::ResidualFactors { model: name.to_owned(), own, given })
}

/// The value of `tying.residual_scale` for layers that start in the groups of the weights: `none`
/// if all factors are 1, or else `uses`. If the groups are no longer those that training began
/// with, `uses` gives other factors, and [`check`] refuses them.
pub(super) fn word(trained: &CheckedSpec) -> &'static str {
    if trained.residual_factors().iter().all(|&factor| factor == 1.0) { "none" } else { "uses" }
}
