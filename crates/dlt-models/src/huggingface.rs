//! Folders in Hugging Face's layout: `config.json` and safetensors or `pytorch_model.bin`, as
//! transformers writes and reads them.
//!
//! - [`read_config`]: what a `config.json` says of a model; what a
//!   [`ModelSpec`](dlt_spec::spec::ModelSpec) cannot say is refused.
//! - [`Weights`]: the tensors of a folder under this program's names, of every layout that the
//!   families have had.
//! - [`config`], [`export`]: a model as transformers loads it, with every layer of its own.
//! - [`tensors`]: the tensors that one parameter of ours is there.

mod config;
mod export;
mod names;
mod settings;
mod shards;
mod weights;

pub use config::{Config, parse_config, read_config};
pub use export::{Annotations, config, export};
pub use names::tensors;
pub use weights::{Weights, tied_layers};
