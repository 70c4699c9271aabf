//! What a spec, and the texts about a run, have to know of each family of transformer.

use crate::spec::Architecture;

impl Architecture {
    /// The family's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Bert => "BERT",
            Self::Vit => "ViT",
            Self::Llama => "Llama",
        }
    }

    /// Whether positions rotate queries and keys. Such a family has no table of positions; its
    /// heads may be grouped and have any even width, and its projections have no biases by default.
    #[must_use]
    pub fn is_rotary(self) -> bool {
        match self {
            Self::Gpt2 | Self::Bert | Self::Vit => false,
            Self::Llama => true,
        }
    }
}
