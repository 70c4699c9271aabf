//! The plan that assigns files of a folder or repository to splits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which files of a folder or repository are read for which split, in which order, and which are
/// left out. Files are paths below the folder, with `/` as separator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderPlan {
    /// How the three splits are made from the files.
    pub division: Division,
    /// Files of the training split, in the order in which they are read; under
    /// [`Division::Fractions`] all files.
    pub train: Vec<String>,
    /// Files of the validation split.
    pub validation: Vec<String>,
    /// Files of the test split; empty if there is none.
    pub test: Vec<String>,
    /// Files that are not read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// How splits are made from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Division {
    /// The name or the folder of each file says its split.
    Names,
    /// The same, but no file is for validation: the last rows of train are used.
    ValidationFromTrain,
    /// No file names a split other than train: all files are one text, which `data.split` cuts.
    Fractions,
    /// The checksum of its text assigns each row with a class to a split, in the shares of
    /// `data.split`.
    Checksums,
    /// As [`Division::Names`], but no file is for validation: a twentieth of the rows of train,
    /// chosen by the checksum of their text, is used.
    ValidationByChecksums,
    /// The catalogue says which rows of which files belong to which split.
    Catalogue,
}

/// What is put between two documents of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// The tokenizer's token that ends a text.
    EndOfText,
    /// A line end.
    Line,
}

/// A file that is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The file.
    pub file: String,
    /// Why.
    pub reason: Reason,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its ending is not that of a file of text or rows.
    NoData,
    /// Its name begins with a dot.
    Hidden,
    /// Its name is that of a file about the data, such as `README.txt` or `dataset_infos.json`.
    AboutData,
    /// It is in a folder that is neither that of a split nor the one that is read.
    OtherFolder,
    /// Files of another format have the same data.
    OtherFormat,
    /// The names of other files in the repository say their split, and its name does not.
    NoSplit,
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "each file belongs to the split that its name says",
            Self::ValidationFromTrain => {
                "each file belongs to the split that its name says; the last 5 % of the rows of \
                 train are for validation, because no file is"
            }
            Self::Fractions => "all files are one text, which `data.split` cuts by position",
            Self::Checksums => {
                "the rows of all files are dealt by the checksum of their text, in the shares of \
                 `data.split`"
            }
            Self::ValidationByChecksums => {
                "each file belongs to the split that its name says; 5 % of the rows of train, \
                 chosen by the checksum of their text, are for validation, because no file is"
            }
            Self::Catalogue => "as the catalogue says",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoData => "not a file of text or rows, by its ending",
            Self::Hidden => "hidden",
            Self::AboutData => "a file about the data, by its name",
            Self::OtherFolder => "in a folder that is not of a split",
            Self::OtherFormat => "the same data in another format",
            Self::NoSplit => "its name says no split, and other names do",
        })
    }
}
