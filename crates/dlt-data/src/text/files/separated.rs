//! Rows whose columns are separated by a character, under a line of names: CSV, in which text may
//! be quoted, and TSV, in which quotes mean nothing, as in GLUE.

use super::{
    DataFile, Flow, LONGEST_ROW, Sink, TakeRecord,
    bad_rows::hand_on,
    column::{Depth, Sample, TextColumn, Value},
};
use crate::error::DataError;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use dlt_spec::spec::CsvSeparator;
use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// Whether text may be quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// As in CSV.
    Quoted,
    /// As in TSV.
    Bare,
}

/// The separators among which the first rows decide, in the order of preference.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Most rows that decide.
const DECIDING_ROWS: usize = 100;

/// What is read after the end of a file: a row of a byte that no UTF-8 text has. If a quote is not
/// closed, this becomes part of the last field, which reveals the open quote.
const END: &[u8] = b"\n\xFF\n";
const END_BYTE: u8 = 0xFF;

/// Hands the texts of a column to `sink`, row by row.
pub(super) fn read(
    file: &DataFile,
    quoting: Quoting,
    separator: u8,
    column: &str,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    let mut table = Separated::open(file, quoting, separator)?;
    let index = table.names.iter().position(|name| name == column);
    let index = index.ok_or_else(|| {
        file.bad(format!("the column {column:?} has disappeared since it was chosen"))
    })?;

    while table.next()? {
        let text = match table.record.get(index) {
            _ if table.record.len() != table.names.len() => Err(table.uneven()),
            Some(bytes) => {
                std::str::from_utf8(bytes).map(Some).map_err(|error| format!("not UTF-8: {error}"))
            }
            None => Ok(None),
        };

        if hand_on(file, table.row, text, sink)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }

    Ok(Flow::On)
}

/// The column of the text, found in the first rows.
pub(super) fn column(
    file: &DataFile,
    quoting: Quoting,
    separator: u8,
    wanted: Option<&str>,
) -> Result<TextColumn, DataError> {
    let mut table = Separated::open(file, quoting, separator)?;
    let names = table.names.clone();
    if let [only] = &names[..]
        && let Some(other) = SEPARATORS.iter().find(|&&other| only.as_bytes().contains(&other))
    {
        let reason = format!(
            "its only column is called {only:?}, which may be several columns separated by {:?}; \
             set data.csv_separator",
            char::from(*other)
        );
        return Err(file.bad(reason));
    }

    let mut sample = Sample::default();
    names.iter().for_each(|name| sample.note(name, Depth::Row, Value::Missing));

    while table.next()? {
        for (name, value) in names.iter().zip(table.record.iter()) {
            let value = std::str::from_utf8(value).map_or(Value::Bytes, Value::Text);
            sample.note(name, Depth::Row, value);
        }

        if !sample.count_row(table.record.as_slice().len()) {
            break;
        }
    }

    let chosen = sample.choose(&file.path, wanted)?;
    if names.iter().filter(|&name| *name == chosen.name).count() > 1 {
        return Err(file.bad(format!("more than one column is called {:?}", chosen.name)));
    }

    Ok(chosen)
}

/// The separator of the columns: the spec's, or the one that the first rows show.
pub(super) fn separator(file: &DataFile, quoting: Quoting) -> Result<u8, DataError> {
    match file.reading.csv_separator {
        CsvSeparator::Comma => Ok(b','),
        CsvSeparator::Semicolon => Ok(b';'),
        CsvSeparator::Tab => Ok(b'\t'),
        CsvSeparator::Bar => Ok(b'|'),
        CsvSeparator::Auto if quoting == Quoting::Bare => Ok(b'\t'),
        CsvSeparator::Auto => found_separator(file),
    }
}

/// The separator with which the first rows have equally many columns, and more than one.
fn found_separator(file: &DataFile) -> Result<u8, DataError> {
    let mut even = Vec::new();
    let mut uneven = Vec::new();

    for separator in SEPARATORS {
        let mut table = Separated::open(file, Quoting::Quoted, separator)?;
        if table.names.len() < 2 {
            continue;
        }

        let mut is_even = true;
        for _ in 0..DECIDING_ROWS {
            // Errors end the search here. The reader with the chosen separator meets and reports
            // them.
            if !table.next().unwrap_or(false) {
                break;
            }
            is_even &= table.record.len() == table.names.len();
        }

        if is_even {
            even.push(separator)
        } else {
            uneven.push(separator)
        };
    }

    let likely = if even.is_empty() { uneven } else { even };

    match likely[..] {
        [] => Ok(SEPARATORS[0]),
        [only] => Ok(only),
        _ => {
            let names: Vec<String> =
                likely.iter().map(|&one| format!("{:?}", char::from(one))).collect();
            let names = names.join(" or ");
            Err(file
                .bad(format!("its columns may be separated by {names}; set data.csv_separator")))
        }
    }
}

