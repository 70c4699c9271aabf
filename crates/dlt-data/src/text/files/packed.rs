//! The content of a file without its packing and its byte order mark.

use super::Packing;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Largest window of zstd, in powers of two: 2 GiB, the most that the format's own program writes
/// (`--long=31`). Only files that were packed with it need so much memory.
const ZSTD_WINDOW_LOG: u32 = 31;

/// The byte order mark, which has no meaning in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The unpacked content, without a byte order mark at its beginning.
pub(super) fn unpacked<'a>(
    stored: impl BufRead + 'a,
    packing: Packing,
) -> io::Result<Box<dyn Read + 'a>> {
    match packing {
        Packing::Plain => without_mark(stored),
        Packing::Gzip => without_mark(Members::new(stored)),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(stored)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            without_mark(decoder)
        }
    }
}

/// Whether these are the first bytes of zstd data: a frame, or a frame to be skipped.
pub(super) fn is_zstd(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..])
}

/// Every member of a gzip file, as gzip(1) reads it. Zeros after the last member are padding, as on
/// tapes and in some downloads.
struct Members<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(bytes)?;
            if read > 0 || bytes.is_empty() {
                return Ok(read);
            }

            let rest = self.member.take().map(GzDecoder::into_inner);
            self.member = rest.map(next_member).transpose()?.flatten().map(GzDecoder::new);
        }

        Ok(0)
    }
}

/// The reader at the start of the next member, if one follows.
fn next_member<R: BufRead>(mut rest: R) -> io::Result<Option<R>> {
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }

        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            None => rest.consume(zeros),
            Some(0x1F) => {
                rest.consume(zeros);
                return Ok(Some(rest));
            }
            Some(other) => {
                let reason = format!(
                    "byte {other:#04x} follows the gzip data and is neither padding nor more gzip \
                     data: the file is damaged, or something was appended to it"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
    }
}

/// The same content without a byte order mark at its beginning.
fn without_mark<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = head(&mut reader, MARK.len())?;
    let begin = if head == MARK { Vec::new() } else { head };
    Ok(Box::new(io::Cursor::new(begin).chain(reader)))
}

/// The first bytes, at most `most`.
pub(super) fn head(reader: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    reader.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Members::new(bytes).read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn members_and_padding_are_read_as_gzip_reads_them() {
        let one = gzip(b"one ");
        let two = gzip(b"two");
        let zeros = vec![0; 5_000];

        assert_eq!(unpacked(&[&one[..], &two].concat()).unwrap(), b"one two");
        assert_eq!(unpacked(&[&one[..], &two, &zeros].concat()).unwrap(), b"one two");
        assert_eq!(unpacked(&[&one[..], &zeros, &two].concat()).unwrap(), b"one two");
        assert_eq!(unpacked(&gzip(b"")).unwrap(), b"");
    }

    #[test]
    fn rejects_what_follows_gzip_data_and_is_none() {
        let error = unpacked(&[&gzip(b"one")[..], b"\0\0more"].concat()).unwrap_err().to_string();
        assert!(error.contains("0x6d follows the gzip data"), "{error}");
        assert!(unpacked(&gzip(b"a longer text")[..20]).is_err());
    }

    #[test]
    fn one_mark_is_dropped_and_only_at_the_beginning() {
        for (bytes, expected) in [
            ("\u{feff}a\u{feff}", "a\u{feff}"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a", "a"),
            ("", ""),
            ("\u{feff}", ""),
        ] {
            let mut text = String::new();
            without_mark(bytes.as_bytes()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }
}
