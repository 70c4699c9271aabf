//! The rows of the study of our method: what is trained, at which learning rate, with which
//! settings.
//!
//! Every row except those of the main job is `--method paper` with all of its settings spelt out, so
//! that no record depends on how a preset is tuned later.

pub(crate) mod choice;
mod pattern;
pub(crate) mod points;
mod settings;
pub(crate) mod worth;

use crate::scale::Scale;
pub(crate) use pattern::Pattern;
pub(crate) use settings::{CONVENTIONAL, fixed};

/// A row at a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) what: What,
    pub(crate) pace: Pace,
}

/// Learning rates, as multiples of 1e-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    Half,
    Once,
    Twice,
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The preset, unchanged, at its own rate.
    MainJob,
    /// The same under the random policy.
    MainJobRandom,
    Conventional,
    /// Conventional, with as many layers as growth has groups at its end.
    Shallow,
    /// A fixed sharing with this pattern and so many groups.
    Fixed(Pattern, u8),
    OneBlock,
    Paper,
    PaperRandom,
    /// The paper's method with k in epochs.
    PaperEpochs,
    /// Table 4 (i).
    PaperShallow,
    /// Table 4 (vii).
    PaperCycle,
    PaperPerLayer,
    Grow,
    Even,
    /// The random twin of both: the same times, with random groups and parts.
    GrowRandom,
    /// The same with random times.
    GrowAnywhere,
    Conflict,
    ConflictRandom,
    Single,
    SingleRandom,
    /// Search with backtracking, from no ties.
    Backtrack,
    /// Beam search, from no ties.
    Beam,
    /// Monte-Carlo tree search, from no ties.
    Mcts,
    /// The random twin of the searches: as many states are judged, drawn at random.
    RandomSearch,
    /// Growth's final groups from the start, each with its own initial weights.
    FinalGroups,
    /// Growth where the parts of a split start without moments.
    GrowFresh,
    /// Growth until every layer has its own block.
    GrowAll,
    /// Conventional training with a rate that rises until growth's last split.
    ConventionalWarm,
    /// One block with a rate that rises until growth's last split.
    OneBlockWarm,
    /// A conventional model with so many layers of this width.
    Size {
        layers: u8,
        width: u16,
    },
}

/// The sizes and times of the rows at a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) layers: usize,
    /// Groups at the end of growth.
    pub(crate) groups: usize,
    pub(crate) width: usize,
    /// Times of growth's splits, as shares of training.
    pub(crate) grow: &'static [f64],
    /// Times of the splits until every layer has its own block.
    pub(crate) grow_all: &'static [f64],
    /// Epochs between the decisions of the paper's method with k in epochs.
    epochs_between: usize,
    /// Steps between swaps.
    swap_every: usize,
    /// Steps between changes of single layers.
    single_every: usize,
    /// Steps between searches.
    search_every: usize,
    /// Forward passes of one search.
    search_passes: usize,
    /// Steps until growth's last split.
    warm_steps: usize,
    /// Depths of the conventional models that value a perplexity, see [`worth`].
    pub(crate) depths: &'static [u8],
    /// Widths of the same models.
    pub(crate) widths: &'static [u16],
}

const SMOKE: Setup = Setup {
    layers: 4,
    groups: 3,
    width: 32,
    grow: &[0.3, 0.5],
    grow_all: &[0.3, 0.5, 0.7],
    epochs_between: 1,
    swap_every: 2,
    single_every: 2,
    search_every: 4,
    search_passes: 16,
    warm_steps: 6,
    depths: &[1, 4],
    widths: &[32],
};

const LAPTOP: Setup = Setup {
    layers: 12,
    groups: 4,
    width: 128,
    grow: &[0.3, 0.4, 0.5],
    grow_all: &[0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8],
    epochs_between: 1,
    swap_every: 40,
    single_every: 10,
    search_every: 160,
    search_passes: 256,
    warm_steps: 400,
    depths: &[1, 2, 3, 4, 6, 8, 12],
    widths: &[64, 128, 192],
};

/// Its runs have 3,720 steps.
const LONG: Setup = Setup {
    width: 64,
    // 20 decisions in 60 passes, as the paper has with k = 15 in 300 passes.
    epochs_between: 3,
    swap_every: 180,
    single_every: 45,
    search_every: 720,
    warm_steps: 1860,
    widths: &[32, 64, 128],
    ..LAPTOP
};

