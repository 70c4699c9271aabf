//! The reader of Parquet, row group by row group and page by page.

mod pages;

use super::Cell;
use crate::{
    error::DataError,
    text::files::{
        DataFile, Flow, LONGEST_ROW,
        column::{Depth, SAMPLE_ROWS, Sample, TEXT, TextColumn, Value},
    },
};
use dlt_spec::file;
use parquet::{
    basic::{Compression, ConvertedType, Encoding, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};
use std::{fs::File, ops::Range};

/// Most rows that are decoded at a time.
const BATCH: usize = 256;

/// Bytes of a column that are read to find out whether it is text.
const SAMPLE_COLUMN_BYTES: usize = 1 << 20;

/// Receives the value of a row, if it has one.
type Keep<'a, T> = &'a mut dyn FnMut(Option<&T>) -> Result<Flow, DataError>;

/// A Parquet file.
pub(crate) struct Table<'a> {
    file: &'a DataFile,
    reader: SerializedFileReader<File>,
}

impl<'a> Table<'a> {
    pub(crate) fn open(file: &'a DataFile) -> Result<Self, DataError> {
        let opened =
            file::regular(&file.path, u64::MAX).map_err(|source| file.unreadable(source))?;
        if opened.metadata().map_err(|source| file.unreadable(source))?.len() == 0 {
            return Err(DataError::Empty { path: file.path.clone() });
        }

        let reader = SerializedFileReader::new(opened).map_err(|error| file.bad(error))?;
        Ok(Self { file, reader })
    }

