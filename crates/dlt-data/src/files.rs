//! Files of text and of rows, read from front to back in bounded memory.

mod json_lines;
mod lines;
mod separated;
pub(crate) mod table;

use crate::{catalogue::Joining, checksum, error::DataError};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
};

/// Endings of the files that are read from a folder, each also with `.gz` or `.zst` after it but for Parquet.
pub const DATA_EXTENSIONS: [&str; 10] =
    ["txt", "text", "tokens", "raw", "jsonl", "ndjson", "csv", "tsv", "parquet", "pq"];

/// Bytes of a file that are read at a time.
const BUFFER: usize = 256 * 1024;

/// Columns that hold the text, where none is named, in the order in which they are looked for.
const TEXT_COLUMNS: [&str; 3] = ["text", "sentence", "content"];

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// UTF-8 text.
    Text,
    /// An object of JSON a line.
    JsonLines,
    /// Rows separated by this byte, under a line of names; quoted where it is a comma.
    Separated(u8),
    /// Apache Parquet.
    Parquet,
}

/// How it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    /// What a file's name says, if it is one that is read.
    pub(crate) fn of_name(name: &str) -> Option<(Self, Packing)> {
        let name = name.to_ascii_lowercase();
        let (name, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst" | "zstd")) => (stem, Packing::Zstd),
            _ => (name.as_str(), Packing::Plain),
        };
        let format = match name.rsplit_once('.')?.1 {
            "txt" | "text" | "tokens" | "raw" => Self::Text,
            "jsonl" | "ndjson" => Self::JsonLines,
            "csv" => Self::Separated(b','),
            "tsv" => Self::Separated(b'\t'),
            "parquet" | "pq" if packing == Packing::Plain => Self::Parquet,
            _ => return None,
        };
        Some((format, packing))
    }

    /// As it is called in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::JsonLines => "JSON Lines",
            Self::Separated(b',') => "CSV",
            Self::Separated(_) => "TSV",
            Self::Parquet => "Parquet",
        }
    }
}

/// A file, or a text that is shipped.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    /// The text itself, where it is inside the library.
    pub(crate) shipped: Option<&'static str>,
}

impl DataFile {
    /// A file by its path; one whose name says nothing is text, plain or packed.
    pub(crate) fn at(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (format, packing) = Format::of_name(&name).unwrap_or_else(|| {
            let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            match ending.as_str() {
                "gz" => (Format::Text, Packing::Gzip),
                "zst" | "zstd" => (Format::Text, Packing::Zstd),
                _ => (Format::Text, Packing::Plain),
            }
        });
        Self { path: path.to_owned(), format, packing, shipped: None }
    }

    /// A shipped text.
    pub(crate) fn shipped(name: &str, text: &'static str) -> Self {
        Self { path: name.into(), format: Format::Text, packing: Packing::Plain, shipped: Some(text) }
    }

    /// Its SHA-256, as it lies there.
    pub(crate) fn sha256(&self) -> Result<[u8; 32], DataError> {
        match self.shipped {
            Some(text) => Ok(<sha2::Sha256 as sha2::Digest>::digest(text).into()),
            None => checksum::of_file(&self.path).map_err(|source| self.unreadable(source)),
        }
    }

