//! What a run reads and writes: its specification, presets, metric rows, summary and exit codes.

pub mod seeds;
pub mod spec;

pub use spec::Spec;
