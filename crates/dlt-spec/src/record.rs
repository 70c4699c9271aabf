//! What a run writes into its folder. Every file contains the version of its layout.
//!
//! | file | content | written |
//! |---|---|---|
//! | [`SPEC_FILE`] | the whole spec | before step 0 |
//! | [`PROVENANCE_FILE`] | one [`Provenance`] | before step 0 |
//! | [`METRICS_FILE`] | one [`MetricRow`] a line | during the run |
//! | [`STATES_FILE`] | a `dlt_state::Recording` | during the run |
//! | [`SUMMARY_FILE`] | one [`Summary`] | renamed into place last: the mark of a finished run |
//!
//! Times, and what depends on the machine, are under keys that [`is_time_key`] knows. Two runs with
//! the same spec, seed, machine and thread count write rows that are equal after [`without_times`]
//! has removed these keys.
//!
//! JSON has no number for NaN and the infinities. They are written as `null`, and `null` is read as
//! NaN.

mod lines;
mod number;
mod plan;
mod split;
mod times;

pub use plan::{Boundary, Division, FolderPlan, LeftOut, Reason};
pub use split::Split;
pub use times::{is_time_key, without_times};

use serde::{Deserialize, Serialize};

pub use lines::{Line, Lines, MOST_LINE_BYTES, text_of_lines, whole_lines};

/// Version of the layout of every file described here.
pub const RECORD_SCHEMA: u32 = 1;

/// Revision of everything that the figures of a run depend on besides its spec, its data and its
/// machine: draws, arithmetic, and the order of steps.
///
/// Raise it with a change that moves a figure although the spec is the same. The program then no
/// longer gives the results that were recorded under another revision, and `cargo xtask report
/// --check` names them. A test of `dlt-train` pins the figures of small runs and asks to raise this
/// number.
pub const FIGURES_REVISION: u32 = 1;

/// The revision of records that do not contain one: the draws of those builds are the ones of
/// revision 1.
pub const FIRST_FIGURES_REVISION: u32 = 1;

/// The spec, as [`crate::fields::render`] prints it.
pub const SPEC_FILE: &str = "spec.toml";
/// One [`Provenance`].
pub const PROVENANCE_FILE: &str = "provenance.json";
/// One [`MetricRow`] a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Decisions: a `dlt_state::Recording` in its text form.
pub const STATES_FILE: &str = "states.jsonl";
/// One [`Summary`].
pub const SUMMARY_FILE: &str = "summary.json";

/// One line of [`METRICS_FILE`]. Its key `kind` says which row it is.
///
/// ```
/// use dlt_spec::record::{EvaluationRow, MetricRow, Split};
/// let row = MetricRow::Evaluation(EvaluationRow {
///     step: 30,
///     split: Split::Validation,
///     loss: 2.0,
///     perplexity: 2f64.exp(),
///     tokens: 512,
///     accuracy: None,
///     elapsed_ms: 7.5,
/// });
/// let line = row.to_line();
/// assert!(line.starts_with(r#"{"kind":"evaluation","step":30,"split":"validation","loss":2.0,"#));
/// assert_eq!(MetricRow::from_line(&line)?, row);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MetricRow {
    /// The file's first line.
    Header(HeaderRow),
    /// A training step.
    Step(StepRow),
    /// An evaluation of a split.
    Evaluation(EvaluationRow),
    /// A decision, once its reward is known.
    Decision(DecisionRow),
}

/// The first line of the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRow {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
}

