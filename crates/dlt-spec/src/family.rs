//! What is known of each family of transformer without a model of it.

use crate::size::{gated_block, head_width, plain_block};
use crate::spec::{Architecture, Attention, ModelSpec, ROTARY};

/// Facts about a family.
pub(crate) struct Family {
    /// Its name for people.
    title: &'static str,
    /// Which positions its tokens attend to; `None` if that depends on what is predicted.
    pub(crate) attention: Option<Attention>,
    /// Parameters of a block. `None` if the number does not fit.
    pub(crate) block: fn(&ModelSpec) -> Option<usize>,
}

impl Architecture {
    /// The family's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.family().title
    }

    /// Whether positions rotate queries and keys. Such a family has no table of positions; its
    /// heads may be grouped and have any even width, and its projections have no biases by default.
    #[must_use]
    pub fn is_rotary(self) -> bool {
        ROTARY.contains(&self)
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::Gpt2 => {
                Family { title: "GPT-2", attention: Some(Attention::Causal), block: plain_block }
            }
            Self::Bert => Family { title: "BERT", attention: None, block: plain_block },
            Self::Vit => {
                Family { title: "ViT", attention: Some(Attention::Full), block: plain_block }
            }
            Self::Llama => {
                Family { title: "Llama", attention: Some(Attention::Causal), block: gated_block }
            }
            Self::Qwen3 => Family {
                title: "Qwen3",
                attention: Some(Attention::Causal),
                // One norm for the heads of queries, and one for those of keys.
                block: |model| gated_block(model)?.checked_add(head_width(model)?.checked_mul(2)?),
            },
        }
    }
}
