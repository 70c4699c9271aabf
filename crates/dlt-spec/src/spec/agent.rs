//! Who decides, and for what.

use serde::{Deserialize, Serialize};

use super::Initial;

/// Who decides, and what the decision is rewarded with (DEVIATIONS rows 7, 8, 18, 22).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Who decides.
    pub policy: PolicyKind,
    /// Grouping that the policy `fixed` asks for; `frozen` is none.
    pub pattern: Initial,
    /// Path of the `states.jsonl` that `replay` and `permuted-replay` follow; empty where neither
    /// is used.
    pub recording: String,
    /// Layer permutation of `permuted-replay`: what layer `i` was, layer `permutation[i]` becomes;
    /// empty draws one from the seed.
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
    /// First exploration probability.
    pub epsilon_start: f64,
    /// Factor of each decay.
    pub epsilon_decay: f64,
    /// Least exploration probability.
    pub epsilon_floor: f64,
    /// How often exploration decays.
    pub epsilon_decay_per: DecayPer,
    /// Scaling of the state at the input of Q.
    pub state_scaling: Scaling,
    /// What a decision is rewarded with.
    pub reward: Reward,
    /// Which layers' values learn from a reward.
    pub credit: Credit,
    /// Experiences that are remembered for later updates; 0 is none.
    pub replay_memory: usize,
    /// Remembered experiences that an update draws besides the newest one.
    pub replay_batch: usize,
    /// Updates between two copies of the Q-network into its target network; 0 is no target network.
    pub target_every: usize,
    /// Mini-batches that a reward is measured on.
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
        /// The group whose members' gradients disagree most is split where they do.
        Grow,
        /// The same, and groups that are close and agree become one, at a constant number of
        /// groups.
        Conflict,
        /// The largest group is split in its middle.
        Even,
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
        /// Once the last layer of a sweep has been visited.
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
        /// By how much the loss fell since the decision before.
        LossDelta,
        /// By how much the loss on the same batches fell from before the decision to when the
        /// reward is measured.
        Gain,
        /// The share of right classes.
        Accuracy,
        /// Its negative, which rewards being wrong: the authors' code for pictures.
        NegAccuracy,
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
