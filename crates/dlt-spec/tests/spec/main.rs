//! What the crate promises about specs, presets and records.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in what they share"
)]

mod agents;
mod fields;
mod layers;
mod presets;
mod records;
mod rules;
mod sizes;

use dlt_spec::{Overlay, Spec, SpecError};

/// The default spec with assignments over it.
fn with(assignments: &[&str]) -> Result<Spec, SpecError> {
    let overlays: Result<Vec<_>, _> =
        assignments.iter().map(|text| Overlay::from_assignment(text)).collect();
    Spec::assemble(&overlays?)
}
