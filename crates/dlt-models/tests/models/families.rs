//! Small models of every family and objective, and batches for them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::architecture::{Architecture, Form, HeadSettings};
use dlt_models::backward::Gradients;
use dlt_models::batch::{Input, Padding, Tokens, Wanted};
use dlt_models::binding::{Binding, Rules};
use dlt_models::division::Keeps;
use dlt_models::families::bert::Bert;
use dlt_models::families::gpt2::Gpt2 as Gpt2Model;
use dlt_models::families::llama::Llama as LlamaModel;
use dlt_models::families::qwen3::Qwen3 as Qwen3Model;
use dlt_models::families::rotary::Turning;
use dlt_models::families::vit::Vit;
use dlt_models::{Batch, Model};
use dlt_spec::spec::{
    Attention, AttentionBias, FeedForwardBias, Objective, Output, Pooling, RotaryKind,
};

use crate::fixtures::small;

pub(crate) const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composed];

/// Tokens of a window, and the size of the vocabulary, of every family that reads tokens.
pub(crate) const TOKENS: usize = 9;
pub(crate) const VOCABULARY: usize = 31;

/// Width and height of a picture, and of a patch.
pub(crate) const PICTURE: usize = 6;
const PATCH: usize = 2;

/// Number of classes, if there is more than a single score.
pub(crate) const CLASSES: usize = 3;

/// A family with an objective, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Gpt2,
    Gpt2Own,
    Gpt2Classes,
    Gpt2Single,
    BertCausal,
    BertMasked,
    BertFirst,
    BertMean,
    BertSingle,
    VitFirst,
    VitMean,
    Llama,
    LlamaClasses,
    /// With biases, a separate width of heads, and a factor on rotated queries and keys.
    LlamaBiased,
    /// With heads of keys fewer than those of queries, and wider than C / H.
    Qwen3,
    Qwen3Classes,
}

use Family::*;

impl Family {
    pub(crate) const ALL: [Self; 16] = [
        Gpt2,
        Gpt2Own,
        Gpt2Classes,
        Gpt2Single,
        BertCausal,
        BertMasked,
        BertFirst,
        BertMean,
        BertSingle,
        VitFirst,
        VitMean,
        Llama,
        LlamaClasses,
        LlamaBiased,
        Qwen3,
        Qwen3Classes,
    ];

