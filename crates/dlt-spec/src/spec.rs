//! The specification of a run, as it is written in `spec.toml`. A field is declared once, with its
//! meaning, its default, its values, its unit and the paper's value: [`crate::fields`] is the table
//! of them. The rules between fields are in [`crate::check`].

use serde::{Deserialize, Serialize};

use crate::fields::Values;

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
