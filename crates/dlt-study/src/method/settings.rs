//! The settings of each row, over the method `paper`.

use super::{Point, Setup, What};
use crate::cell::{CellId, Setting};
use crate::excerpt;
use crate::row::Row;
use crate::scale::Scale;
use crate::subject::Subject;

pub(crate) const CONVENTIONAL: [&str; 2] = ["agent.policy=none", "tying.initial=independent"];
/// Divides the rate of a block by the number of its uses. Without it, sharing loses.
const RATE: &str = "tying.group_rate=inverse";
const TIED: &str = "tying.initial=tied";
/// The parts of a split group continue with the group's moments.
const INHERIT: &str = "tying.moments=inherit";
/// A change that ties layers averages their blocks, and is undone if the loss rises by more than the
/// gate.
const GATED: [&str; 2] = ["tying.merge=average", "tying.gate=0.02"];
/// Settings with which the Q-learning agent can learn from tens of decisions.
const LEARNING: [&str; 9] = [
    "agent.policy=q",
    "agent.reward=gain",
    "agent.reward_timing=after-steps",
    "agent.credit=changed",
    "agent.replay_memory=200",
    "agent.replay_batch=8",
    "agent.target_every=10",
    "agent.gamma=0.5",
    "agent.state_scaling=unit",
];
/// A search ties, because untying keeps the loss: so it begins without ties.
const SEARCHED: [&str; 5] = [
    "tying.initial=independent",
    "tying.decision=joint",
    "agent.reward_batches=2",
    "agent.beam_width=4",
    "agent.price=0.3",
];
/// Random times are drawn between these shares of training. Their mean is the mean of growth's
/// times, so that the expected mean size is the same.
const ANYWHERE: [f64; 2] = [0.1, 0.7];

impl Point {
    /// The settings that it changes of its method.
    pub(crate) fn settings(self, scale: Scale, seed: u64) -> Vec<Setting> {
        let Some(setup) = Setup::of(scale) else { return Vec::new() };
        let mut settings = Vec::new();
        if scale == Scale::Long {
            settings.push(Setting::Tokenizer(excerpt::TOKENIZER));
            settings.push(Setting::fixed(format!("model.vocabulary={}", excerpt::VOCABULARY)));
        }

        if self.what.method().is_some() {
            settings.push(Setting::fixed(format!("optimizer.learning_rate={}", self.pace.text())));
        }

        settings.extend(self.own(setup, seed));
        settings
    }

