//! The families of transformer, each in one file: what its blocks compute, how it reads and writes
//! Hugging Face's config, and the names of its tensors in files.

pub mod bert;
mod decoder;
pub mod gpt2;
pub mod llama;
pub mod qwen3;
pub mod rotary;
pub mod vit;

use std::sync::Arc;

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{self, Attention, Objective};

use crate::Result;
use crate::architecture::{Architecture, Form};
use crate::huggingface::config::{HeadKind, ModelType};
use crate::huggingface::settings::Settings;

/// What a family says about itself besides what a model of it computes.
#[derive(Debug)]
pub struct Family {
    /// The model of a spec, with a vocabulary of this size.
    pub(crate) of_spec: fn(&CheckedSpec, Form, usize) -> Arc<dyn Architecture>,
    /// What transformers calls it.
    pub(crate) model_types: &'static [ModelType],
    /// Whether transformers ties the output to the token table where a config does not say it.
    pub(crate) ties_output: bool,
    /// What a model with such a head predicts, and which positions its tokens attend to.
    pub(crate) task: fn(&Settings<'_>, HeadKind) -> Result<(Objective, Attention)>,
    /// The model type that computes the function of a spec.
    pub(crate) model_type: fn(&CheckedSpec) -> Result<&'static ModelType>,
}

/// The family that a word of a spec names.
#[must_use]
pub fn of(word: spec::Architecture) -> &'static Family {
    match word {
        spec::Architecture::Gpt2 => &gpt2::FAMILY,
        spec::Architecture::Bert => &bert::FAMILY,
        spec::Architecture::Vit => &vit::FAMILY,
        spec::Architecture::Llama => &llama::FAMILY,
        spec::Architecture::Qwen3 => &qwen3::FAMILY,
    }
}
