//! How layers are tied and untied.

use dlt_state::StateError;
use dlt_state::binding::Rules;
pub use dlt_state::binding::{FirstTie, Gradient, Merge, Retied, Tie, Untie};
use serde::{Deserialize, Serialize};

use super::{MOST, MOST_OF_TOML, Size};
use crate::fields::{Interval, Values, words_of};

section! {
    /// How layers are tied and untied (DEVIATIONS rows 1 to 6, 9, 11, 17, 32, and the chapter "What
    /// we added" there).
    TyingSpec in [tying.] {
        /// Grouping before the first decision. frozen trains layer 0 while the others keep their
        /// own random weights. trainable trains all layers while the state is 0. independent, tied,
        /// cycle, cycle-reversed, cycle-reversed-as-written and sequence are fixed groupings.
        initial: Initial = Initial::Named(InitialName::Frozen), Initial::WORDS,
            paper_says(
                "frozen; ablations: trainable, cycle, cycle-reversed-as-written, sequence",
                "Alg. 1 line 2; Table 4 (vi) to (ix)"
            );
        /// What one decision covers. joint: the whole action vector. per-layer: one layer, in turn
        /// 1, 2, ..., L - 1. split: one group is divided in two at the times of tying.grow. swap:
        /// the same, and after the last split each decision joins two groups and divides one.
        /// single: the one layer whose change promises most, or none.
        decision: Decision = Decision::Joint, Decision::WORDS, paper_says("joint", "Alg. 1 line 8"),
            code_does("per-layer");
        /// Steps or passes between two decisions, k; see tying.decide_unit.
        decide_every: usize = 15, Values::Whole(1, MOST_OF_TOML), unit_is("steps or passes"),
            paper_says("15", "section 4, Alg. 1 line 7"),
            code_does("4 (language), 10 (vision), 15 (question answering)");
        /// Unit of tying.decide_every: training steps, or passes over the training split.
        decide_unit: DecideUnit = DecideUnit::Steps, DecideUnit::WORDS,
            paper_says(
                "training steps in section 3; \"every few epochs\" in section 4",
                "sections 3 and 4"
            ),
            code_does("steps");
        /// Share of training after which the state no longer changes. 1 decides to the end.
        decide_until: f64 = 1.0, Values::Real(Interval::SHARE),
            paper_says("never stops", "Alg. 1 line 4");
        /// Time of the first decision: after k steps, after the first training step, or before it.
        first_decision: FirstDecision = FirstDecision::AfterK, FirstDecision::WORDS,
            paper_says(
                "after-k in the text, at-step-0 in the algorithm",
                "section 3; Alg. 1 line 7"
            ),
            code_does("before-first-step");
        /// Times of splits, as shares of training. At each of them one group becomes two. Empty
        /// where nothing is split.
        grow: Vec<f64> = Vec::new(), Values::RealList(Interval::FRACTION);
        /// Largest number of groups that splits lead to. auto is the number of layers.
        groups: Size = Size::AUTO, Values::WholeOrAuto(1, MOST);
        /// Largest number of block parameters that splits lead to, as the mean over training and as
        /// a share of a conventional model's. A split that would exceed it is left out. What each layer
        /// keeps for itself is not counted.
        budget: f64 = 1.0, Values::Real(Interval::FACTOR);
        /// The part of a block that layers can share. block: all of it. attention, feed-forward: this
        /// half with its norms, while each layer keeps the other half for itself.
        unit: Unit = Unit::Block, Unit::WORDS, paper_says("block", "section 3");
        /// Small parameters that each layer keeps for itself: gains and biases of norms, biases of
        /// projections, and scales. scales adds two gains of the model's width to each layer, 1 at
        /// first, that multiply what its halves add to the residual stream.
        own: Vec<Own> = Vec::new(), Own::LIST;
        /// Layers that no tie may touch. ends: the first and the last. They count as groups.
        exempt: Exempt = Exempt::Layers(Vec::new()), Exempt::WORDS;
        /// What a tied event does to the weights. share: the layer uses its owner's weights.
        /// replicate: the layer gets a copy that it trains by itself, with fresh moments.
        tie: Tie = Tie::Share, Values::Word(|| words_of(Tie::ALL)),
            paper_says("share; ablation (v): replicate", "Alg. 1 line 16; Table 4 (v)"),
            code_does("share");
        /// What happens to weights and moments that a tied event leaves without a layer. overwrite
        /// drops them. average adds them to the block that replaces them, weighted by the layers
        /// that used each.
        merge: Merge = Merge::Overwrite, Values::Word(|| words_of(Merge::ALL)),
            paper_says("overwrite: the weights are tied", "Alg. 1 line 16"), code_does("overwrite");
        /// By how much the mean loss on the reward's batches may rise through a decision that ties
        /// a layer. A decision above the gate is undone. inf measures nothing.
        gate: f64 = f64::INFINITY, Values::Real(Interval::NOT_NEGATIVE_OR_INF), unit_is("nats");
        /// What happens to a frozen layer whose owner is still layer 0 at its first decision.
        /// replicate gives it its owner's weights. literal leaves it as it is until its state
        /// changes.
        first_tie: FirstTie = FirstTie::Replicate, Values::Word(|| words_of(FirstTie::ALL)),
            paper_says(
                "replicate in the text, literal in the algorithm",
                "section 3 (iii); Alg. 1 line 11"
            ),
            code_does("replicate, at its visit");
        /// Positions that add to the gradient of shared weights. sum: all that use them. owner:
        /// only those that the state calls independent.
        gradient: Gradient = Gradient::Sum, Values::Word(|| words_of(Gradient::ALL)),
            paper_says("sum: the weights are tied", "Alg. 1 line 16"), code_does("owner");
        /// What untying does to the weights. copy gives the layer its own copy. alias keeps sharing
        /// the storage, with a separate optimizer state.
        untie: Untie = Untie::Copy, Values::Word(|| words_of(Untie::ALL)), paper_says("copy", "Alg. 1 line 13"),
            code_does("alias");
        /// What happens to a layer whose owner is tied to another layer. follow: it follows its
        /// owner. keep: it stays on the old owner's storage.
        retied: Retied = Retied::Follow, Values::Word(|| words_of(Retied::ALL)), paper_says("follow", "Eq. 1"),
            code_does("keep");
        /// Optimizer moments of a layer that becomes independent. fresh: zeros. inherit: a copy of
        /// its former owner's. resume: its own, from the last time it was independent.
        moments: Moments = Moments::Fresh, Moments::WORDS, code_does("resume");
        /// Learning rate of weights that several layers train. same: that of all other weights.
        /// root: divided by the square root of the number of layers. inverse: divided by their
        /// number.
        group_rate: GroupRate = GroupRate::Same, GroupRate::WORDS, code_does("same");
        /// Factor on the residual branches of a block, for the whole run. none is 1. uses is 1 /
        /// (layers that use the block at the start of training).
        residual_scale: ResidualScale = ResidualScale::None, ResidualScale::WORDS;
        /// What the policy sees. canonical is the state of Eq. 1, raw is the action of each layer's
        /// last visit.
        state_vector: StateVector = StateVector::Canonical, StateVector::WORDS,
            paper_says("canonical", "Eq. 1, Alg. 1 line 9"), code_does("raw");
    }
}

