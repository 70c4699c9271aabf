//! The transformer, and what it predicts.

use serde::{Deserialize, Serialize};

use super::{MOST, Size};
use crate::fields::{Interval, Values};

/// Deeper models are refused: the Q-network grows with the square of the depth.
const MOST_LAYERS: usize = 4096;

/// Families with rotary positions. They also have grouped heads of keys, a choice of biases, and
/// gated feed-forward layers.
pub(crate) const ROTARY: &[Architecture] = &[Architecture::Llama, Architecture::Qwen3];
/// Families with a feed-forward layer of two projections, which has a choice of activations.
const UNGATED: &[Architecture] = &[Architecture::Gpt2, Architecture::Bert, Architecture::Vit];
/// Families that read pictures.
const PICTURES: &[Architecture] = &[Architecture::Vit];

section! {
    /// The transformer.
    ModelSpec in [model.] {
        /// Family of transformer. gpt2: a pre-norm decoder with learned positions. bert: post-norm
        /// blocks and token types. vit: patches of a picture. llama: a pre-norm decoder with rotary
        /// positions and gated feed-forward layers. qwen3: as llama, with norms of each head.
        architecture: Architecture = Architecture::Gpt2, Architecture::WORDS,
            paper_says("GPT-2, BERT, ViT", "section 4; Table 5");
        /// What is predicted. next-token: the token that follows. masked-token: tokens that are
        /// hidden from the model; its perplexity is a pseudo-perplexity. classes: one class for
        /// each window.
        objective: Objective = Objective::NextToken, Objective::WORDS,
            paper_says("next-token, classes for ViT and GLUE", "section 4; Tables 5 and 6");
        /// Positions that a token attends to. causal: itself and all before it. full: all.
        attention: Attention = Attention::Causal, Attention::WORDS,
            paper_says("causal in BERT too: its results are perplexities", "Table 2"),
            code_does("causal in GPT-2 and BERT, full in ViT");
        /// Number of blocks, L.
        layers: usize = 12, Values::Whole(1, MOST_LAYERS), unit_is("layers"),
            paper_says("48; 12 on Shakespeare", "Table 1 and section 4; Table 4");
        /// Width of the residual stream, C.
        width: usize = 128, Values::Whole(1, MOST), unit_is("units"),
            paper_says("1600", "section 4");
        /// Attention heads, H. They divide the width, unless model.head_width is set.
        heads: usize = 4, Values::Whole(1, MOST), unit_is("heads"), paper_says("16", "section 4");
        /// Heads of keys and values in llama and qwen3. They divide the heads; auto is the same
        /// number.
        key_heads: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("heads"),
            used_by(ROTARY);
        /// Width of a head in llama and qwen3, D. It is even; auto is C / H.
        head_width: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("units"), only(ROTARY);
        /// Projections of attention that have a bias in llama and qwen3: none, inputs (queries, keys
        /// and values, as in Qwen2), or all. auto is none there and all elsewhere.
        attention_bias: AttentionBias = AttentionBias::Auto, AttentionBias::WORDS, only(ROTARY);
        /// Whether the projections of the feed-forward layer have biases in llama and qwen3. auto is
        /// none there and all elsewhere.
        feed_forward_bias: FeedForwardBias = FeedForwardBias::Auto, FeedForwardBias::WORDS,
            only(ROTARY);
        /// Tokens that a token attends to in llama and qwen3, itself included, as in Mistral. A
        /// window of text must not be longer, so a token sees all of it. auto sets no bound.
        attention_window: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("tokens"),
            only(ROTARY);
        /// Width of the feed-forward layer; auto is 4 C.
        feed_forward: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("units"),
            code_does("4 C");
        /// Tokens of one training window, T.
        context: usize = 128, Values::Whole(2, MOST), unit_is("tokens"),
            paper_says("256", "Table 3"), code_does("1024 by default");
        /// Rows of the table of positions: at least T, in vit exactly T. auto is T.
        positions: Size = Size::AUTO, Values::WholeOrAuto(2, MOST), unit_is("tokens"),
            code_does("T + 1");
        /// Size of the vocabulary, V; auto is the tokenizer's.
        vocabulary: Size = Size::AUTO, Values::WholeOrAuto(2, MOST), unit_is("tokens"),
            paper_says("50257", "section 4, data sets");
        /// Weights that turn hidden states into scores of tokens. tied: the token table. own: a
        /// separate table.
        output: Output = Output::Tied, Output::WORDS, code_does("tied");
        /// Classes of the objective classes, K. 1 is a single score for data of two classes: class
        /// 1 where it is above 0. auto is the data's.
        classes: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("classes"),
            code_does("1 on GLUE");
        /// Positions that the objective classes reads. first: the first one, a class token.
        /// last-real: the last one that is not padding. last-position: the last one, padding or
        /// not. mean: the mean of all that are not padding.
        pooling: Pooling = Pooling::LastReal, Pooling::WORDS,
            code_does("first in ViT, last-position on GLUE");
        /// Width and height of a picture in vit.
        picture: usize = 32, Values::Whole(1, 1024), unit_is("pixels"), code_does("224"),
            used_by(PICTURES);
        /// Width and height of a patch of a picture. Divides those of the picture.
        patch: usize = 4, Values::Whole(1, 1024), unit_is("pixels"), code_does("16"),
            used_by(PICTURES);
        /// Base of the rotary frequencies in llama and qwen3.
        rotary_base: f64 = 1e4, Values::Real(Interval::POSITIVE), used_by(ROTARY);
        /// How the rotary frequencies are stretched to longer contexts, under the names of
        /// transformers. llama3 and yarn divide low frequencies by a factor, linear divides all of
        /// them, longrope each by its own factor. dynamic raises the base in texts longer than the
        /// original context. yarn-unrounded does not round the bounds of yarn.
        rotary_kind: RotaryKind = RotaryKind::Llama3, RotaryKind::WORDS, only(ROTARY);
        /// Stretching of the rotary frequencies to longer contexts: the factor, the factors of the
        /// low and of the high bound, and the tokens of the original context. Under llama3 and
        /// linear a factor of 1 does nothing.
        rotary_stretch: [f64; 4] = [1.0, 1.0, 4.0, 8192.0], Values::Reals(4, Interval::POSITIVE),
            used_by(ROTARY);
        /// Factor of rotated queries and keys under yarn and longrope. 1 elsewhere.
        rotary_attention: f64 = 1.0, Values::Real(Interval::POSITIVE), used_by(ROTARY);
        /// Divisors of longrope, one for each frequency: D / 2 numbers. Empty under other kinds.
        rotary_short: Vec<f64> = Vec::new(), Values::RealList(Interval::POSITIVE), used_by(ROTARY);
        /// Divisors of longrope in texts longer than the original context, one for each frequency.
        /// Empty under other kinds.
        rotary_long: Vec<f64> = Vec::new(), Values::RealList(Interval::POSITIVE), used_by(ROTARY);
        /// Activation of the feed-forward layer. tanh is GPT-2's approximation, erf is the exact
        /// function.
        gelu: Gelu = Gelu::Tanh, Gelu::WORDS, code_does("erf"), used_by(UNGATED);
        /// Added to the variance in a layer norm.
        norm_epsilon: f64 = 1e-5, Values::Real(Interval::POSITIVE), code_does("1e-5 in GPT-2");
        /// Probability that dropout zeroes an activation in training.
        dropout: f64 = 0.0, Values::Real(Interval::BELOW_ONE), code_does("0.2 in GPT-2");
        /// Standard deviation of the initial weights. Residual projections of gpt2, llama
        /// and qwen3 get 1 / sqrt(2 L) of it.
        initial_std: f64 = 0.02, Values::Real(Interval::POSITIVE);
        /// Model whose weights the run starts from: a run folder, a model file, a folder in Hugging
        /// Face's layout, or hf:OWNER/NAME. Empty draws them at random. Parameters that the model
        /// lacks are drawn too. Frozen layers would also be drawn, so tying.initial must not be
        /// frozen.
        start: String = String::new(), Values::MaybeText;
        /// Size of the vocabulary compared with that of model.start. same: equal. grow: it may be
        /// larger, and each further row of the tables of tokens is the mean of the existing rows.
        start_vocabulary: StartVocabulary = StartVocabulary::Same, StartVocabulary::WORDS;
    }
}

