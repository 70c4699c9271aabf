//! The specification of a run, as it is written in `spec.toml`. Every field has a plain default.
//! Meaning, unit, range and the paper's value of a field are in [`crate::fields`], the rules
//! between fields in [`crate::check`].

use dlt_state::binding::Rules;
use serde::{Deserialize, Serialize};

/// Declares an enum whose values are kebab-case words in a spec file.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

mod agent;
mod data;
mod default;
mod model;

pub use agent::*;
pub use data::*;
pub use dlt_state::binding::{FirstTie, Gradient, Merge, Retied, Tie, Untie};
pub use model::*;

/// Version of the layout of a spec file. A file with another number is refused.
pub const SPEC_SCHEMA: u32 = 1;

/// Everything that decides what a run does. Unchecked: [`Spec::check`] makes a
/// [`crate::CheckedSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Layout version, [`SPEC_SCHEMA`].
    pub schema: u32,
    /// Name of the run, used for its folder.
    pub name: String,
    /// Root seed of every random stream.
    pub seed: u64,
    /// The transformer.
    pub model: ModelSpec,
    /// Where tokens come from and in which order.
    pub data: DataSpec,
    /// Length of training and shape of a batch.
    pub training: TrainingSpec,
    /// Validation during training and the final evaluation.
    pub evaluation: EvaluationSpec,
    /// When the whole of a run is saved, so that it can be resumed.
    pub checkpoint: CheckpointSpec,
    /// AdamW and its schedule.
    pub optimizer: OptimizerSpec,
    /// How layers are tied and untied.
    pub tying: TyingSpec,
    /// Who decides, and what the decision is rewarded with.
    pub agent: AgentSpec,
}

/// A size that may be left to be derived from the other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// This many.
    Fixed(usize),
    /// The word `auto`: derived, as the field's documentation says.
    Auto(AutoWord),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoWord {
    /// Derived from other fields.
    Auto,
}

impl Size {
    /// The word `auto`.
    pub const AUTO: Self = Self::Auto(AutoWord::Auto);

    /// The number, or `derived` if the file says `auto`.
    #[must_use]
    pub fn or(self, derived: usize) -> usize {
        match self {
            Self::Fixed(number) => number,
            Self::Auto(_) => derived,
        }
    }
}

/// Length of training and shape of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Training steps; `auto` is `epochs` full passes.
    pub steps: Size,
    /// Full passes over the training split, where `steps` is `auto`.
    pub epochs: usize,
    /// Windows in a step, B.
    pub batch: usize,
    /// Windows in memory at once; `auto` is the batch.
    pub micro_batch: Size,
    /// What is kept between forward and backward.
    pub checkpointing: Checkpointing,
    /// Number format of activations (DEVIATIONS row 20).
    pub activations: Activations,
    /// What happens at a step whose loss or gradient is not a finite number.
    pub non_finite: NonFinite,
    /// Which parameters train.
    pub trains: Trains,
}

words! {
    /// Which parameters train.
    Trains {
        /// All of them.
        All,
        /// Only those of the objective's head; everything below it stays as it is.
        Head,
    }
}

words! {
    /// What the forward pass keeps for the backward pass.
    Checkpointing {
        /// All activations of all blocks.
        None,
        /// Only the input of each block. The backward pass computes the rest again.
        Block,
    }
}

words! {
    /// Number format of activations: of what passes between operations, forward and backward, and
    /// of what is kept for the backward pass. Weights, their gradients and moments, and the loss
    /// are always f32.
    Activations {
        /// Four bytes, with 24 significant bits.
        F32,
        /// Two bytes, with 8 significant bits and the range of f32.
        Bf16,
    }
}

words! {
    /// What happens at a step whose loss or gradient is not a finite number.
    NonFinite {
        /// The run stops.
        Stop,
        /// The step changes nothing and is counted in the metrics.
        Skip,
    }
}

/// Validation during training and the final evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Steps between two validations; `auto` is once a pass.
    pub every_steps: Size,
    /// Windows in an evaluation batch; `auto` is the training batch.
    pub batch: Size,
    /// Windows of the validation split that are used during training; `auto` is all.
    pub windows: Size,
    /// Windows of validation and test that the final evaluation reads; `auto` is all.
    pub final_windows: Size,
    /// Whether the test perplexity of the checkpoint that is best *on test* is also reported.
    pub select_on: Selection,
}

words! {
    /// Which split chooses the model (DEVIATIONS row 12). The kept model is always the best on
    /// validation.
    Selection {
        /// Only validation is reported; the test split is read once, at the end.
        Validation,
        /// The perplexity that a choice on the test split would have given is also reported, under
        /// its own name.
        ValidationAndTest,
    }
}

/// When the whole of a run is saved, so that it can be resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Steps between two checkpoints; `auto` leaves it to `every_minutes`.
    pub every_steps: Size,
    /// Minutes between two checkpoints; `inf` leaves it to `every_steps`.
    pub every_minutes: f64,
    /// Number of newest checkpoints that are kept.
    pub keep_last: usize,
}

/// AdamW and its schedule (DEVIATIONS rows 10 and 16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decayed: Decayed,
    /// Global norm to which gradients are clipped; `inf` never clips.
    pub clip_norm: f64,
    /// Shape of the learning rate over the run.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Final learning rate of the cosine schedule, as a share of the peak.
    pub final_share: f64,
}

words! {
    /// Which parameters weight decay applies to.
    Decayed {
        /// Every parameter, also norms, biases and embeddings.
        All,
        /// Those of at least two dimensions.
        Matrices,
    }
}

words! {
    /// Shape of the learning rate after warm-up.
    Schedule {
        /// Stays at its peak.
        Constant,
        /// Half a cosine from the peak to `final_share` of it.
        Cosine,
    }
}

