//! The transformer.

use super::{MOST, MOST_LAYERS, words_of};
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

pub(super) const MODEL: &[Field] = &[
    field!(
        model.architecture,
        words!(Architecture),
        "Family of transformer. gpt2: a pre-norm decoder with learned positions. bert: post-norm \
         blocks and token types. vit: patches of a picture. llama: a pre-norm decoder with rotary \
         positions and gated feed-forward layers. qwen3: as llama, with norms of each head."
    )
    .paper_says("GPT-2, BERT, ViT", "section 4; Table 5"),
    field!(
        model.objective,
        words!(Objective),
        "What is predicted. next-token: the token that follows. masked-token: tokens that are \
         hidden from the model; its perplexity is a pseudo-perplexity. classes: one class for each \
         window."
    )
    .paper_says("next-token, classes for ViT and GLUE", "section 4; Tables 5 and 6"),
    field!(
        model.attention,
        words!(Attention),
        "Positions that a token attends to. causal: itself and all before it. full: all."
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
        "Attention heads, H. They divide the width, unless model.head_width is set."
    )
    .unit_of("heads")
    .paper_says("16", "section 4"),
    field!(
        model.key_heads,
        Values::WholeOrAuto(1, MOST),
        "Heads of keys and values in llama and qwen3. They divide the heads; auto is the same number."
    )
    .unit_of("heads"),
    field!(
        model.head_width,
        Values::WholeOrAuto(1, MOST),
        "Width of a head in llama and qwen3, D. It is even; auto is C / H."
    )
    .unit_of("units"),
    field!(
        model.attention_bias,
        words!(AttentionBias),
        "Projections of attention that have a bias in llama and qwen3: none, inputs (queries, keys \
         and values, as in Qwen2), or all. auto is none there and all elsewhere."
    ),
    field!(
        model.feed_forward_bias,
        words!(FeedForwardBias),
        "Whether the projections of the feed-forward layer have biases in llama. auto is none in \
         llama and qwen3, and all elsewhere."
    ),
    field!(
        model.attention_window,
        Values::WholeOrAuto(1, MOST),
        "Tokens that a token attends to in llama and qwen3, itself included, as in Mistral. A \
         window of text must not be longer, so a token sees all of it. auto sets no bound."
    )
    .unit_of("tokens"),
    field!(
        model.feed_forward,
        Values::WholeOrAuto(1, MOST),
        "Width of the feed-forward layer; auto is 4 C."
    )
    .unit_of("units")
    .code_does("4 C"),
    field!(model.context, Values::Whole(2, MOST), "Tokens of one training window, T.")
        .unit_of("tokens")
        .paper_says("256", "Table 3")
        .code_does("1024 by default"),
    field!(
        model.positions,
        Values::WholeOrAuto(2, MOST),
        "Rows of the table of positions: at least T, in vit exactly T. auto is T."
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
        "Weights that turn hidden states into scores of tokens. tied: the token table. own: a \
         separate table."
    )
    .code_does("tied"),
    field!(
        model.classes,
        Values::WholeOrAuto(1, MOST),
        "Classes of the objective classes, K. 1 is a single score for data of two classes: class 1 \
         where it is above 0. auto is the data's."
    )
    .unit_of("classes")
    .code_does("1 on GLUE"),
    field!(
        model.pooling,
        words!(Pooling),
        "Positions that the objective classes reads. first: the first one, a class token. \
         last-real: the last one that is not padding. last-position: the last one, padding or not. \
         mean: the mean of all that are not padding."
    )
    .code_does("first in ViT, last-position on GLUE"),
    field!(model.picture, Values::Whole(1, 1024), "Width and height of a picture in vit.")
        .unit_of("pixels")
        .code_does("224"),
    field!(
        model.patch,
        Values::Whole(1, 1024),
        "Width and height of a patch of a picture. Divides those of the picture."
    )
    .unit_of("pixels")
    .code_does("16"),
    field!(
        model.rotary_base,
        Values::Real(Interval::POSITIVE),
        "Base of the rotary frequencies in llama and qwen3."
    ),
    field!(
        model.rotary_kind,
        words!(RotaryKind),
        "How the rotary frequencies are stretched to longer contexts, under the names of \
         transformers. llama3 and yarn divide low frequencies by a factor, linear divides all of \
         them, longrope each by its own factor. dynamic raises the base in texts longer than the \
         original context. yarn-unrounded does not round the bounds of yarn."
    ),
    field!(
        model.rotary_stretch,
        Values::Reals(4, Interval::POSITIVE),
        "Stretching of the rotary frequencies to longer contexts: the factor, the factors of the \
         low and of the high bound, and the tokens of the original context. Under llama3 and \
         linear a factor of 1 does nothing."
    ),
    field!(
        model.rotary_attention,
        Values::Real(Interval::POSITIVE),
        "Factor of rotated queries and keys under yarn and longrope. 1 elsewhere."
    ),
    field!(
        model.rotary_short,
        Values::RealList(Interval::POSITIVE),
        "Divisors of longrope, one for each frequency: D / 2 numbers. Empty under other kinds."
    ),
    field!(
        model.rotary_long,
        Values::RealList(Interval::POSITIVE),
        "Divisors of longrope in texts longer than the original context, one for each frequency. \
         Empty under other kinds."
    ),
    field!(
        model.gelu,
        words!(Gelu),
        "Activation of the feed-forward layer. tanh is GPT-2's approximation, erf is the exact \
         function."
    )
    .code_does("erf"),
    field!(
        model.norm_epsilon,
        Values::Real(Interval::POSITIVE),
        "Added to the variance in a layer norm."
    )
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
        "Standard deviation of the initial weights. Residual projections of gpt2, llama and qwen3 \
         get 1 / sqrt(2 L) of it."
    ),
    field!(
        model.start,
        Values::MaybeText,
        "Model whose weights the run starts from: a run folder, a model file, a folder in Hugging \
         Face's layout, or hf:OWNER/NAME. Empty draws them at random. Parameters that the model \
         lacks are drawn too. Frozen layers would also be drawn, so tying.initial must not be \
         frozen."
    ),
    field!(
        model.start_vocabulary,
        words!(StartVocabulary),
        "Size of the vocabulary compared with that of model.start. same: equal. grow: it may be \
         larger, and each further row of the tables of tokens is the mean of the existing rows."
    ),
];
