//! Who decides, and for what.

use serde::{Deserialize, Serialize};

use super::{Decision, Initial, InitialName, MOST, MOST_OF_TOML};
use crate::fields::{Interval, Values};

section! {
    /// Who decides, and what the decision is rewarded with (DEVIATIONS rows 7, 8, 18, 22).
    AgentSpec in [agent.] {
        /// Who decides. none keeps the initial grouping. q is epsilon-greedy under the Q-network.
        /// random, fixed, replay and permuted-replay are the baselines. grow and conflict follow
        /// gradients, even halves groups. backtrack, beam and mcts search: they judge states before
        /// they enter one. random-search is their baseline.
        policy: PolicyKind = PolicyKind::Q, PolicyKind::WORDS,
            paper_says("q; ablations: replay, permuted-replay", "Eq. 2; Table 4 (iii), (iv)");
        /// Grouping that the policy fixed sets. frozen is none.
        pattern: Initial = Initial::Named(InitialName::Frozen), Initial::WORDS;
        /// Path of the states.jsonl that replay and permuted-replay follow. Empty where neither is
        /// used.
        recording: String = String::new(), Values::MaybeText;
        /// Layer permutation of permuted-replay: layer i becomes layer permutation[i]. Empty draws
        /// one from the seed.
        permutation: Vec<usize> = Vec::new(), Values::Layers;
        /// Layout of the Q-network. paper has L - 1 inputs and (L + 2)(L - 1) / 2 outputs.
        /// reference has L inputs and L (L + 1) / 2 outputs, and explores as the authors' code
        /// does.
        network: Network = Network::Paper, Network::WORDS,
            paper_says("paper", "section 3, after Eq. 3"), code_does("reference");
        /// Units of the hidden ReLU layer of the Q-network.
        hidden: usize = 128, Values::Whole(1, MOST), unit_is("units"),
            paper_says("128", "section 4");
        /// Learning rate of the Q-network's AdamW.
        learning_rate: f64 = 1e-3, Values::Real(Interval::POSITIVE),
            paper_says("1e-3", "section 4");
        /// Decoupled weight decay of the Q-network.
        weight_decay: f64 = 0.0, Values::Real(Interval::NOT_NEGATIVE), code_does("0.01");
        /// Discount factor.
        gamma: f64 = 0.99, Values::Real(Interval::SHARE), paper_says("0.99", "section 4");
        /// Exploration probability at the start. At least the floor.
        epsilon_start: f64 = 1.0, Values::Real(Interval::SHARE), paper_says("1.0", "section 4");
        /// Factor by which each decay multiplies the exploration probability.
        epsilon_decay: f64 = 0.95, Values::Real(Interval::FACTOR),
            paper_says("0.95", "section 4, Alg. 1 line 27");
        /// Lowest exploration probability.
        epsilon_floor: f64 = 0.1, Values::Real(Interval::SHARE),
            paper_says("0.1", "section 4, Alg. 1 line 27"),
            code_does("0.01 (language), 0.1 (vision)");
        /// How often exploration decays: at every decision, or once a sweep has visited its last
        /// layer.
        epsilon_decay_per: DecayPer = DecayPer::Decision, DecayPer::WORDS,
            paper_says("decision", "Alg. 1 line 27"), code_does("sweep");
        /// Scaling of the state at the input of the Q-network. none is 0 to L - 1, unit is 0 to 1.
        state_scaling: Scaling = Scaling::None, Scaling::WORDS,
            paper_says("none", "section 3, after Eq. 3");
        /// What a decision is rewarded with. neg-ppl: negative perplexity. neg-ppl-clipped: the
        /// same, clipped to [-10, 10]. neg-loss: negative mean cross-entropy. loss-delta: the fall
        /// of the loss since the previous decision. gain: its fall through this decision, on the
        /// same batches. For classes, accuracy: the share of right ones, and neg-accuracy: its
        /// negative.
        reward: Reward = Reward::NegPpl, Reward::WORDS, paper_says("neg-ppl", "Alg. 1 line 21"),
            code_does(
                "neg-ppl-clipped: constant until perplexity falls below 10; neg-accuracy for pictures"
            );
        /// Layers whose values learn from a reward: all decided layers, or the layers whose owner
        /// the decision changed.
        credit: Credit = Credit::All, Credit::WORDS, paper_says("all", "Eq. 4");
        /// Number of experiences that are kept for later updates of the Q-network. 0 keeps none.
        replay_memory: usize = 0, Values::Whole(0, MOST), paper_says("0", "Eq. 4");
        /// Number of kept experiences that an update of the Q-network draws besides the newest one.
        replay_batch: usize = 1, Values::Whole(1, MOST);
        /// Updates between two copies of the Q-network into its target network. 0 is no target
        /// network.
        target_every: usize = 0, Values::Whole(0, MOST_OF_TOML), paper_says("0", "Eq. 4");
        /// Number of fresh training batches that a reward is measured on, without dropout.
        reward_batches: usize = 1, Values::Whole(1, MOST), unit_is("batches"),
            paper_says("1", "Alg. 1 line 20");
        /// Most forward passes that a search makes in one decision. Each state that it judges takes
        /// agent.reward_batches of them, the present state too.
        budget: usize = 64, Values::Whole(1, MOST), unit_is("forward passes");
        /// Number of states that the policy beam keeps at first. Each time its beam ends, it begins
        /// again with twice the number.
        beam_width: usize = 4, Values::Whole(1, MOST);
        /// What all blocks of a conventional model cost in a search. A state costs its loss and its
        /// share of this price: the number of its groups over the number of layers.
        price: f64 = 0.1, Values::Real(Interval::NOT_NEGATIVE), unit_is("nats");
        /// When the reward is measured: right after tying, or after the training steps that follow
        /// the decision.
        reward_timing: RewardTiming = RewardTiming::AtOnce, RewardTiming::WORDS,
            paper_says("at-once", "Alg. 1 lines 20 and 21"), code_does("after-steps");
    }
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
        /// Searches downhill, one changed entry after the other, and goes back where nothing
        /// improves.
        Backtrack,
        /// Searches with a beam of the best states.
        Beam,
        /// Searches a tree of changes by upper confidence bounds.
        Mcts,
        /// Judges uniform actions: the baseline of the searches.
        RandomSearch,
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
    /// Whether it judges states before it enters one.
    searches: bool,
}

impl PolicyKind {
    const fn facts(self) -> Facts {
        const ANY: &[Decision] = Decision::ALL;
        const WHOLE: &[Decision] = &[Decision::Joint, Decision::PerLayer];
        const REGULAR: &[Decision] = &[Decision::Joint, Decision::PerLayer, Decision::Single];
        const SPLIT: &[Decision] = &[Decision::Split];
        const SWAP: &[Decision] = &[Decision::Swap];
        // A search changes as many entries as it finds good.
        const JOINT: &[Decision] = &[Decision::Joint];

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
            Self::Backtrack => ("search with backtracking", JOINT, false),
            Self::Beam => ("beam search", JOINT, false),
            Self::Mcts => ("Monte-Carlo tree search", JOINT, false),
            Self::RandomSearch => ("search at random", JOINT, false),
        };

        let searches =
            matches!(self, Self::Backtrack | Self::Beam | Self::Mcts | Self::RandomSearch);

        Facts { title, decisions, reads_gradients, searches }
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

    /// Whether it judges states before it enters one, so that training has to measure their losses.
    #[must_use]
    pub const fn searches(self) -> bool {
        self.facts().searches
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
