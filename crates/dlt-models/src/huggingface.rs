//! Folders in Hugging Face's layout: `config.json` and safetensors or `pytorch_model.bin`, as
//! transformers writes and reads them.
//!
//! - [`read_config`]: what a `config.json` says about a model. What a
//!   [`ModelSpec`](dlt_spec::spec::ModelSpec) cannot say is refused.
//! - [`Weights`]: the tensors of a folder under this program's names, in every layout that the
//!   families have had.
//! - [`config`], [`export`]: a model as transformers loads it, with separate weights for every
//!   layer.
//! - [`tensors`]: the tensors that transformers has for one of our parameters.

pub(crate) mod config;
pub(crate) mod export;
mod names;
pub(crate) mod settings;
mod shards;
mod weights;

pub use config::{Config, parse_config, read_config};
pub use export::{Annotations, config, export};
pub use names::{FileNames, Twin, tensors};
pub use weights::{Weights, tied_layers};
