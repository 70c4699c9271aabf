//! Rows that have no text or cannot be read: what becomes of them, and what is said of them.
//!
//! One rule for all formats. A text that is null or that a row lacks is empty, and a row that cannot be read stops; with
//! `data.on_bad_row = "skip"` both are left out. Either way they are counted once, however often a file is read.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use dlt_spec::spec::OnBadRow;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// Rows of each kind whose place is kept.
const KEPT: usize = 3;

/// What a row holds: its text, nothing, or the reason why it cannot be read.
pub(super) type RowText<'a> = Result<Option<&'a str>, String>;

/// Rows without a text that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRows {
    /// Rows that were taken as empty.
    pub empty: u64,
    /// Rows that were left out.
    pub skipped: u64,
    /// The first of them, with file, row and reason.
    pub first: Vec<String>,
}

/// What was found in a file so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// The last row that was counted: a file is read from front to back more than once.
    last: u64,
    rows: BadRows,
    is_told: bool,
}

impl Findings {
    fn note(&self, file: &DataFile, row: u64, reason: &str, policy: OnBadRow) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if row <= found.last {
            return;
        }
        found.last = row;
        match policy {
            OnBadRow::Stop => found.rows.empty += 1,
            OnBadRow::Skip => found.rows.skipped += 1,
        }
        if found.rows.first.len() < KEPT {
            let place = format!("{}, row {row}: {reason}", file.path.display());
            found.rows.first.push(place);
        }
    }

    /// Warns of what was found, once.
    pub(crate) fn tell(&self, file: &DataFile) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let BadRows { empty, skipped, first } = &found.rows;
        if found.is_told || empty + skipped == 0 {
            return;
        }
        let (rows, what) = match (empty, skipped) {
            (rows, 0) => {
                (rows, "rows without text are taken as empty; data.on_bad_row = \"skip\" leaves them out")
            }
            (_, rows) => (rows, "rows are left out"),
        };
        tracing::warn!(path = %file.path.display(), rows, first = first.join("; "), "{what}");
        found.is_told = true;
    }

    /// What was found.
    pub(crate) fn rows(&self) -> BadRows {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows.clone()
    }
}

impl BadRows {
    /// Adds those of another file.
    pub(crate) fn add(&mut self, other: Self) {
        self.empty += other.empty;
        self.skipped += other.skipped;
        self.first.extend(other.first);
        self.first.truncate(KEPT);
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
            file.findings.note(file, row, "no text", policy);
            if policy == OnBadRow::Skip {
                return Ok(Flow::On);
            }
            ""
        }
        (Err(reason), OnBadRow::Skip) => {
            file.findings.note(file, row, &reason, policy);
            return Ok(Flow::On);
        }
        (Err(reason), OnBadRow::Stop) => {
            let reason = format!("{reason}; data.on_bad_row = \"skip\" leaves such rows out");
            return Err(DataError::BadRow { path: file.path.clone(), row, reason });
        }
    };
    sink(Piece { text, kind: PieceKind::Ends })
}
