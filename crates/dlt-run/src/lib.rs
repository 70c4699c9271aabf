//! A run before and after its training: where its spec, its weights and its data come from, and
//! what becomes of its model.
//!
//! [`Beginning`] begins a run, [`Resuming`] continues one, [`Finetuning`] begins one that teaches a
//! model the classes of a task. [`Import`] makes a run of a model, [`Export`] a model of a run. All
//! of them end with a [`Trainer`](dlt_train::Trainer) that the caller drives, or with a folder.
//!
//! Nothing here prints or reads the environment: an [`Observer`] receives what a user may want to
//! know, [`Places`](dlt_data::Places) say where data are, and a [`Program`] says what the
//! provenance records. `examples/train.rs` is a whole run: `cargo run -p dlt-run --example train`.

mod begin;
mod card;
mod error;
mod export;
mod finetune;
mod growth;
mod import;
pub mod map;
mod naming;
mod observer;
mod paths;
mod pretrained;
mod processes;
pub mod provenance;
pub mod rehearsal;
mod resume;
mod saved;
mod spec_layers;
mod tokenizer;

pub use begin::{Beginning, Destination, Site};
pub use card::Parameters;
pub use error::RunError;
pub use export::{CARD_FILE, Export, Form, new_folder, refuse_existing};
pub use finetune::Finetuning;
pub use import::{Import, Imported};
pub use observer::{Introduction, Observer, Silent};
pub use pretrained::{Pretrained, Weights, has_tokens};
pub use provenance::Program;
pub use resume::Resuming;
pub use saved::Saved;
pub use spec_layers::{Ground, SpecLayers};
pub use tokenizer::open as open_tokenizer;

/// Result of this crate.
pub type Result<T, E = RunError> = std::result::Result<T, E>;
