//! Figures, pages, tables and event files, made only from the records of runs.
//!
//! [`Run::read`] reads a run, finished or under way, and a figure or a page can be made of either.
//! Nothing here trains, prints, or opens a connection.

pub mod correlation;
pub mod csv;
pub mod digest;
pub mod error;
#[cfg(feature = "figures")]
pub mod figure;
#[cfg(not(feature = "figures"))]
#[path = "figure/absent.rs"]
pub mod figure;
#[cfg(all(test, feature = "figures"))]
#[path = "figure/absent.rs"]
mod figure_absent;
pub mod metrics;
pub mod numbers;
pub mod page;
#[cfg(feature = "figures")]
pub mod picture;
pub mod run;
pub mod shell;
pub mod tensorboard;

pub use digest::Digest;
pub use error::{ReportError, Result};
pub use metrics::Metrics;
pub use run::Run;
