//! Checks the pages of a Parquet column before they are unpacked.
//!
//! A page states its size when unpacked. The reader allocates that many bytes. With gzip and brotli
//! it unpacks everything before it compares: a page of 1 MB may become a terabyte. So a column's
//! pages are checked first. Their headers are structures of Thrift's compact protocol, of which
//! only the sizes are read.

use crate::text::files::LONGEST_ROW;
use flate2::read::MultiGzDecoder;
use parquet::{basic::Compression, file::metadata::ColumnChunkMetaData};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// Most bytes of a page: four times those of a row, as a page has at least one row. Writers make
/// pages of about 1 MiB.
const LARGEST_PAGE: u64 = 4 * LONGEST_ROW;

/// Bytes of a header that are read at first, and at most. A header may repeat the least and the
/// greatest row of its page.
const HEADER_BYTES: [u64; 2] = [64 << 10, 2 * LONGEST_ROW];

/// Deepest nesting of structures; the format has three levels.
const DEEPEST: u32 = 16;

/// The sizes that a page's header states.
#[derive(Debug, Default, PartialEq)]
struct Header {
    /// Bytes of the header itself.
    length: u64,
    unpacked: u64,
    packed: u64,
    /// Bytes at the front of the page that are not packed.
    levels: u64,
    is_plain: bool,
}

/// Refuses a column of a row group if a page is larger than a page may be, or than it says.
pub(super) fn check(file: &mut File, chunk: &ColumnChunkMetaData) -> Result<(), String> {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(chunk.compressed_size()))
    else {
        return Err("a column begins or ends before the file".to_owned());
    };

    let mut at = start;
    let end = start.saturating_add(length);
    while at < end {
        let header = header_at(file, at, end).map_err(|error| error.to_string())?;
        let header = header.ok_or_else(|| format!("its page at byte {at} has no header"))?;
        if header.unpacked > LARGEST_PAGE || header.packed > LARGEST_PAGE {
            let largest = header.unpacked.max(header.packed);
            return Err(format!(
                "its page at byte {at} has {largest} bytes, expected at most {LARGEST_PAGE}"
            ));
        }

        let body = at + header.length;
        if !header.is_plain {
            check_unpacked(file, body, &header, chunk.compression())
                .map_err(|error| error.to_string())?;
        }

        at = body.saturating_add(header.packed);
    }

    Ok(())
}

