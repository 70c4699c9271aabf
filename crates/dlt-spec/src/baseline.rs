//! Recorded results of other ways to train the same model for the same number of steps. `dlt train`
//! prints them for comparison.
//!
//! `cargo xtask report` makes them from the records of the study. They are never written by hand.

use serde::{Deserialize, Serialize};

/// One recorded result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Preset whose model, data and length of training it used.
    pub preset: String,
    /// What it is, for example `conventional training` or `random policy`.
    pub label: String,
    /// The command that made it, without the seed.
    pub command: String,
    /// Its root seed.
    pub seed: u64,
    /// Its training steps.
    pub steps: usize,
    /// Perplexity on the validation split.
    pub validation_perplexity: f64,
    /// Perplexity on the test split.
    pub test_perplexity: f64,
    /// Trainable parameters in blocks, mean over training.
    pub block_parameters_mean: f64,
}
