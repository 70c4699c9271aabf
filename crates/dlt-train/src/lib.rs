//! Algorithm 1 as a loop: train, decide, tie, reward, learn, evaluate, record.
//!
//! [`Trainer`] is the loop. The caller drives it, one training step at a time; it knows neither a
//! terminal nor a command line. From a checked spec to the result:
//!
//! ```no_run
//! use dlt_data::{Material, Places};
//! use dlt_spec::{CheckedSpec, record::Provenance};
//! use dlt_train::{DeviceChoice, Plan, Products, RunFolder, Trainer, open_device};
//!
//! # fn example(spec: CheckedSpec, provenance: Provenance) -> Result<(), Box<dyn std::error::Error>> {
//! let (device, _name) = open_device(DeviceChoice::Auto, Products::F32)?;
//! let material = Material::load(&spec, Places::default(), &mut |_| ())?;
//!
//! // All that can be refused is refused here, before the folder is made.
//! let prepared = Plan::new(spec.clone(), material, None, device)?.with_weights(None)?;
//! let folder = RunFolder::create("runs/example".as_ref(), &spec, &provenance)?;
//! let mut trainer = Trainer::new(prepared, folder);
//!
//! while let Some(report) = trainer.advance()? {
//!     println!("step {} of {}: loss {:.3}", report.step, report.steps, report.loss);
//! }
//!
//! println!("validation perplexity {:.2}", trainer.finish()?.validation_perplexity);
//! # Ok(())
//! # }
//! ```
//!
//! The crate `dlt-run` does the steps before the loop, fills the provenance in, and has the whole of
//! it as an example: `cargo run -p dlt-run --example train`.

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
mod exchange;
mod explosion;
mod feed;
mod folder;
mod lock;
mod means;
pub mod measurement;
pub mod memory;
mod model_file;
pub mod optimizer;
mod plan;
mod resume;
mod run_state;
pub mod schedule;
mod statistics;
mod step;
mod timetable;
mod trainer;

pub use assembly::{Weights, initial_binding, model_for};
pub use confusion::Confusion;
pub use device::{DeviceChoice, Products, open as open_device, open_as as open_device_as};
pub use dlt_agent::Measured;
pub use dlt_kernels::{Kernels, instruction_set, product_engine, set_product_engine};
pub use error::TrainError;
pub use evaluation::{Evaluating, Evaluation};
pub use exchange::{
    Exchange, Share, Subject, Threads, Traffic, Transport, TransportError, Words, World,
};
pub use folder::{Held as HeldFolder, MODEL_FILE, RunFolder};
pub use lock::{LOCK_FILE, holder};
pub use model_file::{
    Repaired, model_notes, open_model, repair_model, saved_model, sweep, with_repair,
};
pub use plan::{Plan, Prepared};
pub use resume::{ALLOWED_CHANGES, ResumePlan, Resumption};
pub use timetable::{due_decisions, grown_groups, split_times};
pub use trainer::{StepReport, Trainer, Watch};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;
