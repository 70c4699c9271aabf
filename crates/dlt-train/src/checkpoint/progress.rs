//! The part of a checkpoint that is not a tensor.

use std::collections::BTreeMap;

use dlt_agent::AgentSnapshot;
use dlt_data::BatchPosition;
use dlt_spec::record::DecisionRow;
use serde::{Deserialize, Serialize};

use crate::ending::Times;
use crate::means::{Means, Peaks};
use crate::statistics::Statistics;

/// Everything in a run that changes, besides its tensors and its recording. Floats that can have
/// any value are written as their bits. The others are finite, and JSON holds those exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Training steps done.
    pub(crate) step: usize,
    /// Length of `metrics.jsonl`.
    pub(crate) metrics_bytes: u64,
    /// SHA-256 of the text.
    pub(crate) data_sha256: String,
    /// Identity of the tokenizer.
    pub(crate) tokenizer: String,
    /// SHA-256 of the recording that the agent follows, if it follows one.
    pub(crate) replayed_sha256: Option<String>,
    pub(crate) agent: Option<AgentSnapshot>,
    /// The decision that waits for its reward.
    pub(crate) pending: Option<DecisionRow>,
    /// The loss before that decision, if its reward needs it; layouts 1 and 2 lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    /// Statistics of gradients since the last decision; layouts 1 and 2 lack them.
    #[serde(default, skip_serializing_if = "Statistics::is_empty")]
    pub(crate) statistics: Statistics,
    /// Order of the training batches.
    pub(crate) train: BatchPosition,
    /// Order of the batches that rewards are measured on.
    pub(crate) rewards: BatchPosition,
    pub(crate) moments: StepCounts,
    pub(crate) means: Means,
    pub(crate) best: Option<Best>,
    #[serde(with = "bits_option")]
    pub(crate) best_on_test: Option<f64>,
    pub(crate) state_bytes_peak: usize,
    pub(crate) skipped_steps: usize,
    /// Greatest prediction of memory so far.
    pub(crate) predicted_bytes: usize,
    /// Peaks of memory over the processes so far; layout 1 lacks them.
    #[serde(default)]
    pub(crate) peaks: Peaks,
    /// Time of the whole run in seconds, and how the time of training was spent.
    pub(crate) elapsed_s: f64,
    pub(crate) times: Times,
}

/// A loss on batches that can be drawn again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// Position in the order of reward batches before these.
    pub(crate) at: BatchPosition,
    /// Mean cross-entropy, in nats; finite.
    pub(crate) loss: f64,
}

/// Optimizer steps of each parameter, in the order of the layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepCounts {
    pub(crate) shared: Vec<u64>,
    /// By the layer whose optimizer state it is.
    pub(crate) slots: BTreeMap<usize, Vec<u64>>,
}

/// The best model so far, which is in a file next to the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// Training steps done when it was evaluated.
    pub(crate) step: usize,
    /// Its loss on validation, which is finite.
    pub(crate) loss: f64,
    /// Its share of right classes there; absent if the model predicts tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accuracy: Option<f64>,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
}

/// An f64 that may be absent, as its bits.
pub(crate) mod bits_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(f64::to_bits).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(f64::from_bits))
    }
}
