//! At which size an experiment is run.

use clap::ValueEnum;

/// How large models and runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scale {
    /// Every cell in about a second, on texts and pictures that are there: whether it works at all
    Smoke,
    /// Each cell in minutes on two cores
    Laptop,
    /// The paper's regime in minutes a run: 60 passes of a small model over a small text
    Long,
    /// The paper's own numbers: GPUs, and days
    Paper,
}

impl Scale {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Smoke, Self::Laptop, Self::Long, Self::Paper];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Laptop => "laptop",
            Self::Long => "long",
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
            Self::Long => {
                "Scale long: the paper's regime at a small size. 60 passes of 12 layers of width 64 over 80 kB of Hamlet with \
                 1,000 tokens of its own, which is to bring conventional training past its best on validation. The model is \
                 the one that is best on validation."
            }
            Self::Paper => "Scale paper: the sizes, lengths and settings that the paper gives.",
        }
    }
}