    /// Those that predict classes.
    pub(crate) fn of_classes() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|family| family.head().has_classes())
    }

    pub(crate) fn head(self) -> HeadSettings {
        match self {
            Gpt2 | BertCausal | LlamaBiased | Qwen3 => HeadSettings::NEXT_TOKEN,
            Gpt2Own | Llama => HeadSettings { output: Output::Own, ..HeadSettings::NEXT_TOKEN },
            BertMasked => {
                HeadSettings { objective: Objective::MaskedToken, ..HeadSettings::NEXT_TOKEN }
            }
            Gpt2Classes | LlamaClasses | Qwen3Classes => {
                HeadSettings::of_classes(CLASSES, Pooling::LastReal)
            }
            Gpt2Single => HeadSettings::of_classes(1, Pooling::LastPosition),
            BertFirst | VitFirst => HeadSettings::of_classes(CLASSES, Pooling::First),
            BertMean | VitMean => HeadSettings::of_classes(CLASSES, Pooling::Mean),
            BertSingle => HeadSettings::of_classes(1, Pooling::First),
        }
    }

    /// Four layers of width 12, with this head.
    pub(crate) fn with_head(self, head: HeadSettings) -> Arc<dyn Architecture> {
        self.of_form(Form { head, ..small().form })
    }

    /// Four layers that multiply their residual branches by these factors.
    pub(crate) fn scaled(self, factors: &[f64]) -> Arc<dyn Architecture> {
        self.of_form(Form { head: self.head(), residual_factors: factors.to_vec(), ..small().form })
    }

    /// Four layers that keep these parts of their blocks for themselves.
    pub(crate) fn keeping(self, keeps: Keeps) -> Arc<dyn Architecture> {
        self.of_form(Form { head: self.head(), keeps, ..small().form })
    }

    fn of_form(self, form: Form) -> Arc<dyn Architecture> {
        let small = small();
        let positions = TOKENS;
        let vocabulary = VOCABULARY;

        match self {
            Gpt2 | Gpt2Own | Gpt2Classes | Gpt2Single => Arc::new(Gpt2Model { form, ..small }),
            BertCausal | BertMasked | BertFirst | BertMean | BertSingle => {
                let attention =
                    if self == BertCausal { Attention::Causal } else { Attention::Full };
                Arc::new(Bert { form, positions, vocabulary, gelu: Gelu::Erf, attention })
            }
            VitFirst | VitMean => {
                Arc::new(Vit { form, picture: PICTURE, patch: PATCH, gelu: Gelu::Erf })
            }
            Llama | LlamaClasses => Arc::new(LlamaModel {
                form,
                key_heads: 1,
                head_width: 4,
                attention_bias: AttentionBias::None,
                feed_forward_bias: FeedForwardBias::None,
                positions,
                vocabulary,
                turning: Turning {
                    stretch: [if self == Llama { 1.0 } else { 4.0 }, 1.0, 4.0, 16.0],
                    ..Turning::plain(100.0)
                },
            }),
            LlamaBiased => Arc::new(LlamaModel {
                form,
                key_heads: 3,
                head_width: 6,
                attention_bias: AttentionBias::All,
                feed_forward_bias: FeedForwardBias::All,
                positions,
                vocabulary,
                turning: Turning {
                    kind: RotaryKind::Yarn,
                    stretch: [4.0, 1.0, 4.0, 16.0],
                    attention: 1.1,
                    ..Turning::plain(100.0)
                },
            }),
            Qwen3 | Qwen3Classes => Arc::new(Qwen3Model {
                decoder: LlamaModel {
                    form,
                    key_heads: 1,
                    head_width: 6,
                    attention_bias: if self == Qwen3 {
                        AttentionBias::None
                    } else {
                        AttentionBias::All
                    },
                    feed_forward_bias: FeedForwardBias::None,
                    positions,
                    vocabulary,
                    turning: Turning::plain(100.0),
                },
            }),
        }
    }

    pub(crate) fn drawn(self, binding: Binding, rules: Rules, kernels: Kernels) -> Model {
        self.drawn_scaled(&[], binding, rules, kernels)
    }

    /// The same with these factors of residual branches.
    pub(crate) fn drawn_scaled(
        self,
        factors: &[f64],
        binding: Binding,
        rules: Rules,
        kernels: Kernels,
    ) -> Model {
        let architecture = self.scaled(factors);
        Model::new(architecture, binding, rules, kernels, 7, &Device::Cpu)
            .expect("a small model fits")
    }

    /// Windows that a formula makes. For families that know padding, the first window is full and
    /// the others are padded.
    pub(crate) fn examples(self, windows: usize) -> Examples {
        let n = windows * TOKENS;
        let all = tokens(n + 1);
        let head = self.head();
        let is_picture = matches!(self, VitFirst | VitMean);
        let pads = head.has_classes() && !is_picture;
        let lengths = (0..windows).map(|window| TOKENS - (2 * window) % (TOKENS - 1));

        let classes = head.told_classes().max(1);

        Examples {
            windows,
            ids: if is_picture { Vec::new() } else { all[..n].to_vec() },
            types: matches!(self, BertFirst | BertMean)
                .then(|| (0..n).map(|at| u32::from(at % TOKENS > 3)).collect()),
            lengths: pads.then(|| lengths.collect()),
            padding: if matches!(self, Gpt2Single | BertSingle) {
                Padding::Seen
            } else {
                Padding::Hidden
            },
            pixels: if is_picture {
                (0..windows * 3 * PICTURE * PICTURE).map(pixel).collect()
            } else {
                Vec::new()
            },
            predicted: match head.objective {
                Objective::NextToken => Predicted::Every(all[1..].to_vec()),
                Objective::MaskedToken => {
                    Predicted::Some((0..n).map(|at| (at % 4 == 1).then(|| all[at])).collect())
                }
                Objective::Classes => Predicted::Classes(
                    (0..windows).map(|window| ((window * 5 + 1) % classes) as u32).collect(),
                ),
            },
        }
    }
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 3 + 5) % VOCABULARY as u32).collect()
}

fn pixel(at: usize) -> f32 {
    ((at * at * 7 + at * 13) % 29) as f32 / 14.0 - 1.0
}

/// What a model sees and is to predict.
#[derive(Clone, Debug)]
pub(crate) struct Examples {
    pub(crate) windows: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Option<Vec<u32>>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) padding: Padding,
    pub(crate) pixels: Vec<f32>,
    pub(crate) predicted: Predicted,
}

#[derive(Clone, Debug)]
pub(crate) enum Predicted {
    Every(Vec<u32>),
    Some(Vec<Option<u32>>),
    Classes(Vec<u32>),
}

impl Examples {
    pub(crate) fn batch(&self) -> Batch<'_> {
        let tokens = Tokens {
            ids: &self.ids,
            types: self.types.as_deref(),
            lengths: self.lengths.as_deref(),
            padding: self.padding,
        };

        Batch {
            input: if self.ids.is_empty() {
                Input::Pictures(&self.pixels)
            } else {
                Input::Tokens(tokens)
            },
            wanted: match &self.predicted {
                Predicted::Every(targets) => Wanted::Every(targets),
                Predicted::Some(targets) => Wanted::Some(targets),
                Predicted::Classes(labels) => Wanted::Classes(labels),
            },
            windows: self.windows,
        }
    }
}

/// Every gradient, shared ones first.
pub(crate) fn all(gradients: &Gradients) -> impl Iterator<Item = &Tensor> {
    gradients.shared.iter().chain(gradients.slots.values().flatten())
}

pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
    values.into_iter().map(f32::to_bits).collect()
}
