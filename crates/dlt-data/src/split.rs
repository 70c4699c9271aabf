//! Splits by the words in the names of files, and by fractions of a text.

use crate::error::DataError;

pub use dlt_spec::record::Split;

/// The split that a word in the name of a file stands for.
pub(crate) fn split_of_word(word: &str) -> Option<Split> {
    match word.to_ascii_lowercase().as_str() {
        "train" | "training" | "trainset" | "traindata" => Some(Split::Train),
        "validation" | "valid" | "validate" | "val" | "dev" | "devel" | "development" | "eval"
        | "evaluation" | "validset" | "valset" | "devset" | "evalset" => Some(Split::Validation),
        "test" | "tests" | "testing" | "testset" | "testdata" | "devtest" | "heldout"
        | "holdout" => Some(Split::Test),
        _ => None,
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
