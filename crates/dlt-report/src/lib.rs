//! What people look at: figures, pages, tables and event files, made from the records of runs and from nothing else.
//!
//! A run is read with [`Run::read`], finished or under way: a figure or a page can be made of either. Nothing here
//! trains, prints, or opens a connection.

pub mod error;
pub mod metrics;
pub mod run;

pub use error::{ReportError, Result};
pub use metrics::Metrics;
pub use run::Run;
