//! At which size an experiment is run.

use clap::ValueEnum;

/// How large models and runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scale {
    /// Every cell in about a second, on texts and pictures that are there: whether it works at all
    Smoke,
    /// Each cell in minutes on two cores
    Laptop,
    /// The paper's own numbers: GPUs, and days
    Paper,
}

impl Scale {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Laptop => "laptop",
            Self::Paper => "paper",
        }
    }

    /// What it is, for the head of a table.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Smoke => {
                "Scale smoke: models of a few layers for a dozen steps, which show that everything runs and nothing else."
            }
            Self::Laptop => {
                "Scale laptop: small models for a few passes over their data, minutes a run on two cores. Perplexities \
                 are not comparable with the paper's, which are of other sizes, lengths and texts; differences between \
                 rows are."
            }
            Self::Paper => "Scale paper: the sizes, lengths and settings that the paper gives.",
        }
    }
}
