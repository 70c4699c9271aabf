//! The bytes of an event file: records with checksums, each with a message of protocol buffers.

use std::io::{self, Read};

use prost::Message;

/// Longest first record that is read. Those of event files are far shorter.
const MAX_FIRST_RECORD: u64 = 1 << 16;

/// Number that is added to a checksum, because the CRC of data that contain CRCs could be a trivial
/// one.
const MASK_DELTA: u32 = 0xa282_ead8;

/// `Event` of TensorFlow's event.proto, as far as it is used here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970-01-01 UTC.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "Content", tags = "3, 5")]
    pub(super) content: Option<Content>,
    /// Writer of the file; only in its first event.
    #[prost(message, optional, tag = "10")]
    pub(super) source: Option<SourceMetadata>,
}

/// The content of an event.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Content {
    /// Only in the first event.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `SourceMetadata` of event.proto.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SourceMetadata {
    #[prost(string, tag = "1")]
    pub(super) writer: String,
}

/// `Summary` of summary.proto.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// `Summary.Value` of summary.proto.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    /// Optional, so that a zero is written too.
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
}

impl Event {
    /// The event as a record: length, its checksum, message, its checksum.
    pub(super) fn to_record(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked_checksum(&length), &message, &masked_checksum(&message)];
        parts.concat()
    }

    /// The first event of a file; `None` if the file does not begin with a whole one.
    pub(super) fn first(mut file: impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_FIRST_RECORD).read_to_end(&mut bytes)?;
        Ok(Self::from_record(&bytes))
    }

    fn from_record(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (length_checksum, rest) = rest.split_first_chunk::<4>()?;
        let (message, rest) =
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (checksum, _) = rest.split_first_chunk::<4>()?;
        let is_whole =
            *length_checksum == masked_checksum(length) && *checksum == masked_checksum(message);

        if is_whole { Self::decode(message).ok() } else { None }
    }
}

/// CRC-32C, rotated right by 15 bits, plus [`MASK_DELTA`].
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_reference_checksums() {
        // The check value of the polynomial, and that of 32 zeros in RFC 3720.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);

        // Every event file whose first message has 24 bytes begins with the bytes
        // 18 00 00 00 00 00 00 00 and a3 7f 4b 22, whichever program wrote it.
        assert_eq!(masked_checksum(&24u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn only_a_whole_first_record_is_an_event() {
        let event = Event {
            wall_time: 1.5,
            step: 3,
            content: Some(Content::FileVersion("x".to_owned())),
            source: None,
        };

        let record = event.to_record();
        let longer = [&record[..], b"and more"].concat();
        assert_eq!(Event::first(&longer[..]).unwrap(), Some(event));
        assert_eq!(Event::first(&record[..record.len() - 1]).unwrap(), None);
        assert_eq!(Event::first(&b"no record, but a text of some length"[..]).unwrap(), None);
        assert_eq!(Event::first(&[][..]).unwrap(), None);
    }
}
