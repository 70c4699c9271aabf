//! Rows that have no text or cannot be read: how they are handled and reported.
//!
//! One rule applies to all formats. A null or missing text counts as empty, and a row that cannot
//! be read is an error. With `data.on_bad_row = "skip"` both kinds of rows are left out. In both
//! cases a row is counted once, however often its file is read.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use dlt_spec::spec::OnBadRow;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Rows whose place and reason are kept.
const KEPT: usize = 3;

/// What a row holds: its text, nothing, or the reason why it cannot be read.
pub(super) type RowText<'a> = Result<Option<&'a str>, String>;

/// Rows without a text, among those from which tokens or examples were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRows {
    /// Rows that counted as empty.
    pub empty: u64,
    /// Rows that were left out.
    pub skipped: u64,
    /// The first few of them, with file, row and reason.
    pub first: Vec<String>,
}

/// What was found in a file so far. All readers of the same rows of a file share it.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

/// Rows without a text of one file, without its name. A token cache stores this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The last row that was counted. A file is read more than once, and always from front to back,
    /// so earlier rows are not counted again.
    last: u64,
    empty: u64,
    skipped: u64,
    first: Vec<(u64, String)>,
}

impl Findings {
    pub(super) fn note(&self, row: u64, reason: &str, policy: OnBadRow) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if row <= found.last {
            return;
        }

        found.last = row;
        match policy {
            OnBadRow::Stop => found.empty += 1,
            OnBadRow::Skip => found.skipped += 1,
        }

        if found.first.len() < KEPT {
            found.first.push((row, reason.to_owned()));
        }
    }

    /// What was found.
    pub(crate) fn found(&self) -> Found {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses what an earlier process found in the same rows, if that is more.
    pub(crate) fn restore(&self, earlier: &Found) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if earlier.last > found.last {
            found.clone_from(earlier);
        }
    }
}

impl Found {
    /// Whether nothing was found.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn of(self, path: &Path) -> BadRows {
        let place = |(row, reason)| format!("{}, row {row}: {reason}", path.display());
        let first = self.first.into_iter().map(place).collect();
        BadRows { empty: self.empty, skipped: self.skipped, first }
    }
}

/// What was found in each of these files, in the order of their paths. The same file may occur more
/// than once.
pub(crate) fn by_file<'a>(
    files: impl Iterator<Item = &'a DataFile>,
) -> BTreeMap<&'a Path, BadRows> {
    let mut seen = BTreeSet::new();
    let mut all: BTreeMap<&Path, BadRows> = BTreeMap::new();
    for file in files.filter(|file| seen.insert(Arc::as_ptr(&file.findings))) {
        all.entry(&file.path).or_default().add(file.findings.found().of(&file.path));
    }

    all
}

impl BadRows {
    /// Adds those of another file, or of other rows of the same file.
    pub(crate) fn add(&mut self, other: Self) {
        self.empty += other.empty;
        self.skipped += other.skipped;
        self.first.extend(other.first);
        self.first.truncate(KEPT);
    }

    /// Warns of the bad rows of a file.
    pub(crate) fn tell(&self, path: &Path) {
        let Self { empty, skipped, first } = self;
        let (rows, what) = match (empty, skipped) {
            (0, 0) => return,
            (rows, 0) => (
                rows,
                "rows without text count as empty; data.on_bad_row = \"skip\" leaves them out",
            ),
            (_, rows) => (rows, "rows are left out"),
        };

        tracing::warn!(path = %path.display(), rows, first = first.join("; "), "{what}");
    }
}

/// Hands the text of a row to `sink`, following the policy for bad rows. Rows are counted from 1.
pub(super) fn hand_on(
    file: &DataFile,
    row: u64,
    text: RowText<'_>,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    let policy = file.reading.on_bad_row;
    let text = match (text, policy) {
        (Ok(Some(text)), _) => text,
        (Ok(None), policy) => {
            file.findings.note(row, "no text", policy);
            if policy == OnBadRow::Skip {
                return Ok(Flow::On);
            }
            ""
        }
        (Err(reason), _) => match usable::<&str>(file, row, Err(reason))? {
            Some(text) => text,
            None => return Ok(Flow::On),
        },
    };

    sink(Piece { text, kind: PieceKind::Ends })
}

/// A row, if it can be used. Otherwise, by the policy, an error, or `None` after the row was
/// counted. Rows are counted from 1.
pub(crate) fn usable<T>(
    file: &DataFile,
    row: u64,
    found: Result<T, String>,
) -> Result<Option<T>, DataError> {
    let reason = match found {
        Ok(found) => return Ok(Some(found)),
        Err(reason) => reason,
    };

    match file.reading.on_bad_row {
        OnBadRow::Skip => {
            file.findings.note(row, &reason, OnBadRow::Skip);
            Ok(None)
        }
        OnBadRow::Stop => {
            let reason = format!("{reason}; data.on_bad_row = \"skip\" leaves such rows out");
            Err(DataError::BadRow { path: file.path.clone(), row, reason })
        }
    }
}
