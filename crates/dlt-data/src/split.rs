//! The three splits of a text.

use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A split: one trains the model, one chooses the model, and one is read once at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Trains the model.
    Train,
    /// Chooses the model.
    Validation,
    /// Read once, at the end.
    Test,
}

impl Split {
    /// All splits, in the order in which they are in a text.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The value for this split, out of three in the order of [`ALL`](Self::ALL).
    pub(crate) fn of<T>(self, [train, validation, test]: [T; 3]) -> T {
        match self {
            Self::Train => train,
            Self::Validation => validation,
            Self::Test => test,
        }
    }

    /// The split's name, as in the name of its file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The split that a word in the name of a file stands for.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "train" | "training" | "trainset" | "traindata" => Some(Self::Train),
            "validation" | "valid" | "validate" | "val" | "dev" | "devel" | "development"
            | "eval" | "evaluation" | "validset" | "valset" | "devset" | "evalset" => {
                Some(Self::Validation)
            }
            "test" | "tests" | "testing" | "testset" | "testdata" | "devtest" | "heldout"
            | "holdout" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far the sum of the fractions may be from 1, as they are written as decimals.
const SUM_TOLERANCE: f64 = 1e-6;

/// Where validation and test begin, in characters, when a text is cut by these fractions. The
/// splits are contiguous, in this order, without overlap (as in the published cut of tiny
/// Shakespeare).
pub(crate) fn cut_by_fractions(
    characters: u64,
    fractions: [f64; 3],
) -> Result<[u64; 2], DataError> {
    let valid = fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction));
    if !valid || (fractions.iter().sum::<f64>() - 1.0).abs() > SUM_TOLERANCE {
        return Err(DataError::BadFractions { fractions });
    }
    // The sum is rounded to nine decimals, so that 0.9 + 0.05 is 0.95 and not the float below it.
    let share = |fraction: f64| ((characters as f64) * (fraction * 1e9).round() / 1e9) as u64;
    Ok([share(fractions[0]), share(fractions[0] + fractions[1]).min(characters)])
}