    /// Its content without packing. An empty file is an error.
    fn open(&self) -> Result<Box<dyn Read + '_>, DataError> {
        if let Some(text) = self.shipped {
            return Ok(Box::new(text.as_bytes()));
        }
        let file = File::open(&self.path).map_err(|source| self.unreadable(source))?;
        if file.metadata().map_err(|source| self.unreadable(source))?.len() == 0 {
            return Err(DataError::Empty { path: self.path.clone() });
        }
        let file = BufReader::with_capacity(BUFFER, file);
        Ok(match self.packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Packing::Zstd => {
                let decoder = zstd::Decoder::with_buffer(file).map_err(|source| self.unreadable(source))?;
                Box::new(decoder)
            }
        })
    }

    /// An error of the system, or of what is packed.
    fn unreadable(&self, source: io::Error) -> DataError {
        DataError::Read { path: self.path.clone(), source }
    }

    fn bad(&self, reason: impl ToString) -> DataError {
        DataError::BadFile { path: self.path.clone(), format: self.format.name(), reason: reason.to_string() }
    }

    /// Rows of a table, where they are known without reading it.
    pub(crate) fn known_rows(&self) -> Result<Option<u64>, DataError> {
        match self.format {
            Format::Parquet => table::rows(self).map(Some),
            _ => Ok(None),
        }
    }

    /// The column of the text: the one asked for, else one of the usual names, else the only one.
    fn choose_column(&self, known: &[String], wanted: Option<&str>) -> Result<usize, DataError> {
        let position = |name: &str| known.iter().position(|column| column == name);
        let found = match wanted {
            Some(name) => position(name),
            None => TEXT_COLUMNS.iter().find_map(|name| position(name)).or((known.len() == 1).then_some(0)),
        };
        found.ok_or_else(|| DataError::NoColumn {
            path: self.path.clone(),
            wanted: wanted.map_or_else(
                || {
                    format!(
                        "that is surely its text ({}); name one, as in PATH::COLUMN",
                        TEXT_COLUMNS.join(", ")
                    )
                },
                |name| format!("{name:?}"),
            ),
            known: known.join(", "),
        })
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// What it says; never half a character.
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
    /// What stands between two rows; no row of its own.
    Between,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More is wanted.
    On,
    /// Enough.
    Stop,
}

/// Takes pieces.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Piece<'_>) -> Result<Flow, DataError>;

/// Rows of several files, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) files: Vec<DataFile>,
    pub(crate) column: Option<String>,
    pub(crate) joining: Joining,
}

impl Rows {
    /// Hands the pieces of these rows to `sink`, with what stands between them.
    pub(crate) fn read(&self, wanted: Option<&Range<u64>>, sink: Sink<'_>) -> Result<(), DataError> {
        // Whether a row came that did not end its line.
        let mut is_open = false;
        let mut at_start = true;
        let mut before = 0;
        for file in &self.files {
            let known = if wanted.is_some() { file.known_rows()? } else { None };
            let range =
                wanted.map(|range| range.start.saturating_sub(before)..range.end.saturating_sub(before));
            if let (Some(rows), Some(range)) = (known, &range)
                && (range.start >= rows || range.end == 0)
            {
                before += rows;
                continue;
            }
            let mut take = |piece: Piece<'_>| {
                if at_start && is_open {
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
            let (rows, flow) = self.read_file(file, range, &mut take)?;
            if flow == Flow::Stop {
                return Ok(());
            }
            at_start = true;
            before += known.unwrap_or(rows);
        }
        Ok(())
    }

    /// Reads one file, of which only these rows are wanted. Gives the rows that it has, if it was read to its end.
    fn read_file(
        &self,
        file: &DataFile,
        wanted: Option<Range<u64>>,
        take: Sink<'_>,
    ) -> Result<(u64, Flow), DataError> {
        let column = self.column.as_deref();
        if file.format == Format::Parquet {
            let wanted = wanted.unwrap_or(0..u64::MAX);
            return table::read_text(file, column, wanted, take).map(|flow| (0, flow));
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
            Format::JsonLines => json_lines::read(file, column, &mut filtered)?,
            Format::Separated(separator) => separated::read(file, separator, column, &mut filtered)?,
            Format::Parquet => Flow::On,
        };
        Ok((row, flow))
    }

    /// Rows of all files.
    pub(crate) fn count(&self) -> Result<u64, DataError> {
        let mut rows = 0;
        for file in &self.files {
            rows += match file.known_rows()? {
                Some(rows) => rows,
                None => self.read_file(file, None, &mut |_| Ok(Flow::On))?.0,
            };
        }
        Ok(rows)
    }

    /// About how many bytes of text there are.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        let size = |file: &DataFile| match (file.shipped, file.format) {
            (Some(text), _) => text.len() as u64,
            (None, Format::Parquet) => table::text_bytes(file, self.column.as_deref()).unwrap_or(0),
            (None, _) => std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len()),
        };
        self.files.iter().map(size).sum()
    }
}
