//! Tables in Parquet, read by column.

#[cfg(any(test, not(feature = "parquet")))]
mod absent;
#[cfg(feature = "parquet")]
mod reader;

use super::{DataFile, Flow, Sink, bad_rows::hand_on, column::TextColumn};
use crate::error::DataError;
use std::ops::Range;

#[cfg(not(feature = "parquet"))]
pub(crate) use absent::Table;
#[cfg(feature = "parquet")]
pub(crate) use reader::Table;

/// A value: a whole number of 32 or 64 bits, bytes, or nothing.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "only the reader makes one"))]
pub(crate) enum Cell<'a> {
    /// Bytes of a text or a picture.
    Bytes(&'a [u8]),
    /// A label.
    Whole(i64),
    /// Nothing.
    Missing,
}

/// Number of rows of a file.
pub(super) fn rows(file: &DataFile) -> Result<u64, DataError> {
    Table::open(file).map(|table| table.rows())
}

/// The column of the text.
pub(super) fn column(file: &DataFile, wanted: Option<&str>) -> Result<TextColumn, DataError> {
    Table::open(file)?.text_column(wanted)
}

/// An estimate of the bytes of a column of text before it was compressed.
pub(super) fn text_bytes(file: &DataFile, column: &str) -> Option<u64> {
    let table = Table::open(file).ok()?;
    Some(table.bytes(table.column(column).ok()?))
}

/// Hands the texts of a column to `sink`, row by row.
pub(super) fn read_text(
    file: &DataFile,
    column: &str,
    wanted: Range<u64>,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    let table = Table::open(file)?;
    let column = table.column(column)?;

    table.cells(column, &wanted, &mut |row, cell| {
        let text = match cell {
            Cell::Bytes(bytes) => {
                std::str::from_utf8(bytes).map(Some).map_err(|error| format!("not UTF-8: {error}"))
            }
            Cell::Whole(_) => Err("expected text, got a whole number".to_owned()),
            Cell::Missing => Ok(None),
        };

        hand_on(file, row + 1, text, sink)
    })
}
