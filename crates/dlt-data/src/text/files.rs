//! Files of text and of rows, read from front to back in bounded memory.

mod bad_rows;
mod column;
mod content;
mod json;
mod line_ends;
mod lines;
mod packed;
mod separated;
pub(crate) mod table;

pub use bad_rows::BadRows;
pub(crate) use bad_rows::{Found, by_file, usable};
pub use column::{ColumnChoice, TextColumn};

use crate::{checksum, error::DataError, hub::catalogue::Joining};
use bad_rows::Findings;
use content::Foreign;
use dlt_spec::{
    file,
    record::Boundary,
    spec::{CsvSeparator, DataSpec, Newlines, OnBadRow},
};
use json::ArrayError;
pub(crate) use json::kind;
use line_ends::LineEnds;
pub(crate) use separated::Quoting;
use std::{
    io::{self, BufReader, Read},
    mem,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Endings of the files that are read from a folder. Each except Parquet may also have `.gz` or
/// `.zst` after it.
pub const DATA_EXTENSIONS: [&str; 11] =
    ["txt", "text", "tokens", "raw", "jsonl", "ndjson", "json", "csv", "tsv", "parquet", "pq"];

/// Files that end like data but hold none: files of models and tokenizers, and descriptions of data
/// sets.
const NO_DATA: [&str; 13] = [
    "added_tokens.json",
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// Most bytes of a row of JSON, CSV or TSV: some hundred books. Up to three copies of a row are in
/// memory, so this needs less than 1 GiB. Lines of plain text have no limit.
pub(crate) const LONGEST_ROW: u64 = 256 << 20;

/// Bytes of a file that are read at a time.
const BUFFER: usize = 256 * 1024;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) newlines: Newlines,
    pub(crate) on_bad_row: OnBadRow,
    pub(crate) csv_separator: CsvSeparator,
}

impl From<&DataSpec> for Reading {
    fn from(data: &DataSpec) -> Self {
        let DataSpec { newlines, on_bad_row, csv_separator, .. } = *data;
        Self { newlines, on_bad_row, csv_separator }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::from(&DataSpec::default())
    }
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// UTF-8 text.
    Text,
    /// Objects of JSON.
    Json(JsonLayout),
    /// Rows under a line of names.
    Separated(Quoting),
    /// Apache Parquet.
    Parquet,
}

/// How objects of JSON follow each other. The file's name does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonLayout {
    /// One in each line.
    Lines,
    /// In an array.
    Array,
}

/// Receives the bytes of an object of JSON, with its number from 1.
pub(crate) type TakeObject<'a> = &'a mut dyn FnMut(u64, &mut Vec<u8>) -> Result<Flow, DataError>;

/// Receives a row: the names of the columns, the row's number, and its fields, or why they do not
/// fit the names.
pub(crate) type TakeRecord<'a> =
    &'a mut dyn FnMut(&[String], u64, Result<&csv::ByteRecord, String>) -> Result<Flow, DataError>;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    /// The format and packing by a file's name; `None` if the file is not read.
    pub(crate) fn of_name(name: &str) -> Option<(Self, Packing)> {
        let name = name.to_ascii_lowercase();
        let (name, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst" | "zstd")) => (stem, Packing::Zstd),
            _ => (name.as_str(), Packing::Plain),
        };

        if NO_DATA.contains(&name.rsplit('/').next().unwrap_or(name)) {
            return None;
        }

        let format = match name.rsplit_once('.')?.1 {
            "txt" | "text" | "tokens" | "raw" => Self::Text,
            "jsonl" | "ndjson" | "json" => Self::Json(JsonLayout::Lines),
            "csv" => Self::Separated(Quoting::Quoted),
            "tsv" => Self::Separated(Quoting::Bare),
            "parquet" | "pq" if packing == Packing::Plain => Self::Parquet,
            _ => return None,
        };

        Some((format, packing))
    }

    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json(JsonLayout::Lines) => "JSON Lines",
            Self::Json(JsonLayout::Array) => "an array of JSON",
            Self::Separated(Quoting::Quoted) => "CSV",
            Self::Separated(Quoting::Bare) => "TSV",
            Self::Parquet => "Parquet",
        }
    }
}