impl From<&TyingSpec> for Rules {
    fn from(spec: &TyingSpec) -> Self {
        let TyingSpec { tie, gradient, untie, retied, first_tie, merge, .. } = *spec;
        Self { tie, gradient, untie, retied, first_tie, merge }
    }
}

/// Grouping before the first decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Initial {
    /// A named one.
    Named(InitialName),
    /// The owner of each layer, written out.
    Owners(Vec<usize>),
}

impl Initial {
    /// What a field of this type accepts.
    pub const WORDS: Values = Values::Grouping(|| words_of(InitialName::ALL));
}

words! {
    /// Named groupings.
    InitialName {
        /// Layer 0 trains; the others keep their own initial weights, untrained (Algorithm 1, line
        /// 2).
        Frozen,
        /// Every layer trains its own weights while the state is all 0: Algorithm 1 without its
        /// line 2 (ablation vi).
        Trainable,
        /// Every layer trains its own weights, and the state says so.
        Independent,
        /// All layers use layer 0.
        Tied,
        /// Layer i and layer L/2 + i (ablation vii).
        Cycle,
        /// Layer i and layer L - 1 - i (ablation viii).
        CycleReversed,
        /// Layer i and layer L - i, as Table 4 writes ablation viii. Layer 0 has no partner, nor
        /// has layer L/2 at an even depth.
        CycleReversedAsWritten,
        /// Pairs of neighbours (ablation ix).
        Sequence,
    }
}

