//! The transformer, and what it predicts.

use serde::{Deserialize, Serialize};

use super::Size;

/// The transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Which family of transformer.
    pub architecture: Architecture,
    /// What is predicted.
    pub objective: Objective,
    /// Which positions a token attends to.
    pub attention: Attention,
    /// Number of blocks, L.
    pub layers: usize,
    /// Width of the residual stream, C.
    pub width: usize,
    /// Attention heads, H. They divide the width, unless `head_width` is set.
    pub heads: usize,
    /// Heads of keys and values, G. They divide H; `auto` is H.
    pub key_heads: Size,
    /// Width of a head, D; `auto` is C / H.
    pub head_width: Size,
    /// Which projections of attention have a bias.
    pub attention_bias: AttentionBias,
    /// Whether the projections of the feed-forward layer have biases.
    pub feed_forward_bias: FeedForwardBias,
    /// Tokens that a token attends to, itself included. A window of text must not be longer, so a
    /// token sees all of it. `auto` sets no bound.
    pub attention_window: Size,
    /// Width of the feed-forward layer; `auto` is 4 C.
    pub feed_forward: Size,
    /// Tokens of one training window, T.
    pub context: usize,
    /// Rows of the position table: at least T, and for pictures exactly T; `auto` is T.
    pub positions: Size,
    /// Size of the vocabulary, V; `auto` is the tokenizer's.
    pub vocabulary: Size,
    /// The weights that turn hidden states into scores of tokens.
    pub output: Output,
    /// Classes of the objective `classes`, K. 1 is a single score: class 1 where it is above 0.
    /// `auto` is the data's.
    pub classes: Size,
    /// Which positions the objective `classes` reads.
    pub pooling: Pooling,
    /// Width and height of a picture, in pixels.
    pub picture: usize,
    /// Width and height of a patch, in pixels; divides those of the picture.
    pub patch: usize,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// How the rotary frequencies are stretched.
    pub rotary_kind: RotaryKind,
    /// Stretching of the rotary frequencies: factor, low and high bound, tokens of the original
    /// context. Under `llama3` and `linear` a factor of 1 does nothing.
    pub rotary_stretch: [f64; 4],
    /// Factor of rotated queries and keys under `yarn` and `longrope`.
    pub rotary_attention: f64,
    /// Divisors of `longrope`, one for each frequency: D / 2 numbers. Empty under other kinds.
    pub rotary_short: Vec<f64>,
    /// The same for texts longer than the original context.
    pub rotary_long: Vec<f64>,
    /// Activation of the feed-forward layer.
    pub gelu: Gelu,
    /// Epsilon of the layer norms.
    pub norm_epsilon: f64,
    /// Probability that dropout zeroes an activation.
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    pub initial_std: f64,
    /// Model whose weights a run starts from; empty draws them at random. Frozen layers would be
    /// drawn even then, so `tying.initial` must not freeze any.
    pub start: String,
    /// Whether the vocabulary may be larger than that of the model that a run starts from.
    pub start_vocabulary: StartVocabulary,
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
