//! The three splits of the data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A split of the data: one trains the model, one chooses the model, and one is read once at the
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What chooses the model.
    Validation,
    /// What the result is reported on.
    Test,
}

impl Split {
    /// All splits, in the order in which they are in a text.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The value for this split, out of three in the order of [`ALL`](Self::ALL).
    #[must_use]
    pub fn of<T>(self, [train, validation, test]: [T; 3]) -> T {
        match self {
            Self::Train => train,
            Self::Validation => validation,
            Self::Test => test,
        }
    }

    /// The split's name, as in records, in options and in the names of files.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.of(["train", "validation", "test"])
    }

    /// The split of this [`name`](Self::name).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