    /// Names of the columns. Members of structs have a dot in their name.
    pub(crate) fn columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.path().string()).collect()
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> u64 {
        self.reader.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64).sum()
    }

    /// The column of the text, by names, types and the first rows. If a column has the requested or
    /// usual name, only this one is sampled. Otherwise all columns are.
    pub(super) fn text_column(&self, wanted: Option<&str>) -> Result<TextColumn, DataError> {
        let likely = wanted.unwrap_or(TEXT);
        let sample = self.sample(&|name| name == likely);
        let chosen = sample.choose(&self.file.path, wanted);
        chosen.or_else(|_| self.sample(&|_| true).choose(&self.file.path, wanted))
    }

    /// A sample of the first rows for columns that `is_sampled` selects. For other columns it has
    /// only the types.
    fn sample(&self, is_sampled: &dyn Fn(&str) -> bool) -> Sample {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let mut sample = Sample::default();

        for (index, column) in schema.columns().iter().enumerate() {
            let name = column.path().string();
            let depth = if column.path().parts().len() > 1 { Depth::Member } else { Depth::Row };
            let of_type = match column.physical_type() {
                _ if column.max_rep_level() > 0 => Value::List,
                Physical::BYTE_ARRAY if is_text(column) => Value::Missing,
                Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => Value::Bytes,
                Physical::BOOLEAN => Value::Truth,
                _ => Value::Number,
            };

            sample.note(&name, depth, of_type);
            if matches!(of_type, Value::Missing) && is_sampled(&name) {
                let mut bytes = 0;
                let sampled = self.cells(index, &(0..SAMPLE_ROWS), &mut |_, cell| {
                    if let Cell::Bytes(value) = cell {
                        let value = std::str::from_utf8(value);
                        bytes += value.map_or(0, str::len);
                        sample.note(&name, depth, value.map_or(Value::Bytes, Value::Text));
                    }

                    Ok(if bytes < SAMPLE_COLUMN_BYTES { Flow::On } else { Flow::Stop })
                });

                // If this column is chosen, its reader meets the same error and reports it.
                drop(sampled);
            }
        }

        sample
    }

    /// A column by its name.
    pub(crate) fn column(&self, name: &str) -> Result<usize, DataError> {
        let names = self.columns();
        names.iter().position(|column| column == name).ok_or_else(|| DataError::NoColumn {
            path: self.file.path.clone(),
            wanted: format!("{name:?}"),
            known: names.join(", "),
        })
    }

    /// An estimate of the bytes of a column before it was compressed.
    pub(super) fn bytes(&self, column: usize) -> u64 {
        let groups = self.reader.metadata().row_groups().iter();
        groups.map(|group| group.column(column).uncompressed_size().max(0) as u64).sum()
    }

    /// Hands the cells of a column to `take`, each with its row from 0. Row groups without a wanted
    /// row are not read.
    pub(crate) fn cells(
        &self,
        column: usize,
        wanted: &Range<u64>,
        take: &mut dyn FnMut(u64, Cell<'_>) -> Result<Flow, DataError>,
    ) -> Result<Flow, DataError> {
        let mut start = 0;
        for index in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(index).map_err(|error| self.file.bad(error))?;
            let rows = group.metadata().num_rows().max(0) as u64;
            let end = start + rows;

            if wanted.start < end && start < wanted.end {
                let descriptor = group.metadata().schema_descr().column(column);
                if descriptor.max_rep_level() > 0 {
                    return Err(self
                        .file
                        .bad(format!("column {} is a list", descriptor.path().string())));
                }

                if group.metadata().column(column).compression() == Compression::LZO {
                    let reason =
                        "LZO compression is not supported: write the file with zstd or snappy";
                    return Err(self.file.bad(reason));
                }

                let mut stored = file::regular(&self.file.path, u64::MAX)
                    .map_err(|error| self.file.unreadable(error))?;
                let chunk = group.metadata().column(column);
                pages::check(&mut stored, chunk).map_err(|reason| self.file.bad(reason))?;

                // In this encoding a value may extend the one before it, so a page may become far
                // larger than it states. One value at a time bounds the memory.
                let batch = if chunk.encodings().any(|one| one == Encoding::DELTA_BYTE_ARRAY) {
                    1
                } else {
                    BATCH
                };

                let level = descriptor.max_def_level();
                let reader =
                    group.get_column_reader(column).map_err(|error| self.file.bad(error))?;
                let mut row = start;

                let mut keep = |cell: Cell<'_>| {
                    row += 1;
                    if matches!(cell, Cell::Bytes(bytes) if bytes.len() as u64 > LONGEST_ROW) {
                        return Err(self.file.too_long(row));
                    }

                    match row - 1 {
                        at if at >= wanted.end => Ok(Flow::Stop),
                        at if at < wanted.start => Ok(Flow::On),
                        at => take(at, cell),
                    }
                };

                let flow = self.group(reader, level, batch, &mut keep)?;
                if flow == Flow::Stop {
                    return Ok(Flow::Stop);
                }

                if row != end {
                    return Err(self
                        .file
                        .bad(format!("a group of {rows} rows ends at row {row}, not {end}")));
                }
            }

            start = end;
        }

        Ok(Flow::On)
    }

    fn group(
        &self,
        reader: ColumnReader,
        level: i16,
        batch: usize,
        keep: &mut dyn FnMut(Cell<'_>) -> Result<Flow, DataError>,
    ) -> Result<Flow, DataError> {
        match reader {
            ColumnReader::ByteArrayColumnReader(_) => {
                let typed = get_typed_column_reader::<ByteArrayType>(reader);
                self.decode(typed, level, batch, &mut |value: Option<&ByteArray>| {
                    keep(value.map_or(Cell::Missing, |bytes| Cell::Bytes(bytes.data())))
                })
            }
            ColumnReader::Int64ColumnReader(_) => {
                let typed = get_typed_column_reader::<Int64Type>(reader);
                self.decode(typed, level, batch, &mut |value: Option<&i64>| {
                    keep(value.map_or(Cell::Missing, |&number| Cell::Whole(number)))
                })
            }
            ColumnReader::Int32ColumnReader(_) => {
                let typed = get_typed_column_reader::<Int32Type>(reader);
                self.decode(typed, level, batch, &mut |value: Option<&i32>| {
                    keep(value.map_or(Cell::Missing, |&number| Cell::Whole(i64::from(number))))
                })
            }
            _ => Err(self.file.bad("the column holds neither text nor whole numbers")),
        }
    }

    fn decode<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        level: i16,
        batch: usize,
        keep: Keep<'_, T::T>,
    ) -> Result<Flow, DataError> {
        let mut values = Vec::with_capacity(batch);
        let mut levels = Vec::with_capacity(batch);

        loop {
            values.clear();
            levels.clear();

            let (records, _, count) = reader
                .read_records(batch, (level > 0).then_some(&mut levels), None, &mut values)
                .map_err(|error: ParquetError| self.file.bad(error))?;
            if records == 0 && count == 0 {
                return Ok(Flow::On);
            }

            // A column that cannot be null has no levels: every value is present.
            if level == 0 {
                levels.resize(values.len(), 0);
            }

            let mut present = values.iter();
            for &defined in &levels {
                let value = if defined == level { present.next() } else { None };
                if keep(value)? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
            }
        }
    }
}

/// Whether a column of bytes may hold text. Not every writer marks text, so anything that is not
/// another type is tried; rows that are not UTF-8 show up later.
fn is_text(column: &ColumnDescriptor) -> bool {
    !matches!(column.converted_type(), ConvertedType::BSON | ConvertedType::DECIMAL)
}
