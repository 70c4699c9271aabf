//! `DLT_REHEARSAL=1` in the environment turns rehearsals on.

use dlt_run::rehearsal::VARIABLE;

use crate::failure::{Failure, Result};

/// Whether rehearsals are on.
///
/// # Errors
/// If the variable is neither 0 nor 1.
pub(crate) fn is_on() -> Result<bool> {
    match std::env::var(VARIABLE).as_deref() {
        Ok("1") => Ok(true),
        Ok("" | "0") | Err(_) => Ok(false),
        Ok(value) => Err(Failure::usage(format!(
            "{VARIABLE}: expected 1 for a rehearsal, or 0; got {value}"
        ))),
    }
}