words! {
    /// Size of the vocabulary compared with that of the model whose weights a run starts from.
    StartVocabulary {
        /// The same size.
        Same,
        /// It may be larger. Each further row of the tables of tokens is the mean of the existing
        /// rows.
        Grow,
    }
}

words! {
    /// Families of transformer.
    Architecture {
        /// Pre-norm decoder with learned positions.
        Gpt2,
        /// Post-norm blocks, learned positions and token types, an output head with a transform.
        Bert,
        /// Pre-norm blocks over patches of a picture, with a class token.
        Vit,
        /// Pre-norm decoder with root-mean-square norms, rotary positions, gated feed-forward
        /// layers.
        Llama,
        /// As llama, with norms of each head of queries and of keys.
        Qwen3,
    }
}

impl Architecture {
    /// The family's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Bert => "BERT",
            Self::Vit => "ViT",
            Self::Llama => "Llama",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// Whether positions rotate queries and keys. Such a family has no table of positions; its
    /// heads may be grouped and have any even width, and its projections have no biases by default.
    #[must_use]
    pub fn is_rotary(self) -> bool {
        ROTARY.contains(&self)
    }

    /// Which positions its tokens attend to; `None` if that depends on what is predicted.
    pub(crate) fn attention(self) -> Option<Attention> {
        match self {
            Self::Gpt2 | Self::Llama | Self::Qwen3 => Some(Attention::Causal),
            Self::Vit => Some(Attention::Full),
            Self::Bert => None,
        }
    }
}