/// Unpacks a page and discards the result, up to one byte more than it states. Other codecs store
/// their own size and do not need this.
fn check_unpacked(
    file: &mut File,
    body: u64,
    header: &Header,
    codec: Compression,
) -> io::Result<()> {
    let packed = header.packed.saturating_sub(header.levels);
    let stated = header.unpacked.saturating_sub(header.levels);
    file.seek(SeekFrom::Start(body + header.levels))?;

    let packed = io::BufReader::new(file.take(packed));
    let found = match codec {
        Compression::GZIP(_) => {
            io::copy(&mut MultiGzDecoder::new(packed).take(stated + 1), &mut io::sink())?
        }
        Compression::BROTLI(_) => {
            let unpacked = brotli::Decompressor::new(packed, 64 << 10);
            io::copy(&mut unpacked.take(stated + 1), &mut io::sink())?
        }
        _ => stated,
    };

    if found > stated {
        let reason = format!("its page at byte {body} is larger than it says, {stated} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }

    Ok(())
}

fn header_at(file: &mut File, at: u64, end: u64) -> io::Result<Option<Header>> {
    for most in HEADER_BYTES {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref().take(most.min(end - at)).read_to_end(&mut bytes)?;

        if let Some(header) = (Compact { rest: &bytes }).header(bytes.len()) {
            return Ok(Some(header));
        }
    }

    Ok(None)
}

/// A reader of Thrift's compact protocol. `None` means that the bytes end early or do not follow
/// the protocol.
struct Compact<'a> {
    rest: &'a [u8],
}

/// The types of fields that are distinguished.
#[derive(Clone, Copy, PartialEq)]
enum FieldType {
    True,
    False,
    Byte,
    Number,
    Double,
    Bytes,
    List,
    Structure,
}

impl Compact<'_> {
    fn header(&mut self, all: usize) -> Option<Header> {
        let mut header = Header::default();
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (2, FieldType::Number) => header.unpacked = u64::try_from(self.number()?).ok()?,
                (3, FieldType::Number) => header.packed = u64::try_from(self.number()?).ok()?,
                (8, FieldType::Structure) => self.second_version(&mut header)?,
                (_, kind) => self.skip(kind, 0)?,
            }
        }

        header.length = (all - self.rest.len()) as u64;
        Some(header)
    }

    /// Reads what a data page header of the second version adds.
    fn second_version(&mut self, header: &mut Header) -> Option<()> {
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (5 | 6, FieldType::Number) => {
                    header.levels += u64::try_from(self.number()?).ok()?
                }
                (7, FieldType::False) => header.is_plain = true,
                (_, kind) => self.skip(kind, 0)?,
            }
        }

        Some(())
    }

    /// The type of the next field, or `Some(None)` at the end of the structure. `field` becomes its
    /// number.
    fn field(&mut self, field: &mut i64) -> Option<Option<FieldType>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }

        *field = match byte >> 4 {
            0 => self.number()?,
            delta => field.checked_add(i64::from(delta))?,
        };

        kind(byte & 0x0F).map(Some)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;

            if byte < 0x80 {
                return Some(number);
            }
        }

        None
    }

    fn number(&mut self) -> Option<i64> {
        let zigzag = self.unsigned()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn skip_bytes(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn skip(&mut self, of: FieldType, depth: u32) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }

        match of {
            FieldType::True | FieldType::False => Some(()),
            FieldType::Byte => self.skip_bytes(1),
            FieldType::Number => self.unsigned().map(drop),
            FieldType::Double => self.skip_bytes(8),
            FieldType::Bytes => {
                let count = self.unsigned()?;
                self.skip_bytes(count)
            }
            FieldType::List => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.unsigned()? } else { u64::from(byte >> 4) };
                let element = kind(byte & 0x0F)?;
                let element = if matches!(element, FieldType::True | FieldType::False) {
                    FieldType::Byte
                } else {
                    element
                };

                (0..count).try_for_each(|_| self.skip(element, depth + 1))
            }
            FieldType::Structure => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
        }
    }
}

fn kind(number: u8) -> Option<FieldType> {
    Some(match number {
        1 => FieldType::True,
        2 => FieldType::False,
        3 => FieldType::Byte,
        4..=6 => FieldType::Number,
        7 => FieldType::Double,
        8 => FieldType::Bytes,
        9 | 10 => FieldType::List,
        12 => FieldType::Structure,
        // Page headers have no maps.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// type 0, 70 bytes, packed to 30, and a data page header of the second version with levels of
    /// 4 and 2 bytes.
    const SECOND: &[u8] = &[
        0x15, 0x06, 0x15, 140, 1, 0x15, 60, 0x5C, 0x15, 2, 0x15, 0, 0x15, 2, 0x15, 0, 0x15, 8,
        0x15, 4, 0x12, 0, 0,
    ];

    #[test]
    fn sizes_of_a_header_are_read() {
        let header = Compact { rest: SECOND }.header(SECOND.len()).unwrap();
        let length = SECOND.len() as u64;
        assert_eq!(header, Header { length, unpacked: 70, packed: 30, levels: 6, is_plain: true });
    }

    #[test]
    fn rejects_headers_that_are_cut_or_none() {
        for end in 0..SECOND.len() {
            assert_eq!(Compact { rest: &SECOND[..end] }.header(end), None, "{end}");
        }

        let deep = [&[0x9C][..], &[0x1C; 40], &[0; 42]].concat();
        assert_eq!(Compact { rest: &deep }.header(deep.len()), None);
        assert_eq!(Compact { rest: &[0x15, 1, 0x15, 1, 0] }.header(5), None, "a size below zero");
    }
}
