//! What a run reads and writes: its specification, presets, metric rows, summary and exit codes.
//!
//! A spec is the default, overlaid with a preset, a method, the user's file and assignments. It is
//! then checked:
//!
//! ```
//! use dlt_spec::{Overlay, Spec, presets};
//! let spec = Spec::assemble(&[
//!     presets::preset("smoke")?.overlay()?,
//!     presets::method("reference")?.overlay()?,
//!     Overlay::from_assignment("training.steps=20")?,
//! ])?
//! .check()?;
//! assert_eq!((spec.model.layers, spec.tying.decide_every, spec.positions()), (3, 4, 32));
//! # Ok::<(), dlt_spec::SpecError>(())
//! ```
//!
//! [`record`] and [`tensors`] describe what a run writes, [`durable`] how it is written, and
//! [`fields`] what every field of a spec means.

pub mod baseline;
pub mod check;
pub mod checksum;
pub mod durable;
pub mod error;
pub mod exit;
pub mod fields;
pub mod file;
pub mod foreign;
pub mod not_built;
pub mod overlay;
pub mod presets;
pub mod record;
pub mod seeds;
pub mod size;
pub mod spec;
mod synonyms;
pub mod tensors;
pub mod waiting;

pub use check::{AgentSetup, CheckedAgent, CheckedSpec};
pub use error::{Likeness, SpecError, Violation};
pub use exit::ExitCode;
pub use not_built::NotBuilt;
pub use overlay::{Change, Origin, Overlay, diff, fingerprint};
pub use spec::Spec;
pub use toml::Value;

/// Runs the example of the readme.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
