//! The state of a run: everything that changes while it trains, besides its tensors and its
//! recording of decisions.

use std::collections::BTreeMap;
use std::path::Path;

use dlt_agent::{AgentSnapshot, Measured};
use dlt_data::{BatchPosition, Material};
use dlt_spec::record::DecisionRow;
use dlt_state::Recording;
use serde::{Deserialize, Deserializer, Serialize};

use crate::checkpoint::sha256;
use crate::means::{Means, Peaks};
use crate::resume::recording_sha256;
use crate::statistics::Statistics;

/// The trainer owns it, a checkpoint stores it as JSON, and the summary reads it. So a new running
/// total is one more field here, with `serde(default)` because earlier checkpoints lack it.
///
/// Floats that can have any value are written as their bits. The others are finite, and JSON holds
/// those exactly.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunState {
    /// Training steps done.
    pub(crate) step: usize,
    /// Length of `metrics.jsonl` at the newest checkpoint.
    pub(crate) metrics_bytes: u64,
    /// SHA-256 of the text.
    pub(crate) data_sha256: String,
    /// Identity of the tokenizer.
    pub(crate) tokenizer: String,
    /// SHA-256 of the recording that the agent follows, if it follows one.
    pub(crate) replayed_sha256: Option<String>,
    /// The agent at the checkpoint; `None` if the policy is `none`, and between two checkpoints,
    /// as it is a second copy of the Q-network.
    pub(crate) agent: Option<AgentSnapshot>,
    /// The decision that waits for its reward.
    pub(crate) pending: Option<DecisionRow>,
    /// The loss before that decision, if its reward needs it; layouts 1 and 2 lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    /// Statistics of gradients since the last decision; layouts 1 and 2 lack them.
    #[serde(default, skip_serializing_if = "Statistics::is_empty")]
    pub(crate) statistics: Statistics,
    /// Order of the training batches at the newest checkpoint; `None` before the first one.
    #[serde(deserialize_with = "present")]
    pub(crate) train: Option<BatchPosition>,
    /// The same of the batches that rewards are measured on.
    #[serde(deserialize_with = "present")]
    pub(crate) rewards: Option<BatchPosition>,
    /// Optimizer steps at the newest checkpoint.
    pub(crate) moments: StepCounts,
    pub(crate) means: Means,
    /// The best model so far.
    pub(crate) best: Option<Best>,
    /// The lowest perplexity on the test split, if `evaluation.select_on` asks for it.
    #[serde(with = "dlt_agent::exact::f64_option")]
    pub(crate) best_on_test: Option<f64>,
    /// Most bytes of weights, gradients and moments.
    pub(crate) state_bytes_peak: usize,
    /// Steps skipped because their loss or a gradient was not finite.
    pub(crate) skipped_steps: usize,
    /// Forward passes that searches took so far; checkpoints of earlier builds lack them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) search_passes: usize,
    /// Greatest prediction of memory so far.
    pub(crate) predicted_bytes: usize,
    /// Peaks of memory over the processes so far, up to the newest checkpoint; layout 1 lacks them.
    #[serde(default)]
    pub(crate) peaks: Peaks,
    /// Time of the whole run in seconds, up to the newest checkpoint.
    pub(crate) elapsed_s: f64,
    pub(crate) times: Times,
}

impl RunState {
    /// The state before the first step. `replayed` is the recording that the agent follows.
    pub(crate) fn new(material: &Material, replayed: Option<&Recording>) -> Self {
        let data = material.provenance();
        Self {
            data_sha256: data.sha256.clone(),
            tokenizer: data.tokenizer.clone(),
            replayed_sha256: replayed.map(recording_sha256),
            ..Self::default()
        }
    }

    /// Skipped steps, as metrics and summary show them: `None` for none.
    pub(crate) fn skipped(&self) -> Option<usize> {
        (self.skipped_steps > 0).then_some(self.skipped_steps)
    }

    /// Forward passes of searches, as the summary shows them: `None` for none.
    pub(crate) fn searched(&self) -> Option<usize> {
        (self.search_passes > 0).then_some(self.search_passes)
    }

    /// The step of the best model so far. Without an evaluation the present one counts as the best.
    pub(crate) fn best_step(&self) -> usize {
        self.best.as_ref().map_or(self.step, |best| best.step)
    }
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
    /// Of what each layer keeps for itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) kept: BTreeMap<usize, Vec<u64>>,
}

/// How the time of training was spent, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Times {
    /// All of training, without evaluations.
    pub(crate) training_s: f64,
    /// Policy, transition and learning.
    pub(crate) deciding_s: f64,
    /// Forward passes for rewards.
    pub(crate) rewarding_s: f64,
}

/// The best model so far, which is in the run's model file, and after a checkpoint also in a file
/// next to that.
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
    /// SHA-256 of the file; `None` until a checkpoint needs it.
    #[serde(deserialize_with = "present")]
    pub(crate) sha256: Option<String>,
}

impl Best {
    pub(crate) fn of(step: usize, Measured { loss, accuracy }: Measured) -> Self {
        Self { step, loss, accuracy, sha256: None }
    }

    /// Whether the accuracy is higher, if there are classes; at equal accuracy, or without classes,
    /// whether the loss is lower.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(ours), Some(theirs)) if ours != theirs => ours > theirs,
            _ => self.loss < other.loss,
        }
    }

    /// Whether a file holds this model whole.
    pub(crate) fn is_in(&self, file: &Path) -> bool {
        sha256(file).is_ok_and(|sha256| self.sha256 == Some(sha256))
    }
}

/// Whether a total has nothing in it. Checkpoints then have the keys that they always had.
fn is_zero(total: &usize) -> bool {
    *total == 0
}

/// Reads a value that every checkpoint has, although a run may lack it before its first one.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layout that has other keys needs another version: see `checkpoint::VERSION`.
    #[test]
    fn law_the_state_has_the_keys_of_layout_3() {
        let mut state = RunState {
            best: Some(Best::of(1, Measured { loss: 2.0, accuracy: None })),
            ..RunState::default()
        };
        let text = serde_json::to_string(&state).expect("JSON");
        let keys = [
            "step",
            "metrics_bytes",
            "data_sha256",
            "tokenizer",
            "replayed_sha256",
            "agent",
            "pending",
            "train",
            "rewards",
            "moments",
            "means",
            "best",
            "best_on_test",
            "state_bytes_peak",
            "skipped_steps",
            "predicted_bytes",
            "peaks",
            "elapsed_s",
            "times",
        ];

        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");

        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value.as_object().expect("an object").len(), keys.len(), "{text}");

        // What only a checkpoint fills in is never missing from one.
        let missing = serde_json::from_str::<RunState>(&text).expect_err("no positions");
        assert!(missing.to_string().contains("null"), "{missing}");

        state.best_on_test = Some(f64::NAN);
        let text = serde_json::to_string(&state).expect("JSON");
        assert!(text.contains(&format!("\"best_on_test\":{}", f64::NAN.to_bits())), "{text}");
    }

    #[test]
    fn the_best_model_has_the_highest_accuracy_then_the_lowest_loss() {
        let best = |loss, accuracy| Best::of(1, Measured { loss, accuracy });
        assert!(best(1.0, None).is_better_than(&best(2.0, None)));
        assert!(!best(1.0, None).is_better_than(&best(1.0, None)));
        assert!(best(2.0, Some(0.5)).is_better_than(&best(1.0, Some(0.4))));
        assert!(best(1.0, Some(0.5)).is_better_than(&best(2.0, Some(0.5))));
    }
}