/// Rows in the order of the page. Each has every rate, except the main job, which has its own.
const ROWS: [What; 21] = [
    What::MainJob,
    What::MainJobRandom,
    What::Conventional,
    What::OneBlock,
    What::Grow,
    What::GrowRandom,
    What::Even,
    What::GrowAnywhere,
    What::Conflict,
    What::ConflictRandom,
    What::Single,
    What::SingleRandom,
    What::Backtrack,
    What::Beam,
    What::Mcts,
    What::RandomSearch,
    What::Paper,
    What::PaperRandom,
    What::PaperEpochs,
    What::Shallow,
    What::FinalGroups,
];
/// Rows that scale smoke leaves out, because it has similar ones.
const MORE: [What; 4] =
    [What::GrowFresh, What::GrowAll, What::ConventionalWarm, What::OneBlockWarm];
/// Rows of the paper that only its own regime has, at scale long.
const PAPER: [What; 3] = [What::PaperShallow, What::PaperCycle, What::PaperPerLayer];

/// Controls that no existing setting can express, with the reason.
pub(crate) const LEFT_OUT: [(&str, &str); 2] = [
    ("Conventional training with growth's block rates", WHY_LEFT_OUT),
    ("One block for all layers with growth's rate", WHY_LEFT_OUT),
];
const WHY_LEFT_OUT: &str = "no setting raises only the rate of the blocks in steps";

impl Setup {
    /// `None` if the scale has no such study.
    pub(crate) fn of(scale: Scale) -> Option<&'static Self> {
        match scale {
            Scale::Smoke => Some(&SMOKE),
            Scale::Laptop => Some(&LAPTOP),
            Scale::Long => Some(&LONG),
            Scale::Paper => None,
        }
    }

    /// Fixed sharings with as many groups as growth ends with, and with half as many. The latter hold
    /// no more blocks than growth holds in the mean.
    pub(crate) fn patterns(&self) -> Vec<What> {
        let of =
            |groups: usize| Pattern::ALL.map(|pattern| What::Fixed(pattern, groups as u8)).to_vec();
        let few = [Pattern::Neighbours, Pattern::Cycle]
            .map(|one| What::Fixed(one, self.groups as u8 / 2));
        if self.groups < 4 { of(self.groups) } else { [of(self.groups), few.to_vec()].concat() }
    }

    /// The conventional models that value a perplexity.
    pub(crate) fn sizes(&self) -> Vec<What> {
        let of = |&width: &u16| self.depths.iter().map(move |&layers| What::Size { layers, width });
        self.widths.iter().flat_map(of).collect()
    }
}

/// The rows of a scale in the order of its page, without the sizes.
pub(crate) fn rows(scale: Scale) -> Vec<What> {
    let Some(setup) = Setup::of(scale) else { return Vec::new() };
    let mut rows = ROWS.to_vec();

    match scale {
        Scale::Smoke => {
            rows.extend([What::Fixed(Pattern::Cycle, setup.groups as u8), What::PaperShallow])
        }
        _ => rows.extend([setup.patterns(), MORE.to_vec()].concat()),
    }

    if scale == Scale::Long {
        rows.extend(PAPER);
    }

    rows
}

/// All points of a scale in the order in which they run: the middle rate of every row first.
pub(crate) fn points(scale: Scale) -> Vec<Point> {
    let Some(setup) = Setup::of(scale) else { return Vec::new() };
    let mut points = Vec::new();

    for pace in [Pace::Once, Pace::Half, Pace::Twice] {
        let has = |what: &What| match scale {
            // One row with two rates is enough to see that the choice of a rate works.
            Scale::Smoke if pace == Pace::Twice => *what == What::Grow,
            Scale::Smoke if pace == Pace::Half => false,
            _ => what.paces().contains(&pace),
        };

        points.extend(rows(scale).into_iter().filter(has).map(|what| Point { what, pace }));
        if pace == Pace::Once {
            points.extend(setup.sizes().into_iter().map(|what| Point { what, pace }));
        }
    }

    points
}

impl Pace {
    pub(crate) const ALL: [Self; 3] = [Self::Half, Self::Once, Self::Twice];

    /// The learning rate.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Half => "5e-4",
            Self::Once => "1e-3",
            Self::Twice => "2e-3",
        }
    }
}

impl Point {
    pub(crate) fn name(self) -> String {
        match self.what {
            What::MainJob | What::MainJobRandom | What::Size { .. } => self.what.name(),
            what => format!("{}-{}", what.name(), self.pace.text()),
        }
    }
}

