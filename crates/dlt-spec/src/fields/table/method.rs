//! Tying, and who decides.

use super::{MOST, MOST_OF_TOML, words_of};
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

const GROUPING: Values = Values::Grouping(|| words_of(InitialName::ALL));

pub(super) const METHOD: &[Field] = &[
    field!(
        tying.initial,
        GROUPING,
        "Grouping before the first decision: frozen trains layer 0 while the others keep their own random \
         weights; trainable trains them all while the state is 0; independent, tied, cycle, cycle-reversed, \
         cycle-reversed-as-written and sequence are fixed groupings."
    )
    .paper_says(
        "frozen; ablations: trainable, cycle, cycle-reversed-as-written, sequence",
        "Alg. 1 line 2; Table 4 (vi) to (ix)",
    ),
    field!(
        tying.decision,
        words!(Decision),
        "What one decision covers: joint is the whole action vector, per-layer one layer in turn 1, 2, \
         ..., L - 1; split divides one group in two at the times of tying.grow; swap does too, and later joins two \
         groups as often as it divides one; single changes the one layer that promises most, or none."
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
    .paper_says("training steps in section 3; \"every few epochs\" in section 4", "sections 3 and 4")
    .code_does("steps"),
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
        tying.grow,
        Values::RealList(Interval::FRACTION),
        "Times of splits, as shares of training; one group becomes two at each. Empty where nothing is split."
    ),
    field!(
        tying.groups,
        Values::WholeOrAuto(1, MOST),
        "Most groups that splits lead to; auto is the number of layers."
    ),
    field!(
        tying.budget,
        Values::Real(Interval::FACTOR),
        "Most block parameters that splits lead to, mean over training, as a share of a conventional model's. A split \
         that would lead above it is left out."
    ),
    field!(
        tying.tie,
        words!(Tie),
        "What a tied event does to the weights: share lets the layer use its owner's, replicate gives it a \
         copy that it trains by itself, with fresh moments."
    )
    .paper_says("share; ablation (v): replicate", "Alg. 1 line 16; Table 4 (v)")
    .code_does("share"),
    field!(
        tying.merge,
        words!(Merge),
        "What becomes of weights and moments that a tied event leaves without a layer: overwrite drops them, average \
         adds them to the block that replaces them, weighted by the layers that used each."
    )
    .paper_says("overwrite: the weights are tied", "Alg. 1 line 16")
    .code_does("overwrite"),
    field!(
        tying.gate,
        Values::Real(Interval::NOT_NEGATIVE_OR_INF),
        "By how much the mean loss on the reward's batches may rise through a decision that ties a layer; above it \
         the decision is undone. inf measures nothing."
    )
    .unit_of("nats"),
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
        tying.residual_scale,
        words!(ResidualScale),
        "Factor on the residual branches of a block: none is 1, uses is 1 / (layers that use the block at the start of \
         training), for the whole run."
    ),
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
         fixed, replay and permuted-replay are the baselines; grow and conflict follow gradients; even halves \
         groups."
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
         mean cross-entropy, the fall of the loss since the decision before (loss-delta) or through this one, on the same \
         batches (gain), or, for classes, the share of right ones or its negative."
    )
    .paper_says("neg-ppl", "Alg. 1 line 21")
    .code_does("neg-ppl-clipped: constant until perplexity falls below 10; neg-accuracy for pictures"),
    field!(
        agent.credit,
        words!(Credit),
        "Which layers' values learn from a reward: those of all decided layers, or of the layers whose owner the \
         decision changed."
    )
    .paper_says("all", "Eq. 4"),
    field!(
        agent.replay_memory,
        Values::Whole(0, MOST),
        "Experiences that are remembered for later updates of Q; 0 is none."
    )
    .paper_says("0", "Eq. 4"),
    field!(
        agent.replay_batch,
        Values::Whole(1, MOST),
        "Remembered experiences that an update of Q draws besides the newest one."
    ),
    field!(
        agent.target_every,
        Values::Whole(0, MOST_OF_TOML),
        "Updates between two copies of Q into its target network; 0 is no target network."
    )
    .paper_says("0", "Eq. 4"),
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
