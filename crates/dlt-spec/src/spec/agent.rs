//! Who decides, and for what.

use serde::{Deserialize, Serialize};

use super::{Decision, Initial};

/// Who decides, and what the decision is rewarded with (DEVIATIONS rows 7, 8, 18, 22).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Who decides.
    pub policy: PolicyKind,
    /// Grouping that the policy `fixed` sets; `frozen` is none.
    pub pattern: Initial,
    /// Path of the `states.jsonl` that `replay` and `permuted-replay` follow; empty if neither is
    /// used.
    pub recording: String,
    /// Layer permutation of `permuted-replay`: layer `i` becomes layer `permutation[i]`. Empty
    /// draws one from the seed.
    pub permutation: Vec<usize>,
    /// Layout of the Q-network.
    pub network: Network,
    /// Units of its hidden layer.
    pub hidden: usize,
    /// Learning rate of the Q-network.
    pub learning_rate: f64,
    /// Decoupled weight decay of the Q-network.
    pub weight_decay: f64,
    /// Discount factor.
    pub gamma: f64,
    /// Exploration probability at the start.
    pub epsilon_start: f64,
    /// Factor by which each decay multiplies it.
    pub epsilon_decay: f64,
    /// Lowest exploration probability.
    pub epsilon_floor: f64,
    /// How often exploration decays.
    pub epsilon_decay_per: DecayPer,
    /// Scaling of the state at the input of Q.
    pub state_scaling: Scaling,
    /// What a decision is rewarded with.
    pub reward: Reward,
    /// Which layers' values learn from a reward.
    pub credit: Credit,
    /// Number of experiences that are kept for later updates; 0 keeps none.
    pub replay_memory: usize,
    /// Number of kept experiences that an update draws besides the newest one.
    pub replay_batch: usize,
    /// Updates between two copies of the Q-network into its target network; 0 is no target network.
    pub target_every: usize,
    /// Number of mini-batches that a reward is measured on.
    pub reward_batches: usize,
    /// When the reward is measured.
    pub reward_timing: RewardTiming,
}

words! {
    /// Who decides.
    PolicyKind {
        /// Nobody: the initial grouping stays.
        None,
        /// Epsilon-greedy under Q.
        Q,
        /// A uniform action each time.
        Random,
        /// The same pattern each time.
        Fixed,
        /// The states of a recording, in turn.
        Replay,
        /// The same, with the layers permuted.
        PermutedReplay,
        /// Splits the group whose members' gradients disagree most, where they disagree most.
        Grow,
        /// The same. In a swap it first joins two groups that are close and agree, so the number of
        /// groups stays.
        Conflict,
        /// Splits the largest group in its middle.
        Even,
    }
}

/// What has to be known of a policy outside its own code.
struct Facts {
    /// What reports call a run that it decides.
    title: &'static str,
    /// The decisions that it can make.
    decisions: &'static [Decision],
    /// Whether it decides by products of gradients.
    reads_gradients: bool,
}

impl PolicyKind {
    /// The meaning of `agent.policy`, with a few words for each policy.
    pub(crate) const MEANING: &'static str = "Who decides. none keeps the initial grouping. q is epsilon-greedy under the Q-network. \
         random, fixed, replay and permuted-replay are the baselines. grow and conflict follow \
         gradients, even halves groups.";

    const fn facts(self) -> Facts {
        const ANY: &[Decision] = Decision::ALL;
        const WHOLE: &[Decision] = &[Decision::Joint, Decision::PerLayer];
        const REGULAR: &[Decision] = &[Decision::Joint, Decision::PerLayer, Decision::Single];
        const SPLIT: &[Decision] = &[Decision::Split];
        const SWAP: &[Decision] = &[Decision::Swap];

        let (title, decisions, reads_gradients) = match self {
            Self::None => ("fixed tying", ANY, false),
            Self::Q => ("dynamic tying, Q-learning", REGULAR, false),
            Self::Random => ("dynamic tying, random policy", ANY, false),
            Self::Fixed => ("dynamic tying, fixed", WHOLE, false),
            // A recording says what a replay decides, and when.
            Self::Replay => ("dynamic tying, replay", ANY, false),
            Self::PermutedReplay => ("dynamic tying, permuted-replay", ANY, false),
            Self::Grow => ("growth by splits where gradients disagree", SPLIT, true),
            Self::Conflict => ("growth and swaps by gradients", SWAP, true),
            Self::Even => ("growth by even splits", SPLIT, false),
        };

        Facts { title, decisions, reads_gradients }
    }

