//! What is done with a subject: a row of a table. Each row is the full method with some settings of
//! its spec changed. No row has its own code path.

use crate::cell::{CellId, Setting};
use crate::method::{CONVENTIONAL, Point, fixed};
use crate::scale::Scale;
use crate::subject::Subject;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Table 4 (i).
    Shallow,
    /// Table 4 (ii).
    Static,
    /// Table 4 (iii).
    Permuted,
    /// Table 4 (iv).
    Replayed,
    /// Table 4 (v).
    Replicated,
    /// Table 4 (vi).
    AllTrain,
    /// Table 4 (vii).
    Cycle,
    /// Table 4 (viii).
    CycleReversed,
    /// Table 4 (ix).
    Sequence,
    Conventional,
    Full,
    Random,
    StaticRandom,
    OneBlock,
    Reference,
    OwnerGradients,
    PerLayer,
    RewardClipped,
    RewardLoss,
    RewardFall,
    Short,
    ShortRandom,
    ShortOneBlock,
    /// A row of the study of where tying pays.
    Regime(Regime),
    /// A row of the study of our method.
    Method(Point),
}

/// A point of the study of where tying pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Regime {
    pub(crate) who: Who,
    pub(crate) rate: Rate,
    /// Steps between decisions; 0 if none is made.
    pub(crate) every: u32,
    /// Share of training in which decisions are made, in hundredths.
    pub(crate) until: u32,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Nobody,
    Agent,
    Chance,
}

/// Learning rates of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rate {
    Low,
    Middle,
    High,
}

/// The settings for short runs, which the method `short` has too, over those of the method `paper`.
const SHORT: [&str; 7] = [
    "tying.decide_until=0.3",
    "tying.initial=tied",
    "tying.moments=inherit",
    "tying.group_rate=inverse",
    "agent.reward=neg-loss",
    "agent.gamma=0.5",
    "agent.state_scaling=unit",
];

/// Added to the seed of a run that follows recorded decisions. With the same seed it would be the
/// recorded run again.
const OTHER_SEED: u64 = 1000;

impl Row {
    /// Table 4, in its order.
    pub(crate) const OF_TABLE_4: [Self; 11] = [
        Self::Shallow,
        Self::Static,
        Self::Permuted,
        Self::Replayed,
        Self::Replicated,
        Self::AllTrain,
        Self::Cycle,
        Self::CycleReversed,
        Self::Sequence,
        Self::Conventional,
        Self::Full,
    ];

    /// Rows that the paper does not have.
    pub(crate) const OURS: [Self; 12] = [
        Self::Random,
        Self::StaticRandom,
        Self::OneBlock,
        Self::Reference,
        Self::OwnerGradients,
        Self::PerLayer,
        Self::RewardClipped,
        Self::RewardLoss,
        Self::RewardFall,
        Self::Short,
        Self::ShortRandom,
        Self::ShortOneBlock,
    ];

    /// Its name on the command line and in folders, and its label in a table.
    fn words(self) -> [String; 2] {
        let words = match self {
            Self::Shallow => [
                "i",
                "(i) Conventional, with as many layers as our method has independent at the end",
            ],
            Self::Static => ["ii", "(ii) The final sharing, fixed from the start"],
            Self::Permuted => ["iii", "(iii) The recorded decisions, layers permuted"],
            Self::Replayed => ["iv", "(iv) The recorded decisions, without Q"],
            Self::Replicated => ["v", "(v) Copies instead of ties"],
            Self::AllTrain => ["vi", "(vi) All layers trainable at the start, each its own owner"],
            Self::Cycle => ["vii", "(vii) Cycle: layer i with layer L/2 + i"],
            Self::CycleReversed => ["viii", "(viii) Cycle reversed: layer i with layer L - 1 - i"],
            Self::Sequence => ["ix", "(ix) Sequence: pairs of neighbours"],
            Self::Conventional => ["conventional", "Conventional training"],
            Self::Full => ["full", "Full method"],
            Self::Random => ["random", "Random policy"],
            Self::StaticRandom => ["static-random", "Random sharing, fixed from the start"],
            Self::OneBlock => ["one-block", "One block for all layers"],
            Self::Reference => ["reference", "The authors' code (method `reference`)"],
            Self::OwnerGradients => ["owner-gradients", "Full method, gradients of owners only"],
            Self::PerLayer => ["per-layer", "Full method, one layer at a time"],
            Self::RewardClipped => {
                ["reward-neg-ppl-clipped", "Full method, reward clipped to [-10, 10]"]
            }
            Self::RewardLoss => ["reward-neg-loss", "Full method, reward: negative loss"],
            Self::RewardFall => ["reward-loss-delta", "Full method, reward: fall of the loss"],
            Self::Short => ["short", "Full method, settings for short runs"],
            Self::ShortRandom => ["short-random", "Random policy, settings for short runs"],
            Self::ShortOneBlock => {
                ["short-one-block", "One block for all layers, its rate divided by L"]
            }
            Self::Regime(regime) => return regime.words(),
            Self::Method(point) => return [point.name(), point.what.label()],
        };

        words.map(str::to_owned)
    }

    pub(crate) fn name(self) -> String {
        let [name, _] = self.words();
        name
    }

    pub(crate) fn label(self) -> String {
        let [_, label] = self.words();
        label
    }

    /// Whether it runs with every seed of a study, or only with the first.
    pub(crate) fn has_every_seed(self) -> bool {
        if let Self::Method(point) = self {
            return point.what.has_every_seed();
        }

        matches!(
            self,
            Self::Conventional
                | Self::Full
                | Self::Random
                | Self::Reference
                | Self::Short
                | Self::ShortRandom
        )
    }

