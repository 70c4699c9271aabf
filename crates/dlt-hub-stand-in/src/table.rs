//! Parquet files.

use parquet::{
    basic::{Compression, ConvertedType, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::{Type, TypePtr},
};
use std::{ops::Range, sync::Arc};

/// A column of a table.
#[derive(Clone, Debug)]
pub enum Column {
    /// Text.
    Text(&'static str, Vec<String>),
    /// Text that may be missing.
    MaybeText(&'static str, Vec<Option<String>>),
    /// Whole numbers, as labels are.
    Whole(&'static str, Vec<i64>),
    /// A picture as on the hub: a struct of its bytes and its path.
    Picture(&'static str, Vec<Vec<u8>>),
}

impl Column {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Text(_, rows) => rows.len(),
            Self::MaybeText(_, rows) => rows.len(),
            Self::Whole(_, rows) => rows.len(),
            Self::Picture(_, rows) => rows.len(),
        }
    }

    /// The column with only these rows.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Text(name, rows) => Self::Text(name, rows[range].to_vec()),
            Self::MaybeText(name, rows) => Self::MaybeText(name, rows[range].to_vec()),
            Self::Whole(name, rows) => Self::Whole(name, rows[range].to_vec()),
            Self::Picture(name, rows) => Self::Picture(name, rows[range].to_vec()),
        }
    }

    fn schema(&self) -> TypePtr {
        let leaf = |name: &str, physical: Physical, is_text: bool| {
            let converted = if is_text { ConvertedType::UTF8 } else { ConvertedType::NONE };
            let builder = Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_converted_type(converted);
            Arc::new(builder.build().unwrap())
        };

        match self {
            Self::Text(name, _) | Self::MaybeText(name, _) => {
                leaf(name, Physical::BYTE_ARRAY, true)
            }
            Self::Whole(name, _) => leaf(name, Physical::INT64, false),
            Self::Picture(name, _) => {
                let fields = vec![
                    leaf("bytes", Physical::BYTE_ARRAY, false),
                    leaf("path", Physical::BYTE_ARRAY, true),
                ];
                let group = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
                Arc::new(group.with_fields(fields).build().unwrap())
            }
        }
    }
}

/// A Parquet file of columns of equal length, compressed as on the hub, with `rows_per_group` rows
/// in a group.
#[must_use]
pub fn parquet(columns: &[Column], rows_per_group: usize) -> Vec<u8> {
    parquet_with(columns, rows_per_group, Compression::SNAPPY)
}

/// As [`parquet()`], with another codec.
#[must_use]
pub fn parquet_with(columns: &[Column], rows_per_group: usize, codec: Compression) -> Vec<u8> {
    let fields = columns.iter().map(Column::schema).collect();
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let rows = columns.first().map_or(0, Column::rows);

    for start in (0..rows).step_by(rows_per_group.max(1)) {
        let range = start..rows.min(start + rows_per_group);
        let mut group = writer.next_row_group().unwrap();

        for column in columns {
            let range = range.clone();
            match column {
                Column::Text(_, rows) => {
                    write_bytes(&mut group, 1, rows[range].iter().map(|row| Some(row.as_bytes())));
                }
                Column::MaybeText(_, rows) => {
                    let texts = rows[range].iter().map(|row| row.as_ref().map(String::as_bytes));
                    write_bytes(&mut group, 1, texts);
                }
                Column::Whole(_, rows) => {
                    let values = &rows[range];
                    let mut writer = group.next_column().unwrap().unwrap();
                    let levels = vec![1; values.len()];

                    writer.typed::<Int64Type>().write_batch(values, Some(&levels), None).unwrap();
                    writer.close().unwrap();
                }
                Column::Picture(_, rows) => {
                    let pictures = rows[range.clone()].iter().map(|row| Some(row.as_slice()));
                    write_bytes(&mut group, 2, pictures);

                    let paths: Vec<_> = range.map(|row| format!("{row}.png")).collect();
                    write_bytes(&mut group, 2, paths.iter().map(|path| Some(path.as_bytes())));
                }
            }
        }

        group.close().unwrap();
    }

    writer.close().unwrap();
    bytes
}

fn write_bytes<'a>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    level: i16,
    values: impl Iterator<Item = Option<&'a [u8]>> + Clone,
) {
    let mut writer = group.next_column().unwrap().unwrap();
    let levels: Vec<i16> =
        values.clone().map(|value| if value.is_some() { level } else { 0 }).collect();
    let present: Vec<ByteArray> =
        values.flatten().map(|bytes| ByteArray::from(bytes.to_vec())).collect();

    writer.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None).unwrap();
    writer.close().unwrap();
}
