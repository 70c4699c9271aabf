//! Transformers that are assembled over one bank of blocks, in which a tie is an index and never a
//! copy.
//!
//! - [`binding`] of `dlt-state`: which storage each layer uses, and which layers train. It is index
//!   arithmetic, without tensors.
//! - [`bank`]: the weights behind the storages. Only owners hold parameters.
//! - [`division`]: which parameters of a block layers can share, and which each layer keeps.
//! - [`architecture`], and the [`families`]: what stem, block and head compute, written as a
//!   [`graph`].
//! - [`Model`]: the three together. [`backward`] computes its gradients block by block, [`memory`]
//!   predicts how much memory that needs.
//!
//! Shape letters: `B` windows in a batch, `T` tokens of a window, `C` width, `H` heads,
//! `D = C / H`, `V` vocabulary, `K` classes, `L` layers, `G` heads of keys and values.

pub mod architecture;
pub mod backward;
pub mod bank;
pub mod batch;
mod distances;
pub mod division;
mod error;
pub mod families;
pub mod file;
pub mod generation;
pub mod graph;
pub mod huggingface;
pub mod memory;
mod model;
pub mod parameters;

pub use batch::Batch;
pub use dlt_state::binding;
pub use error::ModelError;
pub use model::{HeldBlocks, Model};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;