/// One training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRow {
    /// Training steps done, this one included.
    pub step: usize,
    /// Mean cross-entropy of the batch before the update, in nats a token.
    #[serde(deserialize_with = "number::or_nan")]
    pub loss: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping.
    #[serde(deserialize_with = "number::or_nan")]
    pub gradient_norm: f64,
    /// Tokens predicted since the start of training, this step included.
    pub tokens: u64,
    /// Layers that the state calls independent.
    pub independent_layers: usize,
    /// Number of different storages that layers use; frozen ones count.
    pub distinct_layers: usize,
    /// Parameters that this step could change.
    pub trainable_parameters: usize,
    /// The part of them that is in blocks.
    pub block_parameters: usize,
    /// Time since the start of training.
    pub elapsed_ms: f64,
    /// Training tokens a second so far, without evaluation; absent if the clock does not advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Resident memory after this step, in 10^6 bytes; absent if the system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_rss_mb: Option<f64>,
    /// Steps so far, this one included, that changed nothing because the loss or the gradient was
    /// not finite (`training.non_finite = "skip"`); absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRow {
    /// Training steps done before.
    pub step: usize,
    /// What was evaluated.
    pub split: Split,
    /// Total negative log-likelihood over predicted tokens, in nats a token.
    #[serde(deserialize_with = "number::or_nan")]
    pub loss: f64,
    /// `exp(loss)`, per token of the run's tokenizer.
    #[serde(deserialize_with = "number::or_nan")]
    pub perplexity: f64,
    /// Tokens predicted; for classes, windows.
    pub tokens: u64,
    /// Share of right classes; absent where none are predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Time since the start of training.
    pub elapsed_ms: f64,
}

/// How well a model classifies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Share of right classes.
    pub accuracy: f64,
    /// The accuracy of always answering with the most frequent class: the floor.
    pub majority_accuracy: f64,
    /// Matthews correlation, which GLUE reports on CoLA; only for two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matthews: Option<f64>,
    /// F1 of class 1, which GLUE reports on MRPC besides accuracy; only for two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

/// One decision. The policy decides which keys exist: only `q` has predictions, targets and losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRow {
    /// Training steps done before the decision.
    pub step: usize,
    /// Number of the decision, counted from 0.
    pub visit: usize,
    /// The layer of a `per-layer` decision; absent in a joint one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// The action vector; absent if the policy gives states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Vec<usize>>,
    /// The state after the decision: the owner of each layer.
    pub state: Vec<usize>,
    /// Whether the action was drawn at random.
    pub explored: bool,
    /// Probability of a random action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The reward of the decision; absent if none was measured.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub reward: Option<f64>,
    /// Q(s, a) before its update (Eq. 3).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub q_predicted: Option<f64>,
    /// Reward plus discounted best value of the next state (Alg. 1 line 23).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub q_target: Option<f64>,
    /// Squared error of the two (Alg. 1 line 24).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub q_loss: Option<f64>,
    /// How much the gradients of the group that was split disagree; absent if that was not
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub conflict: Option<f64>,
    /// How different the two groups were that became one, 0 for equal ones; absent if that was not
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub unlikeness: Option<f64>,
    /// Whether the decision was undone because the loss rose by more than `tying.gate`. The state
    /// is then the previous one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Mean loss on the reward's batches before the decision, in nats; absent if it was not
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub loss_before: Option<f64>,
    /// The same right after the decision, before any training step.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub loss_after: Option<f64>,
    /// What a search judged before the decision; absent if the policy does not search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRow>,
    /// Layers that this decision tied to another owner.
    pub tied_events: usize,
    /// Layers that this decision made independent.
    pub untied_events: usize,
    /// Time since the start of training.
    pub elapsed_ms: f64,
}

/// What a search did before a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRow {
    /// States that it judged, the present one among them.
    pub candidates: usize,
    /// Forward passes of a batch that this took.
    pub passes: usize,
    /// Mean loss in the present state on the batches of the search, in nats.
    pub loss_before: f64,
    /// The same in the state that it chose.
    pub loss_after: f64,
}

impl MetricRow {
    /// The row as one line of JSON, without a line end.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a row holds numbers, words and lists only")
    }

    /// The row of one line.
    ///
    /// # Errors
    /// If the line is not JSON, has an unknown kind, lacks a key or has an unknown one.
    pub fn from_line(line: &str) -> serde_json::Result<Self> {
        serde_json::from_str(line)
    }
}

