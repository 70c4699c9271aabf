//! What can go wrong in a model.

use std::path::PathBuf;

use dlt_spec::tensors::TensorError;
use dlt_state::StateError;

/// Errors of building, reading, running and writing models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A tensor operation failed.
    #[error("{context}: {source}")]
    Tensor {
        /// What was being done.
        context: String,
        /// candle's own error.
        source: Box<candle_core::Error>,
    },
    /// A model file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not a model file of this program.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: {}", path.display(), dlt_spec::tensors::not_finite(tensor, *count, *of))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor that has one.
        tensor: String,
        /// How many of its numbers are NaN or infinite.
        count: u64,
        /// How many numbers it has.
        of: u64,
    },
    /// What a model computes is NaN or infinite, though its weights are not.
    #[error(
        "expected finite logits, got {count} of {of} that are NaN or infinite: \
         the weights are too large to compute with; use the weights of an earlier step"
    )]
    Logits {
        /// How many logits are NaN or infinite.
        count: usize,
        /// How many there are.
        of: usize,
    },
    /// A set of weights lacks a tensor or holds it in another shape.
    #[error("tensor `{name}`: expected shape {expected:?}, {got}")]
    Weight {
        /// Name of the tensor.
        name: String,
        /// Shape that the model needs.
        expected: Vec<usize>,
        /// What was found instead.
        got: String,
    },
    /// No class of transformers computes what a model does.
    #[error("export: `{setting}` must be {expected}, got {got}")]
    Export {
        /// The setting.
        setting: &'static str,
        /// What transformers can compute.
        expected: &'static str,
        /// What the model has.
        got: String,
    },
    /// An architecture writes a graph whose result is not its last value.
    #[error("expected the last value of a graph, {last}, as its result, got value {result}")]
    Graph {
        /// Number of the value that was written last.
        last: usize,
        /// Number of the value that the architecture returned.
        result: usize,
    },
    /// A batch does not fit the model.
    #[error("batch: expected {expected}, got {got}")]
    Batch {
        /// What the model takes.
        expected: String,
        /// What was found instead.
        got: String,
    },
    /// A state or action of another depth than the model's.
    #[error("expected a state of {expected} layers, got one of {got}")]
    Depth {
        /// Layers of the model.
        expected: usize,
        /// Layers of the state.
        got: usize,
    },
    /// Something else is wrong with a state or a binding.
    #[error("{0}")]
    State(StateError),
    /// A model predicts something else than what is requested.
    #[error("expected a model that predicts {expected}, got one that predicts {got}")]
    Objective {
        /// What is requested.
        expected: &'static str,
        /// What the model predicts.
        got: &'static str,
    },
    /// A sampling setting is out of range.
    #[error("{setting}: expected {expected}, got {got}")]
    Sampling {
        /// The setting.
        setting: &'static str,
        /// Its range.
        expected: &'static str,
        /// The value.
        got: f64,
    },
}

impl ModelError {
    /// Adds the place where a tensor operation failed; other errors already name theirs.
    pub(crate) fn at(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Tensor { context, source } => {
                Self::Tensor { context: format!("{}: {context}", place()), source }
            }
            other => other,
        }
    }
}

/// Adds what was being done to an error of candle.
pub(crate) trait Context<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T, ModelError>;
}

impl<T> Context<T> for candle_core::Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T, ModelError> {
        self.map_err(|source| ModelError::Tensor { context: context(), source: Box::new(source) })
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(source: candle_core::Error) -> Self {
        Self::Tensor { context: "tensor operation".to_owned(), source: Box::new(source) }
    }
}

/// A binding refuses states of another depth than the model's.
impl From<StateError> for ModelError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::DepthMismatch { expected, got } => Self::Depth { expected, got },
            other => Self::State(other),
        }
    }
}

impl From<TensorError> for ModelError {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Io { path, source } => Self::Io { action: "read", path, source },
            TensorError::NotFinite { path, tensor, count, of } => {
                Self::NotFinite { path, tensor, count, of }
            }
            TensorError::Format { path, reason } => Self::Format { path, reason },
        }
    }
}