    /// What reports call a run whose decisions it makes.
    #[must_use]
    pub const fn title(self, decision: Decision) -> &'static str {
        match (self, decision) {
            (Self::Random, Decision::Split) => "growth by splits at random",
            (Self::Random, Decision::Swap) => "growth and swaps at random",
            _ => self.facts().title,
        }
    }

    /// The decisions that it can make.
    #[must_use]
    pub const fn decisions(self) -> &'static [Decision] {
        self.facts().decisions
    }

    /// Whether it decides by products of gradients, so that training has to sketch them.
    #[must_use]
    pub const fn reads_gradients(self) -> bool {
        self.facts().reads_gradients
    }

    /// Whether it repeats the decisions of a recording.
    #[must_use]
    pub const fn replays(self) -> bool {
        matches!(self, Self::Replay | Self::PermutedReplay)
    }
}

words! {
    /// Layout of the Q-network (row 22).
    Network {
        /// L - 1 inputs, (L + 2)(L - 1) / 2 outputs.
        Paper,
        /// L inputs, L (L + 1) / 2 outputs; exploration draws as the authors' code does.
        Reference,
    }
}

words! {
    /// How often exploration decays (row 8).
    DecayPer {
        /// At every decision.
        Decision,
        /// Once a sweep has visited its last layer.
        Sweep,
    }
}

words! {
    /// Scaling of the state at the input of Q.
    Scaling {
        /// As it is: 0 to L - 1.
        None,
        /// Divided by L - 1: 0 to 1.
        Unit,
    }
}

words! {
    /// What a decision is rewarded with (rows 7 and 15).
    Reward {
        /// Negative perplexity.
        NegPpl,
        /// Negative perplexity, clipped to [-10, 10].
        NegPplClipped,
        /// Negative mean cross-entropy.
        NegLoss,
        /// By how much the loss fell since the previous decision.
        LossDelta,
        /// By how much the loss fell on the same batches, from before the decision to the time when
        /// the reward is measured.
        Gain,
        /// The share of right classes.
        Accuracy,
        /// Its negative, which rewards wrong answers: the authors' code for pictures.
        NegAccuracy,
    }
}

impl Reward {
    /// The meaning of `agent.reward`, with a few words for each reward.
    pub(crate) const MEANING: &'static str = "What a decision is rewarded with. neg-ppl: negative perplexity. neg-ppl-clipped: the \
         same, clipped to [-10, 10]. neg-loss: negative mean cross-entropy. loss-delta: the fall \
         of the loss since the previous decision. gain: its fall through this decision, on the \
         same batches. For classes, accuracy: the share of right ones, and neg-accuracy: its \
         negative.";

    /// Its name at the axis of a figure.
    #[must_use]
    pub const fn axis(self) -> &'static str {
        match self {
            Self::NegPpl => "negative perplexity",
            Self::NegPplClipped => "negative perplexity, clipped",
            Self::NegLoss => "negative loss, in nats",
            Self::LossDelta => "fall of the loss, in nats",
            Self::Gain => "fall of the loss on the same batches, in nats",
            Self::Accuracy => "accuracy",
            Self::NegAccuracy => "negative accuracy",
        }
    }

    /// Whether it needs the loss before the decision, on the batches of the reward.
    #[must_use]
    pub const fn needs_loss_before(self) -> bool {
        matches!(self, Self::Gain)
    }

    /// Whether it needs a model that predicts classes.
    #[must_use]
    pub const fn needs_classes(self) -> bool {
        matches!(self, Self::Accuracy | Self::NegAccuracy)
    }
}

words! {
    /// Which layers' values learn from a reward (row 47).
    Credit {
        /// Those of every layer that was decided.
        All,
        /// Those of the layers whose owner the decision changed.
        Changed,
    }
}

words! {
    /// When the reward is measured (row 18).
    RewardTiming {
        /// Right after tying.
        AtOnce,
        /// After the training steps that follow the decision.
        AfterSteps,
    }
}
