//! Figures and pages of runs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test, which is its purpose")]

mod figures;
mod folder;
mod page;
