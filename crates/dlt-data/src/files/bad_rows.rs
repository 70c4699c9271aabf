//! Rows that have no text or cannot be read: what becomes of them, and what is said of them.
//!
//! One rule for all formats. A text that is null or that a row lacks is empty, and a row that
//! cannot be read stops; with `data.on_bad_row = "skip"` both are left out. Either way they are
//! counted once, however often a file is read.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use dlt_spec::spec::OnBadRow;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Rows of each kind whose place is kept.
const KEPT: usize = 3;

/// What a row holds: its text, nothing, or the reason why it cannot be read.
pub(super) type RowText<'a> = Result<Option<&'a str>, String>;

/// Rows without a text, of those that tokens or examples were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRows {
    /// Rows that were taken as empty.
    pub empty: u64,
    /// Rows that were left out.
    pub skipped: u64,
    /// The first of them, with file, row and reason.
    pub first: Vec<String>,
}

/// What was found in a file so far. Every reader of the same rows of a file shares it.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

/// Rows without a text of one file, without its name: what a token cache keeps of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The last row that was counted: a file is read from front to back more than once.
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

    /// Takes over what an earlier process found in the same rows.
    pub(crate) fn restore(&self, earlier: &Found) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if earlier.last > found.last {
            found.clone_from(earlier);
        }
    }
}

impl Found {
    /// Whether there is nothing to say of the file.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn of(self, path: &Path) -> BadRows {
        let place = |(row, reason)| format!("{}, row {row}: {reason}", path.display());
        let first = self.first.into_iter().map(place).collect();
        BadRows { empty: self.empty, skipped: self.skipped, first }
    }
}

/// What was found in each of these files, in the order of their paths. A file may be there more
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
    /// Adds those of another file, or of other rows of the same one.
    pub(crate) fn add(&mut self, other: Self) {
        self.empty += other.empty;
        self.skipped += other.skipped;
        self.first.extend(other.first);
        self.first.truncate(KEPT);
    }

    /// Warns of those of a file.
    pub(crate) fn tell(&self, path: &Path) {
        let Self { empty, skipped, first } = self;
        let (rows, what) = match (empty, skipped) {
            (0, 0) => return,
            (rows, 0) => (
                rows,
                "rows without text are taken as empty; data.on_bad_row = \"skip\" leaves them out",
            ),
            (_, rows) => (rows, "rows are left out"),
        };

        tracing::warn!(path = %path.display(), rows, first = first.join("; "), "{what}");
    }
}

/// Hands the text of a row on, as the policy has it. Rows are counted from 1.
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

/// A row where it can be used. One that cannot is an error, or is counted and left out. Rows are
/// counted from 1.
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