/// Reads the rows of a table one by one.
struct Separated<'a> {
    file: &'a DataFile,
    reader: Reader<Bounded<Box<dyn Read + 'a>>>,
    /// Bytes that may still be read for the current row.
    left: Rc<Cell<u64>>,
    names: Vec<String>,
    record: ByteRecord,
    /// Number of the last row. The line of names is row 1.
    row: u64,
    /// The line in which it begins.
    line: u64,
    /// 1 if lines end with CR LF: the reader ends a row at its CR and counts its LF with the next
    /// row. Otherwise 0.
    behind: u64,
    quoting: Quoting,
}

/// Hands every row to `take`, or the error that its length differs from the line of names.
pub(super) fn each(
    file: &DataFile,
    quoting: Quoting,
    separator: u8,
    take: TakeRecord<'_>,
) -> Result<(), DataError> {
    let mut table = Separated::open(file, quoting, separator)?;
    while table.next()? {
        let is_even = table.record.len() == table.names.len();
        let record = if is_even { Ok(&table.record) } else { Err(table.uneven()) };
        if take(&table.names, table.row, record)? == Flow::Stop {
            break;
        }
    }

    Ok(())
}

impl<'a> Separated<'a> {
    fn open(file: &'a DataFile, quoting: Quoting, separator: u8) -> Result<Self, DataError> {
        let left = Rc::new(Cell::new(LONGEST_ROW));
        let content: Box<dyn Read + 'a> = Box::new(file.open()?.chain(END));
        let reader = ReaderBuilder::new()
            .delimiter(separator)
            .quoting(quoting == Quoting::Quoted)
            .has_headers(false)
            .flexible(true)
            .from_reader(Bounded { content, left: Rc::clone(&left) });

        let names = Vec::new();
        let record = ByteRecord::new();
        let mut table =
            Self { file, reader, left, names, record, row: 0, line: 0, behind: 0, quoting };

        if table.next()? {
            table.behind = u64::from(table.reader.position().line() == 1);
            let names =
                table.record.iter().map(|name| std::str::from_utf8(name).map(str::to_owned));
            table.names = names
                .collect::<Result<_, _>>()
                .map_err(|error| file.bad(format!("its line of names is not UTF-8: {error}")))?;
        }

        Ok(table)
    }

    /// Reads the next row, if there is one.
    fn next(&mut self) -> Result<bool, DataError> {
        self.left.set(LONGEST_ROW);
        self.line = self.reader.position().line() + self.behind;
        self.row += 1;
        self.read_record()?;

        if self.record.as_slice() == [END_BYTE] {
            // This is the row that was added after the end, if no row follows. Otherwise the byte
            // belongs to the file.
            return if self.read_record()? {
                let reason = format!("not UTF-8: byte {END_BYTE:#04x} in line {}", self.line);
                Err(self.file.bad(reason))
            } else {
                Ok(false)
            };
        }

        if self.quoting == Quoting::Quoted && self.record.as_slice().ends_with(&END[1..]) {
            let reason =
                format!("a quote that is opened in this row (line {}) is never closed", self.line);
            return Err(DataError::BadRow { path: self.file.path.clone(), row: self.row, reason });
        }

        Ok(true)
    }

    fn read_record(&mut self) -> Result<bool, DataError> {
        self.reader.read_byte_record(&mut self.record).map_err(|error| self.failed(error))
    }

    fn uneven(&self) -> String {
        let expected = self.names.len();
        let got = self.record.len();
        let line = self.line;
        format!("expected {expected} fields as the line of names has, got {got} (line {line})")
    }

    fn failed(&self, error: csv::Error) -> DataError {
        let line = self.line;

        match error.into_kind() {
            ErrorKind::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => {
                let mut reason = format!("it is longer than {LONGEST_ROW} bytes (line {line})");
                if self.quoting == Quoting::Quoted {
                    reason.push_str("; perhaps a quote is never closed");
                }
                DataError::BadRow { path: self.file.path.clone(), row: self.row, reason }
            }
            ErrorKind::Io(error) => self.file.unreadable(error),
            other => self.file.bad(format!("{other:?}")),
        }
    }
}

/// A reader that fails after `left` bytes, until `left` is set again. This bounds the memory of a
/// row.
struct Bounded<R> {
    content: R,
    left: Rc<Cell<u64>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the row is too long")]
struct TooLong;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(TooLong));
        }

        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let read = self.content.read(&mut bytes[..most])?;
        self.left.set(left - read as u64);

        Ok(read)
    }
}
