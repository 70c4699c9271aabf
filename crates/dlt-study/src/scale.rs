//! The scales at which experiments run.

use clap::ValueEnum;

/// How large models and runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scale {
    /// Every cell in about a second, on data that need no download: shows whether everything works
    Smoke,
    /// Each cell in minutes on two cores
    Laptop,
    /// The paper's regime in minutes per run: 60 passes of a small model over a small text
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

    /// Describes the scale, for the top of a page.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Smoke => {
                "Scale smoke: models of a few layers, trained for a dozen steps. They only show that \
                 everything runs."
            }
            Self::Laptop => {
                "Scale laptop: small models, trained for a few passes over their data. A run takes \
                 minutes on two cores. The paper's models, run lengths and texts are different, so \
                 its perplexities cannot be compared with these. Differences between rows are comparable."
            }
            Self::Long => {
                "Scale long: the paper's regime at a small size. A model with 12 layers of width 64 \
                 trains for 60 passes over 80 kB of Hamlet. Its vocabulary of 1,000 tokens is trained \
                 on the same text. This length should take conventional training past its best on \
                 validation. Figures are of the model that is best on validation."
            }
            Self::Paper => "Scale paper: the sizes, lengths and settings that the paper gives.",
        }
    }
}