words! {
    /// Which projections of attention have a bias.
    AttentionBias {
        /// As the family has it: none in llama, all elsewhere.
        Auto,
        /// None.
        None,
        /// Those of queries, keys and values, as Qwen2 has them.
        Inputs,
        /// Those, and that of the output.
        All,
    }
}

words! {
    /// Whether the projections of the feed-forward layer have biases.
    FeedForwardBias {
        /// As the family has it: none in llama, all elsewhere.
        Auto,
        /// None has.
        None,
        /// All have.
        All,
    }
}

words! {
    /// How rotary frequencies are stretched to longer contexts. The words are those of
    /// transformers.
    RotaryKind {
        /// Low frequencies are divided by the factor, high ones stay. The bounds count waves in the
        /// original context.
        #[serde(rename = "llama3")]
        Llama3,
        /// All frequencies are divided by the factor.
        Linear,
        /// In texts longer than the original context the base grows with their length.
        Dynamic,
        /// As `llama3`, but the bounds count frequencies and are rounded outwards, and queries and
        /// keys are multiplied by `rotary_attention`.
        Yarn,
        /// `yarn` with bounds that are not rounded.
        YarnUnrounded,
        /// Each frequency is divided by its own factor, and by another one in texts longer than the
        /// original context.
        #[serde(rename = "longrope")]
        LongRope,
    }
}

words! {
    /// What is predicted (DEVIATIONS row 14).
    Objective {
        /// The token that follows, at each position.
        NextToken,
        /// Tokens that are hidden from the model.
        MaskedToken,
        /// One class for each window.
        Classes,
    }
}

words! {
    /// Which positions a token attends to.
    Attention {
        /// Itself and everything before it.
        Causal,
        /// Every position.
        Full,
    }
}

words! {
    /// Which positions the objective `classes` reads (DEVIATIONS row 24).
    Pooling {
        /// The first one: a class token.
        First,
        /// The last one that is not padding.
        LastReal,
        /// The last one, padding or not.
        LastPosition,
        /// The mean of all that are not padding.
        Mean,
    }
}

words! {
    /// The weights that turn hidden states into scores of tokens.
    Output {
        /// The token table.
        Tied,
        /// A separate table.
        Own,
    }
}

words! {
    /// Activation of the feed-forward layer (DEVIATIONS row 23).
    Gelu {
        /// The tanh approximation, GPT-2's own.
        Tanh,
        /// The exact function, by the error function.
        Erf,
    }
}