/// The outcome of a finished run. Means are over training steps. Parameters are those that training
/// could change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// Name of the run.
    pub name: String,
    /// Root seed.
    pub seed: u64,
    /// Training steps done.
    pub steps: usize,
    /// Steps that changed nothing because the loss or the gradient was not finite; absent if there
    /// were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
    /// Decisions made; absent in the records of earlier builds and if the policy is `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<usize>,
    /// Forward passes of a batch that searches took; absent if the policy does not search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_passes: Option<usize>,
    /// Training steps done when the kept model, the best on validation, was evaluated.
    pub best_step: usize,
    /// Windows of each split that the last evaluation read (`evaluation.final_windows`); absent if
    /// it read all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_windows: Option<usize>,
    /// Mean cross-entropy of the kept model on the validation split, in nats a token.
    #[serde(deserialize_with = "number::or_nan")]
    pub validation_loss: f64,
    /// Its exponential.
    #[serde(deserialize_with = "number::or_nan")]
    pub validation_perplexity: f64,
    /// Perplexity of the kept model on the test split, which is read once, at the end (but see
    /// `evaluation.select_on`); absent if the data have no test split.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub test_perplexity: Option<f64>,
    /// Perplexity that a choice of the model on the test split would have given
    /// (`evaluation.select_on`). This is not a fair result.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub test_perplexity_selected_on_test: Option<f64>,
    /// How well the kept model classifies the validation split; absent if it predicts tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_scores: Option<Scores>,
    /// The same on the test split; absent if the data have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_scores: Option<Scores>,
    /// Perplexity of the best unigram model of the validation split, which is fitted to that split
    /// itself: a good result is far below this floor. For classes, of their frequencies.
    #[serde(deserialize_with = "number::or_nan")]
    pub unigram_perplexity: f64,
    /// The same on the test split; absent if the data have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub unigram_test_perplexity: Option<f64>,
    /// Negative log-likelihood of the kept model on the validation split, in bits per byte of its
    /// text; NaN if there is no text.
    #[serde(deserialize_with = "number::or_nan")]
    pub bits_per_byte: f64,
    /// Trainable parameters, mean.
    pub trainable_parameters_mean: f64,
    /// Trainable parameters at the end.
    pub trainable_parameters_end: usize,
    /// Trainable parameters in blocks, mean: without embeddings.
    pub block_parameters_mean: f64,
    /// Trainable parameters in blocks at the end.
    pub block_parameters_end: usize,
    /// Parameters of the same model with no layer tied.
    pub conventional_parameters: usize,
    /// The part of them in blocks.
    pub conventional_block_parameters: usize,
    /// Layers that the state calls independent, mean.
    pub independent_layers_mean: f64,
    /// The same at the end.
    pub independent_layers_end: usize,
    /// Number of different storages that layers use, mean; frozen ones count.
    pub distinct_layers_mean: f64,
    /// The same at the end.
    pub distinct_layers_end: usize,
    /// Training tokens a second, without evaluation; absent if the clock does not advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Time of one pass over the training split, without evaluation.
    pub seconds_per_epoch: f64,
    /// Time of the whole run.
    pub elapsed_s: f64,
    /// Time of training steps, decisions and rewards. `tokens_per_s` is computed from it.
    pub elapsed_training_s: f64,
    /// The part of it for decisions: policy, transition, moving of weights and moments, and the
    /// agent's learning.
    pub elapsed_deciding_s: f64,
    /// The part of it for the forward passes of rewards.
    pub elapsed_rewarding_s: f64,
    /// Peak resident memory, in 10^6 bytes; absent if the system does not report it.
    pub peak_rss_mb: Option<f64>,
    /// The prediction of it from the states that occurred in the run, in 10^6 bytes.
    #[serde(default)]
    pub predicted_peak_rss_mb: Option<f64>,
    /// Mean resident memory over training steps, in 10^6 bytes; absent if the system does not
    /// report it.
    pub mean_rss_mb: Option<f64>,
    /// Peak memory of weights, gradients and optimizer moments, in 10^6 bytes: what Table 3 of the
    /// paper counts.
    pub weights_gradients_moments_mb_peak: f64,
    /// Processes that trained the run together at its end; absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
    /// Bytes that process 0 sent to the others, over the steps since its last start; evaluations
    /// and checkpoints included. Absent for one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes_per_step: Option<f64>,
}

