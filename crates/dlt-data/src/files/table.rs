//! Parquet, row group by row group and page by page.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use parquet::{
    basic::Type as Physical,
    column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
};
use std::{fs::File, ops::Range};

/// Rows that are decoded at a time.
const BATCH: usize = 256;

/// Takes the value of a row, if it has one.
type Keep<'a, T> = &'a mut dyn FnMut(Option<&T>) -> Result<Flow, DataError>;

/// A Parquet file.
pub(crate) struct Table<'a> {
    file: &'a DataFile,
    reader: SerializedFileReader<File>,
}

/// Whole numbers of 32 or 64 bits, or bytes; `None` where a row has none.
pub(crate) enum Cell<'a> {
    /// Bytes of a text or a picture.
    Bytes(&'a [u8]),
    /// A label.
    Whole(i64),
    /// Nothing.
    Missing,
}

impl<'a> Table<'a> {
    pub(crate) fn open(file: &'a DataFile) -> Result<Self, DataError> {
        let opened = File::open(&file.path).map_err(|source| file.unreadable(source))?;
        if opened.metadata().map_err(|source| file.unreadable(source))?.len() == 0 {
            return Err(DataError::Empty { path: file.path.clone() });
        }
        let reader = SerializedFileReader::new(opened).map_err(|error| file.bad(error))?;
        Ok(Self { file, reader })
    }

    /// Names of the columns, those of structs with a dot.
    fn columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.path().string()).collect()
    }

    fn rows(&self) -> u64 {
        self.reader.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64).sum()
    }

    fn text_column(&self, wanted: Option<&str>) -> Result<usize, DataError> {
        let names = self.columns();
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let texts: Vec<usize> = (0..names.len())
            .filter(|&index| schema.column(index).physical_type() == Physical::BYTE_ARRAY)
            .collect();
        let known: Vec<String> = texts.iter().map(|&index| names[index].clone()).collect();
        Ok(texts[self.file.choose_column(&known, wanted)?])
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

    /// Hands the cells of a column to `take`, each with its row; groups without a wanted row are not read.
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
                    return Err(self.file.bad(format!("column {} is a list", descriptor.path().string())));
                }
                let level = descriptor.max_def_level();
                let reader = group.get_column_reader(column).map_err(|error| self.file.bad(error))?;
                let mut row = start;
                let mut keep = |cell: Cell<'_>| {
                    row += 1;
                    match row - 1 {
                        at if at >= wanted.end => Ok(Flow::Stop),
                        at if at < wanted.start => Ok(Flow::On),
                        at => take(at, cell),
                    }
                };
                let flow = self.group(reader, level, &mut keep)?;
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
        keep: &mut dyn FnMut(Cell<'_>) -> Result<Flow, DataError>,
    ) -> Result<Flow, DataError> {
        match reader {
            ColumnReader::ByteArrayColumnReader(_) => {
                let typed = get_typed_column_reader::<ByteArrayType>(reader);
                self.decode(typed, level, &mut |value: Option<&ByteArray>| {
                    keep(value.map_or(Cell::Missing, |bytes| Cell::Bytes(bytes.data())))
                })
            }
            ColumnReader::Int64ColumnReader(_) => {
                let typed = get_typed_column_reader::<Int64Type>(reader);
                self.decode(typed, level, &mut |value: Option<&i64>| {
                    keep(value.map_or(Cell::Missing, |&number| Cell::Whole(number)))
                })
            }
            ColumnReader::Int32ColumnReader(_) => {
                let typed = get_typed_column_reader::<Int32Type>(reader);
                self.decode(typed, level, &mut |value: Option<&i32>| {
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
        keep: Keep<'_, T::T>,
    ) -> Result<Flow, DataError> {
        let (mut values, mut levels) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            values.clear();
            levels.clear();
            let (records, _, count) = reader
                .read_records(BATCH, (level > 0).then_some(&mut levels), None, &mut values)
                .map_err(|error: ParquetError| self.file.bad(error))?;
            if records == 0 && count == 0 {
                return Ok(Flow::On);
            }
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

/// Rows of a file.
pub(super) fn rows(file: &DataFile) -> Result<u64, DataError> {
    Table::open(file).map(|table| table.rows())
}

/// Bytes of a column of text before it was compressed, about.
pub(super) fn text_bytes(file: &DataFile, column: Option<&str>) -> Option<u64> {
    let table = Table::open(file).ok()?;
    let column = table.text_column(column).ok()?;
    let groups = table.reader.metadata().row_groups().iter();
    Some(groups.map(|group| group.column(column).uncompressed_size().max(0) as u64).sum())
}

/// Hands the texts of a column to `sink`, a row each.
pub(super) fn read_text(
    file: &DataFile,
    column: Option<&str>,
    wanted: Range<u64>,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    let table = Table::open(file)?;
    let column = table.text_column(column)?;
    let mut missing = 0_u64;
    let flow = table.cells(column, &wanted, &mut |row, cell| {
        let text = match cell {
            Cell::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|error| {
                let reason = format!("not UTF-8: {error}");
                DataError::BadRow { path: file.path.clone(), row: row + 1, reason }
            })?,
            Cell::Missing | Cell::Whole(_) => {
                missing += 1;
                ""
            }
        };
        sink(Piece { text, kind: PieceKind::Ends })
    })?;
    if missing > 0 {
        tracing::warn!(path = %file.path.display(), rows = missing, "rows without text are taken as empty");
    }
    Ok(flow)
}
