//! The data sets that have a name: those of the paper, where they come from, and how their splits
//! are made.

mod table;

use crate::error::DataError;
use crate::split::Split;
use std::fmt;

pub use table::CATALOGUE;

/// A data set that has a name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// The task that it is for.
    pub task: LearningTask,
    /// Size in words: text, rows, tokens.
    pub size: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Repository on the hub; `None` for what is shipped.
    pub repository: Option<&'static str>,
    /// Its revision, unless another one is requested.
    pub revision: &'static str,
    /// Its configuration there, a folder.
    pub config: &'static str,
    /// How the three splits are made, in words.
    pub splits: &'static str,
    /// What the paper reports on it.
    pub paper: &'static str,
    /// How train, validation and test are made, for the program.
    pub(crate) parts: [Part; 3],
    /// What its rows hold.
    pub(crate) columns: Columns,
}

/// The task that a data set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LearningTask {
    /// Predicting the next token.
    LanguageModel,
    /// Predicting the class of a sentence or of a pair of sentences.
    Classification,
    /// Predicting the class of a picture.
    Images,
}

impl LearningTask {
    /// The task in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LanguageModel => "language modelling",
            Self::Classification => "classification of sentences",
            Self::Images => "classification of pictures",
        }
    }

    /// The error for a data set that is not for this task: it is for `task`, or, without an entry
    /// in the catalogue, a text.
    pub(crate) fn not_of(self, name: &str, task: Option<Self>) -> DataError {
        let task = task.map_or("text alone", Self::name);
        DataError::OtherTask { name: name.to_owned(), task, wanted: self.name() }
    }
}

impl fmt::Display for LearningTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the rows of a table hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Text to predict.
    Text {
        /// The column.
        column: &'static str,
        /// How rows become one text.
        joining: Joining,
    },
    /// One or two sentences and the column `label`.
    Sentences {
        /// The first sentence.
        first: &'static str,
        /// The second.
        second: Option<&'static str>,
    },
    /// `img.bytes` and `label`.
    Picture,
}

/// How rows become one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// A line end between two rows, unless the first has one.
    Lines,
    /// As the hub cut the WikiText files: rows keep their line ends, but a blank line (a blank and
    /// a line end) became an empty row.
    WikiText,
}

/// Which rows of which split of the hub form one of our splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The split of the hub.
    pub(crate) of: Split,
    /// Its rows.
    pub(crate) rows: RowShare,
}

/// Which rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowShare {
    /// All of them.
    All,
    /// All except the rows of the tail.
    Before(Tail),
    /// Only the rows of the tail.
    Last(Tail),
}

/// A number of rows at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// This number of rows.
    Rows(u64),
    /// This percentage of the rows, rounded down, but at least one row.
    Percent(u64),
}

impl RowShare {
    /// The range of rows in a table of `rows` rows.
    pub(crate) fn range(self, rows: u64) -> std::ops::Range<u64> {
        let cut = |tail: Tail| {
            let last = match tail {
                Tail::Rows(count) => count,
                Tail::Percent(percent) => (rows * percent / 100).max(1),
            };

            rows.saturating_sub(last)
        };

        match self {
            Self::All => 0..rows,
            Self::Before(tail) => 0..cut(tail),
            Self::Last(tail) => cut(tail)..rows,
        }
    }
}

/// The hub's own three splits.
pub(crate) const OWN_SPLITS: [Part; 3] = [
    Part { of: Split::Train, rows: RowShare::All },
    Part { of: Split::Validation, rows: RowShare::All },
    Part { of: Split::Test, rows: RowShare::All },
];

/// Train and test of the hub; validation is cut from the end of train.
pub(crate) const fn validation_from_train(tail: Tail) -> [Part; 3] {
    [
        Part { of: Split::Train, rows: RowShare::Before(tail) },
        Part { of: Split::Train, rows: RowShare::Last(tail) },
        Part { of: Split::Test, rows: RowShare::All },
    ]
}

/// The data set with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_shares_of_one_table_are_disjoint_and_whole() {
        for tail in [Tail::Rows(5_000), Tail::Percent(1), Tail::Rows(0)] {
            for rows in [0, 1, 7, 100, 5_000, 50_000] {
                let before = RowShare::Before(tail).range(rows);
                let last = RowShare::Last(tail).range(rows);
                assert_eq!((before.start, before.end, last.end), (0, last.start, rows));
            }
        }

        assert_eq!(RowShare::Last(Tail::Rows(5_000)).range(50_000), 45_000..50_000);
        assert_eq!(RowShare::Last(Tail::Percent(1)).range(30_301_028), 29_998_018..30_301_028);
    }

    #[test]
    fn law_no_two_of_our_splits_share_a_row() {
        for entry in CATALOGUE {
            for (left, right) in [(0, 1), (0, 2), (1, 2)] {
                let left = entry.parts[left];
                let right = entry.parts[right];
                let one = left.rows.range(60_000);
                let other = right.rows.range(60_000);
                let apart = one.end <= other.start || other.end <= one.start;

                assert!(left.of != right.of || apart, "{}", entry.name);
            }
        }
    }
}
