//! The rows of the table.

use serde::Serialize;

use super::{Field, Interval, Values, toml_value};
use crate::spec::*;

/// One row: the key and the way to read it come from the same path, so that they cannot differ.
macro_rules! field {
    ($section:ident . $name:ident, $values:expr, $meaning:literal) => {
        Field::new(
            concat!(stringify!($section), ".", stringify!($name)),
            |spec| toml_value(&spec.$section.$name),
            $values,
            $meaning,
        )
    };
    ($name:ident, $values:expr, $meaning:literal) => {
        Field::new(stringify!($name), |spec| toml_value(&spec.$name), $values, $meaning)
    };
}

/// The values that are the words of an enum.
macro_rules! words {
    ($name:ident) => {
        Values::Word(|| words_of($name::ALL))
    };
}

/// Deeper models are refused: the Q-network grows with the square of the depth.
const MOST_LAYERS: usize = 4096;
/// The greatest size that every index type on the way holds.
const MOST: usize = i32::MAX as usize;
/// The greatest whole number of TOML.
const MOST_OF_TOML: usize = i64::MAX as usize;

const GROUPING: Values = Values::Grouping(|| words_of(InitialName::ALL));

/// Every field of a spec, in the order of a spec file.
pub const FIELDS: &[Field] = &[
    field!(
        schema,
        Values::Whole(SPEC_SCHEMA as usize, SPEC_SCHEMA as usize),
        "Version of the layout of this file."
    ),
    field!(name, Values::Name, "Name of the run; its folder is runs/NAME-SEED."),
    field!(seed, Values::Whole(0, MOST_OF_TOML), "Root seed of every random stream."),
    // The transformer.
    field!(
        model.architecture,
        words!(Architecture),
        "Family of transformer: gpt2 is a pre-norm decoder with learned positions and a tied output head."
    )
    .paper_says("GPT-2, BERT", "section 4"),
    field!(model.layers, Values::Whole(1, MOST_LAYERS), "Number of blocks, L.")
        .unit_of("layers")
        .paper_says("48; 12 on Shakespeare", "Table 1 and section 4; Table 4"),
    field!(model.width, Values::Whole(1, MOST), "Width of the residual stream, C.")
        .unit_of("units")
        .paper_says("1600", "section 4"),
    field!(model.heads, Values::Whole(1, MOST), "Attention heads, H; divides the width.")
        .unit_of("heads")
        .paper_says("16", "section 4"),
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
        "Rows of the table of positions, at least T; auto is T."
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
        "Standard deviation of the initial weights; residual projections get 1 / sqrt(2 L) of it."
    ),
    // Tokens.
    field!(
        data.source,
        Values::Text,
        "Name of a data set of `dlt data list` (shakespeare is shipped), hf:OWNER/NAME[:CONFIG][:COLUMN], or path of \
         a file of text or rows or of a folder of them; NAME@REVISION pins a commit."
    )
    .paper_says("WikiText-2, WikiText-103, LAMBADA, 1-Billion-Word; Shakespeare", "Table 1; Table 4"),
    field!(data.tokenizer, Values::Text, "gpt2, bytes, hf:OWNER/NAME, or path of a tokenizer.json.")
        .paper_says("GPT-2's", "section 4, data sets"),
    field!(
        data.split,
        Values::Reals(3, Interval::FRACTION),
        "Fractions of a single text that train, validate and test; contiguous, in this order; their sum is \
         1."
    ),
    field!(
        data.pipeline,
        words!(Pipeline),
        "How a text becomes windows: stream is one run of tokens cut into windows of T + 1 that overlap by \
         one; blocks is the authors': T - 1 tokens after BOS, labels ended with EOS."
    )
    .code_does("blocks"),
    field!(
        data.order,
        words!(Order),
        "In which order windows are visited: pass shuffles all of them once a pass; sweep starts a fresh \
         shuffle at each visit of a layer and at each reward."
    )
    .code_does("sweep when layers are tied, pass when they are not"),
    // Length.
    field!(
        training.steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Training steps; auto is epochs full passes."
    )
    .unit_of("steps"),
    field!(
        training.epochs,
        Values::Whole(1, MOST),
        "Full passes over the training split, where steps is auto."
    )
    .unit_of("passes")
    .paper_says("300", "section 4")
    .code_does("200 unless told otherwise, where tied training counts (L - 1) x 4 steps as one"),
    field!(training.batch, Values::Whole(1, MOST), "Windows of one training step, B.")
        .unit_of("windows")
        .paper_says("16", "section 4, Table 3")
        .code_does("20 unless told otherwise"),
    field!(
        training.micro_batch,
        Values::WholeOrAuto(1, MOST),
        "Windows in memory at once; divides the batch; auto is the batch."
    )
    .unit_of("windows"),
    field!(
        training.checkpointing,
        words!(Checkpointing),
        "What is kept between forward and backward: none keeps all activations; block keeps each block's \
         input and computes the rest again."
    ),
    field!(
        training.non_finite,
        words!(NonFinite),
        "What becomes of a step whose loss or gradient is not a finite number: stop ends the run with the \
         last checkpoint intact; skip leaves weights and moments as they are and counts the step."
    ),
    // Evaluation.
    field!(
        evaluation.every_steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Steps between two validations; auto is once a pass."
    )
    .unit_of("steps"),
    field!(
        evaluation.batch,
        Values::WholeOrAuto(1, MOST),
        "Windows of an evaluation batch; auto is the training batch."
    )
    .unit_of("windows")
    .code_does("10 unless told otherwise"),
    field!(
        evaluation.windows,
        Values::WholeOrAuto(1, MOST),
        "Windows of the validation split that are used during training; auto is all."
    )
    .unit_of("windows"),
    field!(
        evaluation.select_on,
        words!(Selection),
        "Which split chooses the model: always validation; validation-and-test also reports the perplexity \
         that choosing on the test split would have given."
    )
    .paper_says("a separate validation set", "section 4")
    .code_does("the test split"),
    // Checkpoints.
    field!(
        checkpoint.every_steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Steps between two checkpoints, from which a run is resumed; auto leaves it to every_minutes. One is \
         always made at the end, and when a run is interrupted."
    )
    .unit_of("steps"),
    field!(
        checkpoint.every_minutes,
        Values::Real(Interval::POSITIVE_OR_INF),
        "Minutes between two checkpoints, beside every_steps; inf leaves it to every_steps."
    )
    .unit_of("minutes"),
    field!(checkpoint.keep_last, Values::Whole(1, MOST), "Checkpoints that are kept, the newest ones.")
        .unit_of("checkpoints"),
    // Optimizer.
    field!(optimizer.learning_rate, Values::Real(Interval::POSITIVE), "Peak learning rate of AdamW.")
        .paper_says("1e-4", "section 4"),
    field!(optimizer.beta1, Values::Real(Interval::BELOW_ONE), "Decay of the first moment.").code_does("0.9"),
    field!(optimizer.beta2, Values::Real(Interval::BELOW_ONE), "Decay of the second moment.")
        .code_does("0.999"),
    field!(optimizer.epsilon, Values::Real(Interval::POSITIVE), "Added to the root of the second moment.")
        .code_does("1e-8"),
    field!(optimizer.weight_decay, Values::Real(Interval::NOT_NEGATIVE), "Decoupled weight decay.")
        .code_does("0.01"),
    field!(
        optimizer.decayed,
        words!(Decayed),
        "Which parameters decay: all, or matrices, those of at least two dimensions."
    )
    .code_does("all, norms, biases and embeddings too"),
    field!(
        optimizer.clip_norm,
        Values::Real(Interval::POSITIVE_OR_INF),
        "Global norm to which gradients are clipped; inf is never."
    )
    .code_does("1.0"),
    field!(
        optimizer.schedule,
        words!(Schedule),
        "Learning rate after warm-up: constant, or cosine, half a cosine from the peak to final_share of \
         it."
    ),
    field!(optimizer.warmup_steps, Values::Whole(0, MOST_OF_TOML), "Steps of linear warm-up.")
        .unit_of("steps"),
    field!(
        optimizer.final_share,
        Values::Real(Interval::SHARE),
        "Last learning rate of the cosine schedule, as a share of the peak."
    ),
    // Tying.
    field!(
        tying.initial,
        GROUPING,
        "Grouping before the first decision: frozen trains layer 0 while the others keep their own random \
         weights; independent, tied, cycle, cycle-reversed and sequence are fixed groupings."
    )
    .paper_says(
        "frozen; ablations: independent, cycle, cycle-reversed, sequence",
        "Alg. 1 line 2; Table 4 (vi) to (ix)",
    ),
    field!(
        tying.decision,
        words!(Decision),
        "What one decision covers: joint is the whole action vector, per-layer one layer in turn 1, 2, \
         ..., L - 1."
    )
    .paper_says("joint", "Alg. 1 line 8")
    .code_does("per-layer"),
    field!(tying.decide_every, Values::Whole(1, MOST_OF_TOML), "Steps between two decisions, k.")
        .unit_of("steps")
        .paper_says("15", "section 4, Alg. 1 line 7")
        .code_does("4 (language), 10 (vision), 15 (question answering)"),
    field!(
        tying.decide_until,
        Values::Real(Interval::SHARE),
        "Share of training after which the state stays as it is; 1 decides to the end."
    )
    .paper_says("never stops", "Alg. 1 line 4"),
    field!(
        tying.first_decision,
        words!(FirstDecision),
        "When the first decision is made: after k steps, after the first training step, or before it."
    )
    .paper_says("after-k in the text, at-step-0 in the algorithm", "section 3; Alg. 1 line 7")
    .code_does("before-first-step"),
    field!(
        tying.first_tie,
        words!(FirstTie),
        "A frozen layer whose owner stays layer 0 at its first decision: replicate gives it its owner's \
         weights, literal leaves it until its state changes."
    )
    .paper_says("replicate in the text, literal in the algorithm", "section 3 (iii); Alg. 1 line 11")
    .code_does("replicate, at its visit"),
    field!(
        tying.gradient,
        words!(Gradient),
        "Positions that add to the gradient of shared weights: sum is every one, owner only those that the \
         state calls independent."
    )
    .paper_says("sum: the weights are tied", "Alg. 1 line 16")
    .code_does("owner"),
    field!(
        tying.untie,
        words!(Untie),
        "What untying does to the weights: copy gives the layer its own, alias goes on sharing storage \
         with an optimizer state of its own."
    )
    .paper_says("copy", "Alg. 1 line 13")
    .code_does("alias"),
    field!(
        tying.retied,
        words!(Retied),
        "A layer whose owner is tied to another layer: follow goes along, keep stays on the old owner's \
         storage."
    )
    .paper_says("follow", "Eq. 1")
    .code_does("keep"),
    field!(
        tying.moments,
        words!(Moments),
        "Optimizer moments of a layer that becomes independent: fresh zeros, inherited from its owner, or \
         its own from last time."
    )
    .code_does("resume"),
    field!(
        tying.group_rate,
        words!(GroupRate),
        "Learning rate of weights that several layers train: the same as any other's, or divided by the \
         square root of their number, or by their number."
    )
    .code_does("same"),
    field!(
        tying.state_vector,
        words!(StateVector),
        "What the policy sees: canonical is the state of Eq. 1, raw the action of each layer's last \
         visit."
    )
    .paper_says("canonical", "Eq. 1, Alg. 1 line 9")
    .code_does("raw"),
    // Agent.
    field!(
        agent.policy,
        words!(PolicyKind),
        "Who decides: none leaves the initial grouping; q is epsilon-greedy under the Q-network; random, \
         fixed, replay and permuted-replay are the baselines."
    )
    .paper_says("q; ablations: replay, permuted-replay", "Eq. 2; Table 4 (iii), (iv)"),
    field!(agent.pattern, GROUPING, "Grouping that the policy fixed asks for; frozen is none."),
    field!(
        agent.recording,
        Values::MaybeText,
        "Path of the states.jsonl that replay and permuted-replay follow; empty where neither is used."
    ),
    field!(
        agent.permutation,
        Values::Layers,
        "Layer permutation of permuted-replay: what layer i was, layer permutation[i] becomes; empty \
         draws one from the seed."
    ),
    field!(
        agent.network,
        words!(Network),
        "Layout of the Q-network: paper has L - 1 inputs and (L + 2)(L - 1) / 2 outputs, reference L and L \
         (L + 1) / 2 and explores as the authors' code does."
    )
    .paper_says("paper", "section 3, after Eq. 3")
    .code_does("reference"),
    field!(agent.hidden, Values::Whole(1, MOST), "Units of the hidden ReLU layer of Q.")
        .unit_of("units")
        .paper_says("128", "section 4"),
    field!(agent.learning_rate, Values::Real(Interval::POSITIVE), "Learning rate of Q's AdamW.")
        .paper_says("1e-3", "section 4"),
    field!(agent.weight_decay, Values::Real(Interval::NOT_NEGATIVE), "Decoupled weight decay of Q.")
        .code_does("0.01"),
    field!(agent.gamma, Values::Real(Interval::SHARE), "Discount factor.").paper_says("0.99", "section 4"),
    field!(
        agent.epsilon_start,
        Values::Real(Interval::SHARE),
        "First exploration probability; at least the floor."
    )
    .paper_says("1.0", "section 4"),
    field!(
        agent.epsilon_decay,
        Values::Real(Interval::FACTOR),
        "Factor of each decay of the exploration probability."
    )
    .paper_says("0.95", "section 4, Alg. 1 line 27"),
    field!(agent.epsilon_floor, Values::Real(Interval::SHARE), "Least exploration probability.")
        .paper_says("0.1", "section 4, Alg. 1 line 27")
        .code_does("0.01 (language), 0.1 (vision)"),
    field!(
        agent.epsilon_decay_per,
        words!(DecayPer),
        "How often exploration decays: at every decision, or once the last layer of a sweep was visited."
    )
    .paper_says("decision", "Alg. 1 line 27")
    .code_does("sweep"),
    field!(
        agent.state_scaling,
        words!(Scaling),
        "Scaling of the state at the input of Q: none is 0 to L - 1, unit 0 to 1."
    )
    .paper_says("none", "section 3, after Eq. 3"),
    field!(
        agent.reward,
        words!(Reward),
        "What a decision is rewarded with: negative perplexity, the same clipped to [-10, 10], negative \
         mean cross-entropy, or the fall of the loss since the decision before."
    )
    .paper_says("neg-ppl", "Alg. 1 line 21")
    .code_does("neg-ppl-clipped: constant until perplexity falls below 10"),
    field!(
        agent.reward_batches,
        Values::Whole(1, MOST),
        "Fresh training batches that a reward is measured on, dropout off."
    )
    .unit_of("batches")
    .paper_says("1", "Alg. 1 line 20"),
    field!(
        agent.reward_timing,
        words!(RewardTiming),
        "When the reward is measured: right after tying, or after the training steps that follow the \
         decision."
    )
    .paper_says("at-once", "Alg. 1 lines 20 and 21")
    .code_does("after-steps"),
];

/// The words of an enum, as a spec file has them.
fn words_of<T: Serialize>(all: &[T]) -> Vec<String> {
    let word = |value| toml::Value::try_from(value).ok().and_then(|word| word.as_str().map(str::to_owned));
    all.iter().filter_map(word).collect()
}