/// A file, or a text of a shipped corpus.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    /// The text itself, where it is inside the library.
    pub(crate) shipped: Option<&'static str>,
    /// How it is read.
    pub(crate) reading: Reading,
    /// The column of its text, of a table that was examined.
    pub(crate) column: Option<TextColumn>,
    /// What separates its columns, of CSV and TSV files that were examined.
    separator: Option<u8>,
    /// Rows without text; clones share them.
    pub(crate) findings: Arc<Findings>,
}

impl DataFile {
    /// A file by its path. A file whose name gives no format is text, plain or packed.
    pub(crate) fn at(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (format, packing) = Format::of_name(&name).unwrap_or_else(|| {
            let ending =
                path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            match ending.as_str() {
                "gz" => (Format::Text, Packing::Gzip),
                "zst" | "zstd" => (Format::Text, Packing::Zstd),
                _ => (Format::Text, Packing::Plain),
            }
        });

        Self::new(path, format, packing, None)
    }

    /// A shipped text.
    pub(crate) fn shipped(name: &str, text: &'static str) -> Self {
        Self::new(Path::new(name), Format::Text, Packing::Plain, Some(text))
    }

    fn new(path: &Path, format: Format, packing: Packing, shipped: Option<&'static str>) -> Self {
        let path = path.to_owned();
        let reading = Reading::default();
        let findings = Arc::default();
        Self { path, format, packing, shipped, reading, column: None, separator: None, findings }
    }

    /// Reads the beginning of its content: checks that it is what its name says, and finds the
    /// column of the text.
    pub(crate) fn examine(
        &mut self,
        reading: Reading,
        wanted: Option<&str>,
    ) -> Result<(), DataError> {
        self.examine_rows(reading)?;
        self.column = match self.format {
            Format::Text => None,
            Format::Parquet => Some(table::column(self, wanted)?),
            Format::Json(layout) => Some(json::column(self, layout, wanted)?),
            Format::Separated(quoting) => {
                Some(separated::column(self, quoting, self.separator.unwrap_or(b','), wanted)?)
            }
        };

        Ok(())
    }

    /// The same without looking for a text: finds how its rows and columns are separated.
    pub(crate) fn examine_rows(&mut self, reading: Reading) -> Result<(), DataError> {
        self.reading = reading;
        if self.shipped.is_some() {
            return Ok(());
        }

        let head = self.check_content()?;
        match self.format {
            Format::Text | Format::Parquet => {}
            Format::Json(_) => {
                let is_array = head.trim_ascii_start().starts_with(b"[");
                self.format =
                    Format::Json(if is_array { JsonLayout::Array } else { JsonLayout::Lines });
            }
            Format::Separated(quoting) => {
                self.separator = Some(separated::separator(self, quoting)?)
            }
        }

        Ok(())
    }

    /// Hands the bytes of each object of JSON to `take`, with its number from 1.
    pub(crate) fn each_object(
        &self,
        layout: JsonLayout,
        take: TakeObject<'_>,
    ) -> Result<Flow, DataError> {
        json::each(self, layout, take)
    }

    /// Hands the fields of each row to `take`, with its number. The line of names is row 1.
    pub(crate) fn each_record(
        &self,
        quoting: Quoting,
        take: TakeRecord<'_>,
    ) -> Result<(), DataError> {
        separated::each(self, quoting, self.separator.unwrap_or(b','), take)
    }

    /// Refuses content that is neither text nor rows, by the first bytes of the file and of what is
    /// packed in it. Returns the first bytes of the content.
    fn check_content(&self) -> Result<Vec<u8>, DataError> {
        let refused = |Foreign { what, todo }: Foreign| DataError::ForeignContent {
            path: self.path.clone(),
            what,
            todo,
            format: self.format.name(),
        };

        let unreadable = |error| self.unreadable(error);
        let mut stored = self.stored().map_err(unreadable)?;
        let stored = packed::head(&mut stored, content::HEAD).map_err(unreadable)?;

        if stored.is_empty() {
            return Err(DataError::Empty { path: self.path.clone() });
        }

        // Packed data must begin with the mark of its packing. Anything else is named for what it
        // is, or else as not packed.
        match (self.format, self.packing) {
            (Format::Parquet, _) if stored.starts_with(b"PAR1") => return Ok(stored),
            (_, Packing::Gzip) if stored.starts_with(b"\x1F\x8B") => {}
            (_, Packing::Zstd) if packed::is_zstd(&stored) => {}
            (_, packing) => {
                let by_name = (packing != Packing::Plain).then(|| content::unpacked(packing));
                if let Some(foreign) = content::foreign(&stored).or(by_name) {
                    return Err(refused(foreign));
                }
            }
        }

        let head = packed::head(&mut self.open()?, content::HEAD).map_err(unreadable)?;

        match content::foreign(&head) {
            Some(foreign) => Err(refused(foreign)),
            None => Ok(head),
        }
    }

