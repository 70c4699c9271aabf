//! The transformer.

use super::{MOST, MOST_LAYERS, words_of};
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

pub(super) const MODEL: &[Field] = &[
    field!(
        model.architecture,
        words!(Architecture),
        "Family of transformer: gpt2 is a pre-norm decoder with learned positions, bert has post-norm blocks and token \
         types, vit sees patches of a picture, llama is a pre-norm decoder with rotary positions and gated feed-forward \
         layers."
    )
    .paper_says("GPT-2, BERT, ViT", "section 4; Table 5"),
    field!(
        model.objective,
        words!(Objective),
        "What is predicted: next-token, masked-token (tokens that were hidden from the model: perplexity is then a \
         pseudo-perplexity), or classes, one for each window."
    )
    .paper_says("next-token, classes for ViT and GLUE", "section 4; Tables 5 and 6"),
    field!(
        model.attention,
        words!(Attention),
        "Which positions a token attends to: causal is itself and those before it, full is all."
    )
    .paper_says("causal in BERT too: its results are perplexities", "Table 2")
    .code_does("causal in GPT-2 and BERT, full in ViT"),
    field!(model.layers, Values::Whole(1, MOST_LAYERS), "Number of blocks, L.")
        .unit_of("layers")
        .paper_says("48; 12 on Shakespeare", "Table 1 and section 4; Table 4"),
    field!(model.width, Values::Whole(1, MOST), "Width of the residual stream, C.")
        .unit_of("units")
        .paper_says("1600", "section 4"),
    field!(
        model.heads,
        Values::Whole(1, MOST),
        "Attention heads, H; divides the width, unless model.head_width is written."
    )
        .unit_of("heads")
        .paper_says("16", "section 4"),
    field!(
        model.key_heads,
        Values::WholeOrAuto(1, MOST),
        "Heads of keys and values in llama; divides the heads; auto is as many."
    )
    .unit_of("heads"),
    field!(
        model.head_width,
        Values::WholeOrAuto(1, MOST),
        "Width of a head in llama, D, which is even; auto is C / H."
    )
    .unit_of("units"),
    field!(
        model.attention_bias,
        words!(AttentionBias),
        "Which projections of attention have a bias in llama: none, inputs (those of queries, keys and values, as in \
         Qwen2), or all; auto is none in llama and all elsewhere."
    ),
    field!(
        model.feed_forward_bias,
        words!(FeedForwardBias),
        "Whether the projections of the feed-forward layer have biases in llama; auto is none in llama and all elsewhere."
    ),
    field!(
        model.attention_window,
        Values::WholeOrAuto(1, MOST),
        "Tokens that a token attends to in llama, with itself, as in Mistral. Windows of text must not be longer, so that \
         it is all of them; auto sets no bound."
    )
    .unit_of("tokens"),
    field!(model.feed_forward, Values::WholeOrAuto(1, MOST), "Width of the feed-forward layer; auto is 4 C.")
        .unit_of("units")
        .code_does("4 C"),
    field!(model.context, Values::Whole(2, MOST), "Tokens of one training window, T.")
        .unit_of("tokens")
        .paper_says("256", "Table 3")
        .code_does("1024 unless told otherwise"),
    field!(
        model.positions,
        Values::WholeOrAuto(2, MOST),
        "Rows of the table of positions, at least T, in vit exactly; auto is T."
    )
    .unit_of("tokens")
    .code_does("T + 1"),
    field!(
        model.vocabulary,
        Values::WholeOrAuto(2, MOST),
        "Size of the vocabulary, V; auto is the tokenizer's."
    )
    .unit_of("tokens")
    .paper_says("50257", "section 4, data sets"),
    field!(
        model.output,
        words!(Output),
        "Weights that turn hidden states into scores of tokens: tied is the token table, own a table beside it."
    )
    .code_does("tied"),
    field!(
        model.classes,
        Values::WholeOrAuto(1, MOST),
        "Classes of the objective classes, K; 1 is a single score for data of two classes, which says class 1 where it is \
         above 0; auto is the data's."
    )
    .unit_of("classes")
    .code_does("1 on GLUE"),
    field!(
        model.pooling,
        words!(Pooling),
        "Which positions the objective classes reads: the first (a class token), the last that is no padding, the last \
         whatever it is, or the mean of those that are no padding."
    )
    .code_does("first in ViT, last-position on GLUE"),
    field!(model.picture, Values::Whole(1, 1024), "Width and height of a picture in vit.")
        .unit_of("pixels")
        .code_does("224"),
    field!(
        model.patch,
        Values::Whole(1, 1024),
        "Width and height of a patch of a picture; divides the picture's."
    )
    .unit_of("pixels")
    .code_does("16"),
    field!(model.rotary_base, Values::Real(Interval::POSITIVE), "Base of the rotary frequencies in llama."),
    field!(
        model.rotary_kind,
        words!(RotaryKind),
        "How the rotary frequencies are stretched to longer contexts, as transformers names it: llama3 and yarn divide low \
         frequencies by a factor, linear all, longrope each by its own, dynamic raises the base in texts longer than the \
         original context; yarn-unrounded does not round yarn's bounds."
    ),
    field!(
        model.rotary_stretch,
        Values::Reals(4, Interval::POSITIVE),
        "Stretching of the rotary frequencies to longer contexts: factor, factor of the low and of the high bound, \
         tokens of the original context; under llama3 and linear a factor of 1 is none."
    ),
    field!(
        model.rotary_attention,
        Values::Real(Interval::POSITIVE),
        "Factor of turned queries and keys, under yarn and longrope; 1 elsewhere."
    ),
    field!(
        model.rotary_short,
        Values::RealList(Interval::POSITIVE),
        "What longrope divides each frequency by, D / 2 numbers; empty under other kinds."
    ),
    field!(
        model.rotary_long,
        Values::RealList(Interval::POSITIVE),
        "What longrope divides each frequency by in texts longer than the original context; empty under other kinds."
    ),
    field!(
        model.gelu,
        words!(Gelu),
        "Activation of the feed-forward layer: tanh is GPT-2's approximation, erf the exact function."
    )
    .code_does("erf"),
    field!(model.norm_epsilon, Values::Real(Interval::POSITIVE), "Added to the variance in a layer norm.")
        .code_does("1e-5 in GPT-2"),
    field!(
        model.dropout,
        Values::Real(Interval::BELOW_ONE),
        "Probability that dropout zeroes an activation in training."
    )
    .code_does("0.2 in GPT-2"),
    field!(
        model.initial_std,
        Values::Real(Interval::POSITIVE),
        "Standard deviation of the initial weights; residual projections of gpt2 and llama get 1 / sqrt(2 L) of it."
    ),
    field!(
        model.start,
        Values::MaybeText,
        "Model whose weights a run starts from: a run folder, a model file, a folder in Hugging Face's layout or \
         hf:OWNER/NAME; empty draws them. Parameters that it lacks are drawn, and so would be frozen layers, which \
         tying.initial must not ask for."
    ),
    field!(
        model.start_vocabulary,
        words!(StartVocabulary),
        "What the vocabulary is to that of model.start: same, or grow, where it may be larger: each further row of the \
         tables of tokens is the mean of the rows that there are."
    ),
];