    fn own(self, setup: &Setup, seed: u64) -> Vec<Setting> {
        let of =
            |what: What| CellId::new(Subject::Method, Row::Method(Point { what, ..self }), seed);
        let grown = |times: &[f64], moments: &str, policy: &str| {
            let grow = format!("tying.grow={times:?}");
            fixed(&[TIED, RATE, moments, "tying.decision=split", &grow, policy])
        };

        let swapped = |policy: &str| {
            let grow = format!("tying.grow={:?}", setup.grow);
            let every = format!("tying.decide_every={}", setup.swap_every);
            let swap = [
                TIED,
                RATE,
                INHERIT,
                "tying.decision=swap",
                &grow,
                &every,
                "tying.decide_until=0.8",
            ];

            fixed(&[&swap[..], &GATED, &[policy]].concat())
        };

        let single = |agent: &[&str]| {
            let every = format!("tying.decide_every={}", setup.single_every);
            let single =
                [TIED, RATE, INHERIT, "tying.decision=single", &every, "tying.decide_until=0.8"];
            fixed(&[&single[..], &GATED, agent].concat())
        };

        let search = |policy: &str| {
            let every = format!("tying.decide_every={}", setup.search_every);
            let passes = format!("agent.budget={}", setup.search_passes);
            let search = [RATE, INHERIT, &every, "tying.decide_until=0.8", &passes, policy];
            fixed(&[&search[..], &SEARCHED].concat())
        };

        let initial = |owners: Vec<usize>| format!("tying.initial={owners:?}");
        let random = "agent.policy=random";
        let none = "agent.policy=none";

        match self.what {
            What::MainJob | What::Paper => Vec::new(),
            What::MainJobRandom | What::PaperRandom => fixed(&[random]),
            What::Conventional => fixed(&CONVENTIONAL),
            What::Shallow => sized(setup.groups, None),
            What::Size { layers, width } => sized(layers.into(), Some(width)),
            What::Fixed(pattern, groups) => {
                fixed(&[none, RATE, &initial(pattern.owners(setup.layers, groups.into()))])
            }
            What::OneBlock => fixed(&[none, RATE, TIED]),
            What::PaperEpochs => fixed(&[
                "tying.decide_unit=epochs",
                &format!("tying.decide_every={}", setup.epochs_between),
            ]),
            What::PaperShallow => {
                [fixed(&CONVENTIONAL), vec![Setting::LayersOf(of(What::Paper))]].concat()
            }
            What::PaperCycle => fixed(&[none, "tying.initial=cycle"]),
            What::PaperPerLayer => fixed(&["tying.decision=per-layer"]),
            What::Grow => grown(setup.grow, INHERIT, "agent.policy=grow"),
            What::Even => grown(setup.grow, INHERIT, "agent.policy=even"),
            What::GrowRandom => grown(setup.grow, INHERIT, random),
            What::GrowAnywhere => grown(&times(setup.grow.len(), seed), INHERIT, random),
            What::GrowFresh => grown(setup.grow, "tying.moments=fresh", "agent.policy=grow"),
            What::GrowAll => grown(setup.grow_all, INHERIT, "agent.policy=grow"),
            What::Conflict => swapped("agent.policy=conflict"),
            What::ConflictRandom => swapped(random),
            What::Single => single(&LEARNING),
            What::SingleRandom => single(&[&LEARNING[1..3], &[random]].concat()),
            What::Backtrack => search("agent.policy=backtrack"),
            What::Beam => search("agent.policy=beam"),
            What::Mcts => search("agent.policy=mcts"),
            What::RandomSearch => search("agent.policy=random-search"),
            What::FinalGroups => {
                [fixed(&[none, RATE]), vec![Setting::StateOf(of(What::Grow))]].concat()
            }
            What::ConventionalWarm => [fixed(&CONVENTIONAL), warm(setup)].concat(),
            What::OneBlockWarm => [fixed(&[none, RATE, TIED]), warm(setup)].concat(),
        }
    }

    /// The row whose run this one needs.
    pub(crate) fn needed(self) -> Option<Self> {
        match self.what {
            What::PaperShallow => Some(Self { what: What::Paper, ..self }),
            What::FinalGroups => Some(Self { what: What::Grow, ..self }),
            _ => None,
        }
    }
}

pub(crate) fn fixed(settings: &[&str]) -> Vec<Setting> {
    settings.iter().map(|&one| Setting::fixed(one)).collect()
}

/// Conventional training of another depth and, if given, another width.
fn sized(layers: usize, width: Option<u16>) -> Vec<Setting> {
    let mut settings = fixed(&CONVENTIONAL);
    settings.push(Setting::fixed(format!("model.layers={layers}")));
    settings.extend(width.map(|width| Setting::fixed(format!("model.width={width}"))));
    settings
}

/// A rate that rises from 0 until growth's last split. It is the closest that a schedule for the
/// whole model comes to growth's rates, see `LEFT_OUT`.
fn warm(setup: &Setup) -> Vec<Setting> {
    fixed(&[&format!("optimizer.warmup_steps={}", setup.warm_steps)])
}

/// Random times of splits as shares of training, rising, in steps of 0.01.
fn times(count: usize, seed: u64) -> Vec<f64> {
    let [from, to] = ANYWHERE.map(|share| (100.0 * share) as u64);
    let mut state = seed;
    let mut hundredths: Vec<u64> =
        (0..count).map(|_| from + draw(&mut state) % (to - from)).collect();

    hundredths.sort_unstable();
    hundredths.into_iter().map(|one| one as f64 / 100.0).collect()
}

/// SplitMix64: a stream of numbers that depends only on the seed, the same on every machine.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_times_depend_on_the_seed_alone_and_rise_within_their_bounds() {
        let all: Vec<Vec<f64>> = (1..=200).map(|seed| times(3, seed)).collect();
        assert_eq!(all[0], times(3, 1));
        assert_ne!(all[0], all[1]);

        for times in &all {
            assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
            assert!(
                times.iter().all(|time| (ANYWHERE[0]..ANYWHERE[1]).contains(time)),
                "{times:?}"
            );
        }

        let mean = all.iter().flatten().sum::<f64>() / 600.0;
        assert!((mean - 0.4).abs() < 0.02, "growth's times are 0.4 in the mean: {mean}");
    }
}