    /// Its bytes as they are stored.
    fn stored(&self) -> io::Result<BufReader<std::fs::File>> {
        let file = file::regular(&self.path, u64::MAX)?;
        Ok(BufReader::with_capacity(BUFFER, file))
    }

    /// Its SHA-256, as it is stored.
    pub(crate) fn sha256(&self) -> Result<[u8; 32], DataError> {
        match self.shipped {
            Some(text) => Ok(<sha2::Sha256 as sha2::Digest>::digest(text).into()),
            None => checksum::of_file(&self.path).map_err(|source| self.unreadable(source)),
        }
    }

    /// Its content, unpacked and without a byte order mark.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + '_>, DataError> {
        if let Some(text) = self.shipped {
            return Ok(Box::new(text.as_bytes()));
        }

        #[cfg(test)]
        tests::count_open(&self.path);
        let opened = self.stored().and_then(|stored| packed::unpacked(stored, self.packing));

        opened.map_err(|source| self.unreadable(source))
    }

    /// An error of the system, or of the packed data.
    fn unreadable(&self, source: io::Error) -> DataError {
        DataError::Read { path: self.path.clone(), source }
    }

    fn bad(&self, reason: impl ToString) -> DataError {
        DataError::BadFile {
            path: self.path.clone(),
            format: self.format.name(),
            reason: reason.to_string(),
        }
    }

    /// The number of rows of a table, if it is known without reading the table.
    pub(crate) fn known_rows(&self) -> Result<Option<u64>, DataError> {
        match self.format {
            Format::Parquet => table::rows(self).map(Some),
            _ => Ok(None),
        }
    }

    /// The error for a row that is too long to be held in memory.
    fn too_long(&self, row: u64) -> DataError {
        let reason = format!("it is longer than {LONGEST_ROW} bytes: cut it into several rows");
        DataError::BadRow { path: self.path.clone(), row, reason }
    }

    /// The error for an array that cannot be read.
    fn of_array(&self, row: u64, error: ArrayError) -> DataError {
        match error {
            ArrayError::Io(error) => self.unreadable(error),
            ArrayError::TooLong => self.too_long(row),
            ArrayError::Broken(reason) => self.bad(format!("row {row}: {reason}")),
        }
    }

    /// The column of its text.
    fn text_column(&self) -> Result<&str, DataError> {
        // A table is examined before it is read. If it was not, its column is not guessed.
        let column = self.column.as_ref().map(|column| column.name.as_str());
        column.ok_or_else(|| self.bad("the column of its text is not known"))
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// The text; never half a character.
    pub(crate) text: &'a str,
    /// What it is.
    pub(crate) kind: PieceKind,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    /// The beginning or the middle of a row.
    Begins,
    /// The end of a row, or all of it.
    Ends,
    /// The separator of two rows, which is not a row itself.
    Between,
    /// The end of a document, if another one follows. It has no text.
    EndOfDocument,
}

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More is wanted.
    On,
    /// Enough.
    Stop,
}

/// Receives pieces.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Piece<'_>) -> Result<Flow, DataError>;

/// Rows of several files, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) files: Vec<DataFile>,
    /// The column of the text, where it was named.
    pub(crate) column: Option<String>,
    pub(crate) joining: Joining,
    pub(crate) boundary: Boundary,
}