/// How a run was made: program, machine, data and command. Written before its first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// Git revision that it was built from, with `-dirty` after it if files were changed; absent
    /// outside a checkout.
    pub revision: Option<String>,
    /// Compiler that it was built with.
    pub toolchain: String,
    /// The machine.
    pub host: Host,
    /// Threads for arithmetic, of each process.
    pub threads: usize,
    /// The processes that train together; absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// Device of the tensors, such as `cpu` or `cuda:0 (NVIDIA A100-SXM4-40GB)`.
    pub device: String,
    /// Root seed.
    pub seed: u64,
    /// [`crate::fingerprint`] of the spec.
    pub spec_fingerprint: String,
    /// [`FIGURES_REVISION`] of the program; absent in the records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures_revision: Option<u32>,
    /// What the model learns from.
    pub data: DataProvenance,
    /// The command line, argument by argument.
    pub command_line: Vec<String>,
    /// Start of the run, in seconds since 1970-01-01 UTC.
    pub started_at: u64,
    /// One entry for each time the run was resumed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<ResumeProvenance>,
}

impl Provenance {
    /// [`FIGURES_REVISION`] of the program that made the record.
    #[must_use]
    pub fn figures_revision(&self) -> u32 {
        self.figures_revision.unwrap_or(FIRST_FIGURES_REVISION)
    }
}

/// One time that a run was resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeProvenance {
    /// Training steps done before.
    pub step: usize,
    /// Version of the program.
    pub version: String,
    /// Git revision that it was built from; absent outside a checkout.
    pub revision: Option<String>,
    /// Threads for arithmetic, of each process.
    pub threads: usize,
    /// The processes that train together; absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// Device of the tensors from here on; empty in the records of earlier builds.
    #[serde(default)]
    pub device: String,
    /// Keys of the spec that were changed.
    pub changed: Vec<String>,
    /// The command line, argument by argument.
    pub command_line: Vec<String>,
    /// When, in seconds since 1970-01-01 UTC.
    pub started_at: u64,
}

/// Processes that train a run together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// The host of each, by rank.
    pub hosts: Vec<String>,
    /// What carries their words, as in `Open MPI 4.1.4`.
    pub engine: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Model name of its processor.
    pub cpu: String,
    /// Logical cores that the run may use.
    pub cores: usize,
    /// Operating system and architecture, as in `linux x86_64`.
    pub os: String,
    /// What multiplied bf16 matrices on the processor: `AMX`, `AVX512-BF16` or `f32`. Results of
    /// bf16 activations depend on it. Absent in the records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_engine: Option<String>,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataProvenance {
    /// Name or path.
    pub source: String,
    /// SHA-256 of the text or of the examples, in hexadecimal.
    pub sha256: String,
    /// `REPOSITORY@COMMIT` if it comes from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The column that the text is in, if it comes from tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<DataColumn>,
    /// Rows without text that were found when the tokens or examples were made, if there were any.
    /// The token cache keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_rows: Option<DataBadRows>,
    /// Name or path of the tokenizer.
    pub tokenizer: String,
    /// Tokens of the training split; examples if classes are predicted.
    pub train_tokens: u64,
    /// The same of the validation split.
    pub validation_tokens: u64,
    /// The same of the test split; absent if the data have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_tokens: Option<u64>,
    /// What was put between two documents; absent if there is no text, and in the records of
    /// earlier builds, which used a line end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<Boundary>,
    /// Which file of a folder or of the hub went to which split, and what was left out. Absent in
    /// the records of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<FolderPlan>,
    /// The name of each class, in the order of their numbers, if the data have names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

/// The column of a table that a text is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataColumn {
    /// Its name, with dots if it is a member of an object.
    pub name: String,
    /// `named` if the user named it, `found` if its name or its content decided.
    pub chosen: String,
}

/// Rows of tables that have no text or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataBadRows {
    /// Rows that were used as empty.
    pub empty: u64,
    /// Rows that were left out.
    pub skipped: u64,
    /// The first of them, with file, row and reason.
    pub first: Vec<String>,
}