words! {
    /// The part of a block that layers can share (row 50).
    Unit {
        /// All of it.
        Block,
        /// Attention and its norms.
        Attention,
        /// The feed-forward layer and its norms.
        FeedForward,
    }
}

words! {
    /// Small parameters that each layer keeps for itself (row 51).
    Own {
        /// Gains and biases of norms.
        Norms,
        /// Two gains that multiply what the halves add to the residual stream. Without this word
        /// there are none.
        Scales,
        /// Biases of projections.
        Biases,
    }
}

impl Own {
    /// What a list of them accepts.
    pub const LIST: Values = Values::Words(|| words_of(Self::ALL));
}

/// Layers that no tie may touch (row 52).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exempt {
    /// Named ones.
    Named(ExemptName),
    /// These.
    Layers(Vec<usize>),
}

words! {
    /// Layers that no tie may touch, by a name.
    ExemptName {
        /// The first and the last.
        Ends,
    }
}

impl Exempt {
    /// What a field of this type accepts.
    pub const WORDS: Values = Values::LayersOrWord(|| words_of(ExemptName::ALL));

    /// The layers, of `n_layers`.
    ///
    /// # Errors
    /// Fails for a layer that does not exist.
    pub fn of(&self, n_layers: usize) -> Result<dlt_state::Exempt, StateError> {
        match self {
            Self::Layers(layers) => dlt_state::Exempt::new(n_layers, layers),
            Self::Named(ExemptName::Ends) => {
                dlt_state::Exempt::new(n_layers, &[0, n_layers.saturating_sub(1)])
            }
        }
    }
}

words! {
    /// What one decision covers (rows 1 and 41).
    Decision {
        /// The whole action vector.
        Joint,
        /// One layer, in turn 1, 2, ..., L - 1.
        PerLayer,
        /// One group becomes two, at the times of `grow`; nothing else is decided.
        Split,
        /// As `split`. After the last split, every `decide_every`, two groups become one and one
        /// becomes two.
        Swap,
        /// The one layer whose change promises most, or none.
        Single,
    }
}

words! {
    /// Unit of `decide_every` (row 40).
    DecideUnit {
        /// Training steps.
        Steps,
        /// Passes over the training split.
        Epochs,
    }
}

words! {
    /// When the first decision is made (row 6).
    FirstDecision {
        /// After k steps, as the paper's text says.
        AfterK,
        /// After the first training step, as Algorithm 1 line 7 says.
        #[serde(rename = "at-step-0")]
        AtStep0,
        /// Before any training step, as the authors' code does.
        BeforeFirstStep,
    }
}

words! {
    /// Factor on the residual branches of blocks that several layers use (row 44).
    ResidualScale {
        /// 1.
        None,
        /// 1 / (layers that use the block at the start of training), for the whole run.
        Uses,
    }
}

words! {
    /// Optimizer moments of a layer that becomes independent (row 11).
    Moments {
        /// Zero.
        Fresh,
        /// A copy of its former owner's.
        Inherit,
        /// Its own, from the last time it was independent.
        Resume,
    }
}

words! {
    /// Learning rate of weights that several layers use (row 28). The steps of AdamW do not grow
    /// with the summed gradient, but one step on weights of m layers changes the model m times.
    GroupRate {
        /// The same as that of any other parameter.
        Same,
        /// Divided by the square root of the number of layers that train them.
        Root,
        /// Divided by the number of layers that train them.
        Inverse,
    }
}

impl GroupRate {
    /// Factor on the learning rate of weights that `members` layers train.
    #[must_use]
    pub fn factor(self, members: usize) -> f64 {
        match self {
            Self::Same => 1.0,
            Self::Root => (members.max(1) as f64).sqrt().recip(),
            Self::Inverse => (members.max(1) as f64).recip(),
        }
    }
}

words! {
    /// Content of the state vector (row 17).
    StateVector {
        /// The state of Eq. 1.
        Canonical,
        /// The action of each layer's last visit, never resolved.
        Raw,
    }
}
