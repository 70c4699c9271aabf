//! The specification of a run, as it is written in `spec.toml`. A field is declared once, with its
//! meaning, its default, its values, its unit and the paper's value: [`crate::fields`] is the table
//! of them. The rules between fields are in [`crate::check`].

use serde::{Deserialize, Serialize};

use crate::fields::{Values, words_of};

#[macro_use]
mod declare;

mod agent;
mod data;
mod model;
mod training;
mod tying;

pub use agent::*;
pub use data::*;
pub use model::*;
pub use training::*;
pub use tying::*;

/// Version of the layout of a spec file. A file with another number is refused.
pub const SPEC_SCHEMA: u32 = 1;

/// The greatest size that fits every index type that a size passes through.
const MOST: usize = i32::MAX as usize;
/// The greatest whole number of TOML.
const MOST_OF_TOML: usize = i64::MAX as usize;

section! {
    /// Everything that decides what a run does. Unchecked: [`Spec::check`] makes a
    /// [`crate::CheckedSpec`].
    ///
    /// The default is a model of a few million parameters on the shipped text. The method is as the
    /// paper states it; where the paper is silent, the optimizer has the authors' settings. Every
    /// preset is an overlay of it.
    Spec in [] {
        /// Version of the layout of this file.
        schema: u32 = SPEC_SCHEMA, Values::Whole(SPEC_SCHEMA as usize, SPEC_SCHEMA as usize);
        /// Name of the run; its folder is runs/NAME-SEED.
        name: String = "run".into(), Values::Name;
        /// Root seed of every random stream.
        seed: u64 = 1, Values::Whole(0, MOST_OF_TOML);
    }
    with {
        /// The transformer.
        model: ModelSpec,
        /// Where tokens come from and in which order.
        data: DataSpec,
        /// Length of training and shape of a batch.
        training: TrainingSpec,
        /// Validation during training and the final evaluation.
        evaluation: EvaluationSpec,
        /// When the whole of a run is saved, so that it can be resumed.
        checkpoint: CheckpointSpec,
        /// AdamW and its schedule.
        optimizer: OptimizerSpec,
        /// How layers are tied and untied.
        tying: TyingSpec,
        /// Who decides, and what the decision is rewarded with.
        agent: AgentSpec,
    }
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
    /// Number format of activations (DEVIATIONS row 20): of what passes between operations, forward and backward, and
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

/// Grouping before the first decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Initial {
    /// A named one.
    Named(InitialName),
    /// The owner of each layer, written out.
    Owners(Vec<usize>),
}

impl Initial {
    /// What a field of this type accepts.
    pub const WORDS: Values = Values::Grouping(|| words_of(InitialName::ALL));
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
    /// What a tied event does to the weights (row 32).
    Tie {
        /// The layer uses its owner's weights from then on.
        Share,
        /// The layer gets a copy of them and trains the copy by itself, with fresh moments
        /// (ablation v).
        Replicate,
    }
}

words! {
    /// What happens to weights and moments that a tied event leaves without a layer (row 42).
    Merge {
        /// They are dropped; those of the owner stay as they are.
        Overwrite,
        /// They are averaged into the block that replaces them, weighted by the number of layers
        /// that used each before.
        Average,
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
    /// First tie of a frozen layer (row 5).
    FirstTie {
        /// It takes its owner's weights, as section 3 (iii) says.
        Replicate,
        /// Nothing happens until its state changes, as Algorithm 1 line 11 says.
        Literal,
    }
}

words! {
    /// Which positions contribute to the gradient of shared weights (row 2).
    Gradient {
        /// Every position that uses them.
        Sum,
        /// Only positions that the state calls independent.
        Owner,
    }
}

words! {
    /// What untying does to the weights (row 3).
    Untie {
        /// The layer gets its own copy.
        Copy,
        /// The layer keeps sharing the storage, with a separate optimizer state.
        Alias,
    }
}

words! {
    /// What happens to a layer whose owner is tied to another layer (row 4).
    Retied {
        /// It follows its owner, as Eq. 1 says.
        Follow,
        /// It keeps the old owner's storage; only visited layers move, to the named layer's present
        /// storage.
        Keep,
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