impl Rows {
    /// Hands the pieces of the rows in the range `wanted` to `sink`, with the separators between
    /// them.
    pub(crate) fn read(
        &self,
        wanted: Option<&Range<u64>>,
        sink: Sink<'_>,
    ) -> Result<(), DataError> {
        // Whether the last row did not end its line.
        let mut is_open = false;
        let mut at_start = true;
        let mut before = 0;

        // Whether there was a document. `is_next`, in each file: whether the next text begins
        // another document.
        let mut has_document = false;

        for file in &self.files {
            let mut is_next = true;
            let known = if wanted.is_some() { file.known_rows()? } else { None };
            let range = wanted
                .map(|range| range.start.saturating_sub(before)..range.end.saturating_sub(before));

            if let (Some(rows), Some(range)) = (known, &range)
                && (range.start >= rows || range.end == 0)
            {
                before += rows;
                continue;
            }

            let mut take = |piece: Piece<'_>| {
                // Rows without text are no documents. The end of a document is sent when the next
                // one begins, so that none is sent after the last.
                if self.boundary == Boundary::EndOfText && is_next && !piece.text.is_empty() {
                    is_next = false;
                    let end = Piece { text: "", kind: PieceKind::EndOfDocument };
                    if mem::replace(&mut has_document, true) && sink(end)? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }

                if self.boundary == Boundary::EndOfText && file.format != Format::Text {
                    is_next |= piece.kind == PieceKind::Ends;
                    return sink(piece);
                }

                if at_start && is_open && self.boundary == Boundary::Line {
                    let between = Piece { text: "\n", kind: PieceKind::Between };
                    if sink(between)? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }

                at_start = piece.kind == PieceKind::Ends;
                let text = match (self.joining, piece.text) {
                    (Joining::WikiText, "") if file.format != Format::Text => " \n",
                    (_, text) => text,
                };

                is_open = if text.is_empty() { is_open || at_start } else { !text.ends_with('\n') };
                sink(Piece { text, ..piece })
            };

            let mut ends = LineEnds::new(file.reading.newlines);
            let mut take = |piece: Piece<'_>| ends.pass(piece, &mut take);
            let (rows, flow) = read_file(file, range, &mut take)?;

            if flow == Flow::Stop {
                return Ok(());
            }

            at_start = true;
            before += known.unwrap_or(rows);
        }

        Ok(())
    }

    /// Rows of all files.
    pub(crate) fn count(&self) -> Result<u64, DataError> {
        let mut rows = 0;
        for file in &self.files {
            rows += match file.known_rows()? {
                Some(rows) => rows,
                None => read_file(file, None, &mut |_| Ok(Flow::On))?.0,
            };
        }

        Ok(rows)
    }

    /// An estimate of the bytes of text.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        let size = |file: &DataFile| match (file.shipped, file.format, &file.column) {
            (Some(text), ..) => text.len() as u64,
            (None, Format::Parquet, Some(column)) => {
                table::text_bytes(file, &column.name).unwrap_or(0)
            }
            (None, ..) => std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len()),
        };

        self.files.iter().map(size).sum()
    }
}

/// Reads those rows of a file that are wanted. Returns the number of rows that were read, which is
/// that of the file if it was read to its end (0 for Parquet, whose number is known).
fn read_file(
    file: &DataFile,
    wanted: Option<Range<u64>>,
    take: Sink<'_>,
) -> Result<(u64, Flow), DataError> {
    if file.format == Format::Parquet {
        let wanted = wanted.unwrap_or(0..u64::MAX);
        return table::read_text(file, file.text_column()?, wanted, take).map(|flow| (0, flow));
    }

    let mut row = 0;
    let mut filtered = |piece: Piece<'_>| {
        let is_in = wanted.as_ref().is_none_or(|wanted| wanted.contains(&row));
        if wanted.as_ref().is_some_and(|wanted| row >= wanted.end) {
            return Ok(Flow::Stop);
        }

        row += u64::from(piece.kind == PieceKind::Ends);
        if is_in { take(piece) } else { Ok(Flow::On) }
    };

    let flow = match file.format {
        Format::Text => lines::read(file, &mut filtered)?,
        Format::Json(layout) => json::read(file, layout, file.text_column()?, &mut filtered)?,
        Format::Separated(quoting) => {
            let separator = file.separator.unwrap_or(b',');
            separated::read(file, quoting, separator, file.text_column()?, &mut filtered)?
        }
        Format::Parquet => Flow::On,
    };

    Ok((row, flow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataRequest, load};
    use std::{collections::BTreeMap, sync::Mutex};

    static OPENED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

    pub(super) fn count_open(path: &Path) {
        *OPENED.lock().unwrap().entry(path.to_owned()).or_default() += 1;
    }

    #[test]
    fn a_file_is_opened_no_more_often_than_it_has_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, "{\"text\": \"some words\"}\n".repeat(50)).unwrap();

        let tokenizer = crate::BYTES.to_owned();
        let source = path.to_string_lossy().into_owned();
        let data = DataSpec { source, tokenizer, ..DataSpec::default() };

        load(&DataRequest::new(&data, 1), &mut |_| ()).unwrap();
        // Once each for its first bytes, its first rows and its characters, and once for each
        // split.
        assert_eq!(OPENED.lock().unwrap()[&path], 6);
    }
}
