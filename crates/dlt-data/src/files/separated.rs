//! Rows separated by commas or tabs under a line of names. Where tabs separate, quotes mean nothing, as in GLUE.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use std::io::Read;

pub(super) fn read(
    file: &DataFile,
    separator: u8,
    column: Option<&str>,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    let mut reader = open(file, separator)?;
    let names: Vec<String> =
        reader.headers().map_err(|error| bad(file, &error))?.iter().map(str::to_owned).collect();
    let index = file.choose_column(&names, column)?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| bad(file, &error))? {
        // There is one: rows of another length are an error.
        let text = record.get(index).unwrap_or_default();
        if sink(Piece { text, kind: PieceKind::Ends })? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }
    Ok(Flow::On)
}

fn open(file: &DataFile, separator: u8) -> Result<Reader<Box<dyn Read + '_>>, DataError> {
    let is_quoted = separator == b',';
    Ok(ReaderBuilder::new().delimiter(separator).quoting(is_quoted).from_reader(file.open()?))
}

fn bad(file: &DataFile, error: &csv::Error) -> DataError {
    let row = error.position().map_or(0, csv::Position::line);
    let reason = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("expected {expected_len} fields as the first line has, came {len}")
        }
        ErrorKind::Utf8 { err, .. } => format!("not UTF-8: {err}"),
        _ => return file.bad(error),
    };
    DataError::BadRow { path: file.path.clone(), row, reason }
}