    /// The method whose settings it changes; `None` for the preset's own.
    pub(crate) fn method(self, subject: Subject) -> Option<&'static str> {
        match (self, subject) {
            (Self::Reference, Subject::Vision) => Some("reference-vision"),
            (Self::Reference, _) => Some("reference"),
            (Self::Method(point), _) => point.what.method(),
            _ => Some("paper"),
        }
    }

    /// The seed of the run, for a seed of the study.
    pub(crate) fn seed(self, seed: u64) -> u64 {
        match self {
            Self::Permuted | Self::Replayed => seed + OTHER_SEED,
            _ => seed,
        }
    }

    /// The settings that it changes of its method.
    pub(crate) fn settings(self, subject: Subject, scale: Scale, seed: u64) -> Vec<Setting> {
        let full = || CellId::new(subject, Self::Full, seed);
        let with = |settings: &[&str], more: Setting| [fixed(settings), vec![more]].concat();
        let over = |ground: &[&str], more: &[&str]| fixed(&[ground, more].concat());

        match self {
            Self::Full => Vec::new(),
            Self::Conventional => fixed(&CONVENTIONAL),
            Self::Random => fixed(&["agent.policy=random"]),
            Self::Shallow => with(&CONVENTIONAL, Setting::LayersOf(full())),
            Self::Static => with(&["agent.policy=none"], Setting::StateOf(full())),
            Self::Permuted => with(&["agent.policy=permuted-replay"], Setting::DecisionsOf(full())),
            Self::Replayed => with(&["agent.policy=replay"], Setting::DecisionsOf(full())),
            Self::Replicated => fixed(&["tying.tie=replicate"]),
            Self::AllTrain => fixed(&["tying.initial=independent"]),
            Self::Cycle => fixed(&["agent.policy=none", "tying.initial=cycle"]),
            Self::CycleReversed => fixed(&["agent.policy=none", "tying.initial=cycle-reversed"]),
            Self::Sequence => fixed(&["agent.policy=none", "tying.initial=sequence"]),
            // `decide_every` is longer than any run, so that the decision before the first step is
            // the only one.
            Self::StaticRandom => fixed(&[
                "agent.policy=random",
                "tying.first_decision=before-first-step",
                "tying.decide_every=1000000000",
            ]),
            Self::OneBlock => fixed(&["agent.policy=none", "tying.initial=tied"]),
            Self::Reference => reference(subject, scale),
            Self::OwnerGradients => fixed(&["tying.gradient=owner"]),
            Self::PerLayer => fixed(&["tying.decision=per-layer"]),
            Self::RewardClipped => fixed(&["agent.reward=neg-ppl-clipped"]),
            Self::RewardLoss => fixed(&["agent.reward=neg-loss"]),
            Self::RewardFall => fixed(&["agent.reward=loss-delta"]),
            Self::Short => fixed(&SHORT),
            Self::ShortRandom => over(&SHORT, &["agent.policy=random"]),
            Self::ShortOneBlock => over(&SHORT, &["agent.policy=none"]),
            Self::Regime(regime) => regime.settings().iter().map(Setting::fixed).collect(),
            Self::Method(point) => point.settings(scale, seed),
        }
    }
}

/// The authors' method, to compare with ours. It has the learning rate of the other rows, the same
/// windows of text and no dropout, so that only the method differs. At scale paper it is as in the
/// authors' code, with the T + 1 positions that its blocks need.
fn reference(subject: Subject, scale: Scale) -> Vec<Setting> {
    match (scale, subject) {
        (_, Subject::Vision) => Vec::new(),
        (Scale::Paper, _) => fixed(&["model.positions=257"]),
        (Scale::Smoke | Scale::Laptop | Scale::Long, _) => {
            fixed(&["model.dropout=0.0", "data.pipeline=stream"])
        }
    }
}

impl Rate {
    pub(crate) const ALL: [Self; 3] = [Self::Low, Self::Middle, Self::High];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Low => "1e-4",
            Self::Middle => "3e-4",
            Self::High => "1e-3",
        }
    }
}

impl Regime {
    /// Every point, conventional training first.
    pub(crate) fn all() -> Vec<Self> {
        let conventional =
            Rate::ALL.map(|rate| Self { who: Who::Nobody, rate, every: 0, until: 0 });
        let mut all = conventional.to_vec();

        for who in [Who::Agent, Who::Chance] {
            for rate in Rate::ALL {
                for (every, until) in [(15, 100), (60, 100), (15, 30), (60, 30)] {
                    all.push(Self { who, rate, every, until });
                }
            }
        }

        all
    }

    fn words(self) -> [String; 2] {
        let Self { who, rate, every, until } = self;
        let rate = rate.text();
        let (name, label) = match who {
            Who::Nobody => ("conventional", "Conventional training"),
            Who::Agent => ("full", "Full method"),
            Who::Chance => ("random", "Random policy"),
        };

        if who == Who::Nobody {
            return [format!("{name}-{rate}"), format!("{label}, rate {rate}")];
        }

        [
            format!("{name}-{rate}-k{every}-until{until}"),
            format!("{label}, rate {rate}, k = {every}, until {until} %"),
        ]
    }

    fn settings(self) -> Vec<String> {
        let rate = format!("optimizer.learning_rate={}", self.rate.text());
        let deciding = [
            format!("tying.decide_every={}", self.every),
            format!("tying.decide_until={:?}", f64::from(self.until) / 100.0),
        ];

        match self.who {
            Who::Nobody => {
                vec![rate, "agent.policy=none".to_owned(), "tying.initial=independent".to_owned()]
            }
            Who::Agent => [vec![rate], deciding.to_vec()].concat(),
            Who::Chance => {
                [vec![rate, "agent.policy=random".to_owned()], deciding.to_vec()].concat()
            }
        }
    }
}