impl What {
    /// Its rates.
    pub(crate) fn paces(self) -> &'static [Pace] {
        match self {
            Self::MainJob | Self::MainJobRandom | Self::Size { .. } => &[Pace::Once],
            _ => &Pace::ALL,
        }
    }

    pub(crate) fn has_every_seed(self) -> bool {
        !matches!(self, Self::Size { .. })
    }

    /// The row that differs only in its policy, which is random.
    pub(crate) fn twin(self) -> Option<Self> {
        match self {
            Self::MainJob => Some(Self::MainJobRandom),
            Self::Grow | Self::Even => Some(Self::GrowRandom),
            Self::Conflict => Some(Self::ConflictRandom),
            Self::Single => Some(Self::SingleRandom),
            Self::Backtrack | Self::Beam | Self::Mcts => Some(Self::RandomSearch),
            Self::Paper => Some(Self::PaperRandom),
            _ => None,
        }
    }

    /// Whether it is one of the fixed sharings that a method has to beat.
    pub(crate) fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(..) | Self::OneBlock)
    }

    /// The method that the row starts from; `None` for the preset's own.
    pub(crate) fn method(self) -> Option<&'static str> {
        match self {
            Self::MainJob | Self::MainJobRandom => None,
            _ => Some("paper"),
        }
    }

    /// Its name on the command line and in folders, and its label in a table.
    fn words(self) -> [String; 2] {
        let words = match self {
            Self::MainJob => ["main-job", "The main job: the preset as it is"],
            Self::MainJobRandom => ["main-job-random", "The main job, random policy"],
            Self::Conventional => ["conventional", "Conventional training"],
            Self::Shallow => {
                ["shallow", "Conventional, as many layers as growth has groups at the end"]
            }
            Self::Fixed(pattern, groups) => {
                let [name, label] = pattern.words();
                return [format!("{name}-{groups}"), format!("Fixed: {label}, {groups} groups")];
            }
            Self::OneBlock => ["one-block", "Fixed: one block for all layers"],
            Self::Paper => ["paper", "The paper's method"],
            Self::PaperRandom => ["paper-random", "The paper's method, random policy"],
            Self::PaperEpochs => ["paper-epochs", "The paper's method, k in epochs"],
            Self::PaperShallow => {
                ["paper-i", "(i) Conventional, as many layers as the paper's method has at the end"]
            }
            Self::PaperCycle => ["paper-vii", "(vii) Cycle: layer i with layer L/2 + i"],
            Self::PaperPerLayer => ["paper-per-layer", "The paper's method, one layer at a time"],
            Self::Grow => ["grow", "Growth: splits where gradients disagree most"],
            Self::Even => ["even", "Growth: splits of the largest group in its middle"],
            Self::GrowRandom => ["grow-random", "Growth: splits at random places"],
            Self::GrowAnywhere => ["grow-anywhere", "Growth: splits at random times and places"],
            Self::Conflict => {
                ["conflict", "Growth, then swaps: merge what agrees, split what disagrees"]
            }
            Self::ConflictRandom => ["conflict-random", "Growth, then swaps, all at random"],
            Self::Single => ["single", "Q over single changes"],
            Self::SingleRandom => ["single-random", "Single changes at random"],
            Self::Backtrack => ["backtrack", "Search with backtracking, from no ties"],
            Self::Beam => ["beam", "Beam search, from no ties"],
            Self::Mcts => ["mcts", "Monte-Carlo tree search, from no ties"],
            Self::RandomSearch => {
                ["random-search", "Search at random with the same budget, from no ties"]
            }
            Self::FinalGroups => {
                ["final-groups", "Growth's final groups from the start, separate weights"]
            }
            Self::GrowFresh => ["grow-fresh", "Growth, fresh moments after a split"],
            Self::GrowAll => ["grow-all", "Growth until every layer has its own block"],
            Self::ConventionalWarm => {
                ["conventional-warm", "Conventional, rate rising until growth's last split"]
            }
            Self::OneBlockWarm => {
                ["one-block-warm", "One block, rate rising until growth's last split"]
            }
            Self::Size { layers, width } => {
                let label = format!("Conventional, {layers} layers of width {width}");
                return [format!("size-{layers}x{width}"), label];
            }
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
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn law_names_of_points_are_different_and_each_row_has_its_rates() {
        for scale in Scale::ALL {
            let points = points(scale);
            let names: BTreeSet<String> = points.iter().map(|point| point.name()).collect();
            assert_eq!(names.len(), points.len(), "{scale:?}");

            let labels: BTreeSet<String> = rows(scale).iter().map(|what| what.label()).collect();
            assert_eq!(labels.len(), rows(scale).len(), "{scale:?}");
        }

        let of_grow: Vec<_> =
            points(Scale::Long).into_iter().filter(|point| point.what == What::Grow).collect();
        assert_eq!(of_grow.len(), Pace::ALL.len());
        assert!(points(Scale::Paper).is_empty());
    }

    #[test]
    fn law_a_twin_is_a_row_where_its_row_is() {
        for scale in [Scale::Smoke, Scale::Laptop, Scale::Long] {
            let rows = rows(scale);
            for twin in rows.iter().filter_map(|what| what.twin()) {
                assert!(rows.contains(&twin), "{scale:?}: {}", twin.name());
            }
        }
    }
}
