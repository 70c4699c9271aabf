//! Who decides, and for what.

use serde::{Deserialize, Serialize};

use super::Initial;

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
