//! Figures from runs.

mod figures;
