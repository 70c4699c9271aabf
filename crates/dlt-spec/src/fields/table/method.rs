//! Tying, and who decides.

use super::{MOST, MOST_OF_TOML, words_of};
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

const GROUPING: Values = Values::Grouping(|| words_of(InitialName::ALL));

pub(super) const METHOD: &[Field] = &[
    field!(
        tying.initial,
        GROUPING,
        "Grouping before the first decision. frozen trains layer 0 while the others keep their own \
         random weights. trainable trains all layers while the state is 0. independent, tied, \
         cycle, cycle-reversed, cycle-reversed-as-written and sequence are fixed groupings."
    )
    .paper_says(
        "frozen; ablations: trainable, cycle, cycle-reversed-as-written, sequence",
        "Alg. 1 line 2; Table 4 (vi) to (ix)",
    ),
    field!(
        tying.decision,
        words!(Decision),
        "What one decision covers. joint: the whole action vector. per-layer: one layer, in turn \
         1, 2, ..., L - 1. split: one group is divided in two at the times of tying.grow. swap: \
         the same, and after the last split each decision joins two groups and divides one. \
         single: the one layer whose change promises most, or none."
    )
    .paper_says("joint", "Alg. 1 line 8")
    .code_does("per-layer"),
    field!(
        tying.decide_every,
        Values::Whole(1, MOST_OF_TOML),
        "Steps or passes between two decisions, k; see tying.decide_unit."
    )
    .unit_of("steps or passes")
    .paper_says("15", "section 4, Alg. 1 line 7")
    .code_does("4 (language), 10 (vision), 15 (question answering)"),
    field!(
        tying.decide_unit,
        words!(DecideUnit),
        "Unit of tying.decide_every: training steps, or passes over the training split."
    )
    .paper_says(
        "training steps in section 3; \"every few epochs\" in section 4",
        "sections 3 and 4",
    )
    .code_does("steps"),
    field!(
        tying.decide_until,
        Values::Real(Interval::SHARE),
        "Share of training after which the state no longer changes. 1 decides to the end."
    )
    .paper_says("never stops", "Alg. 1 line 4"),
    field!(
        tying.first_decision,
        words!(FirstDecision),
        "Time of the first decision: after k steps, after the first training step, or before it."
    )
    .paper_says("after-k in the text, at-step-0 in the algorithm", "section 3; Alg. 1 line 7")
    .code_does("before-first-step"),
    field!(
        tying.grow,
        Values::RealList(Interval::FRACTION),
        "Times of splits, as shares of training. At each of them one group becomes two. Empty \
         where nothing is split."
    ),
    field!(
        tying.groups,
        Values::WholeOrAuto(1, MOST),
        "Largest number of groups that splits lead to. auto is the number of layers."
    ),
    field!(
        tying.budget,
        Values::Real(Interval::FACTOR),
        "Largest number of block parameters that splits lead to, as the mean over training and as \
         a share of a conventional model's. A split that would exceed it is left out."
    ),
    field!(
        tying.tie,
        words!(Tie),
        "What a tied event does to the weights. share: the layer uses its owner's weights. \
         replicate: the layer gets a copy that it trains by itself, with fresh moments."
    )
    .paper_says("share; ablation (v): replicate", "Alg. 1 line 16; Table 4 (v)")
    .code_does("share"),
    field!(
        tying.merge,
        words!(Merge),
        "What happens to weights and moments that a tied event leaves without a layer. overwrite \
         drops them. average adds them to the block that replaces them, weighted by the layers \
         that used each."
    )
    .paper_says("overwrite: the weights are tied", "Alg. 1 line 16")
    .code_does("overwrite"),
    field!(
        tying.gate,
        Values::Real(Interval::NOT_NEGATIVE_OR_INF),
        "By how much the mean loss on the reward's batches may rise through a decision that ties a \
         layer. A decision above the gate is undone. inf measures nothing."
    )
    .unit_of("nats"),
    field!(
        tying.first_tie,
        words!(FirstTie),
        "What happens to a frozen layer whose owner is still layer 0 at its first decision. \
         replicate gives it its owner's weights. literal leaves it as it is until its state \
         changes."
    )
    .paper_says(
        "replicate in the text, literal in the algorithm",
        "section 3 (iii); Alg. 1 line 11",
    )
    .code_does("replicate, at its visit"),
    field!(
        tying.gradient,
        words!(Gradient),
        "Positions that add to the gradient of shared weights. sum: all that use them. owner: only \
         those that the state calls independent."
    )
    .paper_says("sum: the weights are tied", "Alg. 1 line 16")
    .code_does("owner"),
    field!(
        tying.untie,
        words!(Untie),
        "What untying does to the weights. copy gives the layer its own copy. alias keeps sharing \
         the storage, with a separate optimizer state."
    )
    .paper_says("copy", "Alg. 1 line 13")
    .code_does("alias"),
    field!(
        tying.retied,
        words!(Retied),
        "What happens to a layer whose owner is tied to another layer. follow: it follows its \
         owner. keep: it stays on the old owner's storage."
    )
    .paper_says("follow", "Eq. 1")
    .code_does("keep"),
    field!(
        tying.moments,
        words!(Moments),
        "Optimizer moments of a layer that becomes independent. fresh: zeros. inherit: a copy of \
         its former owner's. resume: its own, from the last time it was independent."
    )
    .code_does("resume"),
    field!(
        tying.group_rate,
        words!(GroupRate),
        "Learning rate of weights that several layers train. same: that of all other weights. \
         root: divided by the square root of the number of layers. inverse: divided by their \
         number."
    )
    .code_does("same"),
    field!(
        tying.residual_scale,
        words!(ResidualScale),
        "Factor on the residual branches of a block, for the whole run. none is 1. uses is 1 / \
         (layers that use the block at the start of training)."
    ),
    field!(
        tying.state_vector,
        words!(StateVector),
        "What the policy sees. canonical is the state of Eq. 1, raw is the action of each layer's \
         last visit."
    )
    .paper_says("canonical", "Eq. 1, Alg. 1 line 9")
    .code_does("raw"),
    // Agent.
    field!(agent.policy, words!(PolicyKind), PolicyKind::MEANING)
        .paper_says("q; ablations: replay, permuted-replay", "Eq. 2; Table 4 (iii), (iv)"),
    field!(agent.pattern, GROUPING, "Grouping that the policy fixed sets. frozen is none."),
    field!(
        agent.recording,
        Values::MaybeText,
        "Path of the states.jsonl that replay and permuted-replay follow. Empty where neither is \
         used."
    ),
    field!(
        agent.permutation,
        Values::Layers,
        "Layer permutation of permuted-replay: layer i becomes layer permutation[i]. Empty draws \
         one from the seed."
    ),
    field!(
        agent.network,
        words!(Network),
        "Layout of the Q-network. paper has L - 1 inputs and (L + 2)(L - 1) / 2 outputs. reference \
         has L inputs and L (L + 1) / 2 outputs, and explores as the authors' code does."
    )
    .paper_says("paper", "section 3, after Eq. 3")
    .code_does("reference"),
    field!(
        agent.hidden,
        Values::Whole(1, MOST),
        "Units of the hidden ReLU layer of the Q-network."
    )
    .unit_of("units")
    .paper_says("128", "section 4"),
    field!(
        agent.learning_rate,
        Values::Real(Interval::POSITIVE),
        "Learning rate of the Q-network's AdamW."
    )
    .paper_says("1e-3", "section 4"),
    field!(
        agent.weight_decay,
        Values::Real(Interval::NOT_NEGATIVE),
        "Decoupled weight decay of the Q-network."
    )
    .code_does("0.01"),
    field!(agent.gamma, Values::Real(Interval::SHARE), "Discount factor.")
        .paper_says("0.99", "section 4"),
    field!(
        agent.epsilon_start,
        Values::Real(Interval::SHARE),
        "Exploration probability at the start. At least the floor."
    )
    .paper_says("1.0", "section 4"),
    field!(
        agent.epsilon_decay,
        Values::Real(Interval::FACTOR),
        "Factor by which each decay multiplies the exploration probability."
    )
    .paper_says("0.95", "section 4, Alg. 1 line 27"),
    field!(agent.epsilon_floor, Values::Real(Interval::SHARE), "Lowest exploration probability.")
        .paper_says("0.1", "section 4, Alg. 1 line 27")
        .code_does("0.01 (language), 0.1 (vision)"),
    field!(
        agent.epsilon_decay_per,
        words!(DecayPer),
        "How often exploration decays: at every decision, or once a sweep has visited its last \
         layer."
    )
    .paper_says("decision", "Alg. 1 line 27")
    .code_does("sweep"),
    field!(
        agent.state_scaling,
        words!(Scaling),
        "Scaling of the state at the input of the Q-network. none is 0 to L - 1, unit is 0 to 1."
    )
    .paper_says("none", "section 3, after Eq. 3"),
    field!(agent.reward, words!(Reward), Reward::MEANING)
        .paper_says("neg-ppl", "Alg. 1 line 21")
        .code_does(
            "neg-ppl-clipped: constant until perplexity falls below 10; neg-accuracy for pictures",
        ),
    field!(
        agent.credit,
        words!(Credit),
        "Layers whose values learn from a reward: all decided layers, or the layers whose owner \
         the decision changed."
    )
    .paper_says("all", "Eq. 4"),
    field!(
        agent.replay_memory,
        Values::Whole(0, MOST),
        "Number of experiences that are kept for later updates of the Q-network. 0 keeps none."
    )
    .paper_says("0", "Eq. 4"),
    field!(
        agent.replay_batch,
        Values::Whole(1, MOST),
        "Number of kept experiences that an update of the Q-network draws besides the newest one."
    ),
    field!(
        agent.target_every,
        Values::Whole(0, MOST_OF_TOML),
        "Updates between two copies of the Q-network into its target network. 0 is no target \
         network."
    )
    .paper_says("0", "Eq. 4"),
    field!(
        agent.reward_batches,
        Values::Whole(1, MOST),
        "Number of fresh training batches that a reward is measured on, without dropout."
    )
    .unit_of("batches")
    .paper_says("1", "Alg. 1 line 20"),
    field!(
        agent.reward_timing,
        words!(RewardTiming),
        "When the reward is measured: right after tying, or after the training steps that follow \
         the decision."
    )
    .paper_says("at-once", "Alg. 1 lines 20 and 21")
    .code_does("after-steps"),
];