/// How layers are tied and untied (DEVIATIONS rows 1 to 6, 9, 11, 17, 32, and the chapter "What we
/// added" there).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TyingSpec {
    /// Grouping before the first decision.
    pub initial: Initial,
    /// What one decision covers.
    pub decision: Decision,
    /// Steps or passes between two decisions, k.
    pub decide_every: usize,
    /// Unit of `decide_every`.
    pub decide_unit: DecideUnit,
    /// Share of training after which the state no longer changes.
    pub decide_until: f64,
    /// When the first decision is made.
    pub first_decision: FirstDecision,
    /// Times of splits, as shares of training in rising order; one split at each.
    pub grow: Vec<f64>,
    /// Largest number of groups that splits lead to; `auto` is the number of layers, L.
    pub groups: Size,
    /// Largest number of block parameters that splits lead to: the mean over training, as a share
    /// of L blocks.
    pub budget: f64,
    /// What a tied event does to the weights.
    pub tie: Tie,
    /// What happens to weights and moments that a tied event leaves without a layer.
    pub merge: Merge,
    /// Nats by which a decision that ties may raise the loss on the reward's batches; `inf` lets
    /// all decisions pass.
    pub gate: f64,
    /// What happens to a frozen layer whose owner is still layer 0 at its first decision.
    pub first_tie: FirstTie,
    /// Which positions contribute to the gradient of shared weights.
    pub gradient: Gradient,
    /// What untying does to the weights.
    pub untie: Untie,
    /// What happens to a layer whose owner is tied to another layer.
    pub retied: Retied,
    /// Optimizer moments of a layer that becomes independent.
    pub moments: Moments,
    /// Learning rate of weights that several layers use.
    pub group_rate: GroupRate,
    /// Factor on the residual branches of blocks that several layers use.
    pub residual_scale: ResidualScale,
    /// Content of the state vector that the policy sees.
    pub state_vector: StateVector,
}

impl From<&TyingSpec> for Rules {
    fn from(spec: &TyingSpec) -> Self {
        let TyingSpec { tie, gradient, untie, retied, first_tie, merge, .. } = *spec;
        Self { tie, gradient, untie, retied, first_tie, merge }
    }
}

/// Grouping before the first decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Initial {
    /// A named one.
    Named(InitialName),
    /// The owner of each layer, written out.
    Owners(Vec<usize>),
}

words! {
    /// Named groupings.
    InitialName {
        /// Layer 0 trains; the others keep their own initial weights, untrained (Algorithm 1, line
        /// 2).
        Frozen,
        /// Every layer trains its own weights while the state is all 0: Algorithm 1 without its
        /// line 2 (ablation vi).
        Trainable,
        /// Every layer trains its own weights, and the state says so.
        Independent,
        /// All layers use layer 0.
        Tied,
        /// Layer i and layer L/2 + i (ablation vii).
        Cycle,
        /// Layer i and layer L - 1 - i (ablation viii).
        CycleReversed,
        /// Layer i and layer L - i, as Table 4 writes ablation viii. Layer 0 has no partner, nor
        /// has layer L/2 at an even depth.
        CycleReversedAsWritten,
        /// Pairs of neighbours (ablation ix).
        Sequence,
    }
}

words! {
    /// What one decision covers (rows 1 and 41).
    Decision {
        /// The whole action vector.
        Joint,
        /// One layer, in turn 1, 2, ..., L - 1.
        PerLayer,
        /// One group becomes two, at the times of `grow`; nothing else is decided.
        Split,
        /// As `split`. After the last split, every `decide_every`, two groups become one and one
        /// becomes two.
        Swap,
        /// The one layer whose change promises most, or none.
        Single,
    }
}

words! {
    /// Unit of `decide_every` (row 40).
    DecideUnit {
        /// Training steps.
        Steps,
        /// Passes over the training split.
        Epochs,
    }
}

words! {
    /// When the first decision is made (row 6).
    FirstDecision {
        /// After k steps, as the paper's text says.
        AfterK,
        /// After the first training step, as Algorithm 1 line 7 says.
        #[serde(rename = "at-step-0")]
        AtStep0,
        /// Before any training step, as the authors' code does.
        BeforeFirstStep,
    }
}

words! {
    /// Factor on the residual branches of blocks that several layers use (row 44).
    ResidualScale {
        /// 1.
        None,
        /// 1 / (layers that use the block at the start of training), for the whole run.
        Uses,
    }
}

words! {
    /// Optimizer moments of a layer that becomes independent (row 11).
    Moments {
        /// Zero.
        Fresh,
        /// A copy of its former owner's.
        Inherit,
        /// Its own, from the last time it was independent.
        Resume,
    }
}

words! {
    /// Learning rate of weights that several layers use (row 28). The steps of AdamW do not grow
    /// with the summed gradient, but one step on weights of m layers changes the model m times.
    GroupRate {
        /// The same as that of any other parameter.
        Same,
        /// Divided by the square root of the number of layers that train them.
        Root,
        /// Divided by the number of layers that train them.
        Inverse,
    }
}

impl GroupRate {
    /// Factor on the learning rate of weights that `members` layers train.
    #[must_use]
    pub fn factor(self, members: usize) -> f64 {
        match self {
            Self::Same => 1.0,
            Self::Root => (members.max(1) as f64).sqrt().recip(),
            Self::Inverse => (members.max(1) as f64).recip(),
        }
    }
}

words! {
    /// Content of the state vector (row 17).
    StateVector {
        /// The state of Eq. 1.
        Canonical,
        /// The action of each layer's last visit, never resolved.
        Raw,
    }
}
