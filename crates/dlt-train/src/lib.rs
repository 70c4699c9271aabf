//! Algorithm 1 as a loop: train, decide, tie, reward, learn, evaluate, record.
//!
//! [`Trainer`] is the loop. The caller drives it, one training step at a time; it knows neither a
//! terminal nor a command line:
//!
//! ```no_run
//! # fn example(mut trainer: dlt_train::Trainer) -> Result<(), dlt_train::TrainError> {
//! while let Some(report) = trainer.advance()? {
//!     tracing::info!(step = report.step, loss = report.loss);
//! }
//! let summary = trainer.finish()?;
//! # Ok(())
//! # }
//! ```

mod assembly;
pub mod checkpoint;
mod clock;
mod confusion;
mod device;
pub mod disk;
pub mod doctor;
mod ending;
mod error;
pub mod evaluation;
mod explosion;
mod feed;
mod folder;
mod lock;
mod means;
pub mod measurement;
pub mod memory;
mod model_file;
pub mod optimizer;
mod resume;
pub mod schedule;
mod statistics;
mod step;
mod timetable;
mod trainer;

pub use assembly::{Weights, initial_binding, model_for};
pub use confusion::Confusion;
pub use device::{DeviceChoice, Products, open as open_device};
pub use dlt_agent::Measured;
pub use dlt_kernels::Kernels;
pub use error::TrainError;
pub use evaluation::{Evaluating, Evaluation};
pub use folder::{Held as HeldFolder, MODEL_FILE, RunFolder};
pub use lock::{LOCK_FILE, holder};
pub use model_file::{
    Repaired, model_notes, open_model, repair_model, saved_model, sweep, with_repair,
};
pub use resume::{ALLOWED_CHANGES, Resumption};
pub use timetable::{due_decisions, grown_groups, split_times};
pub use trainer::{StepReport, Trainer, Watch};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;
