//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Number;

/// The longest header that is read: the limit of the format.
pub const MOST_HEADER_BYTES: u64 = 100_000_000;

/// Key of the checksum in the metadata: SHA-256 of the whole file with 64 zeros in its place.
pub const CHECKSUM: &str = "checksum";

/// 64 zeros.
const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Key of the metadata among the tensors.
const METADATA: &str = "__metadata__";

/// A tensor's entry in the header: its type, its shape and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Type of its numbers.
    pub dtype: Number,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first byte, and the byte after its last one, counted from the end of the header.
    pub data_offsets: (u64, u64),
}

impl TensorInfo {
    /// Number of elements of the tensor.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.data_offsets.1 - self.data_offsets.0) / self.dtype.size()
    }
}

/// The header of a safetensors file, which is before the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Text besides the tensors.
    #[serde(rename = "__metadata__")]
    pub metadata: BTreeMap<String, String>,
    /// Tensors by name.
    #[serde(flatten)]
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// The header in `json`. Its tensors must cover the `data` bytes after it exactly, each byte
    /// once.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn parse(json: &[u8], data: u64) -> Result<Self, String> {
        let header: Self = serde_json::from_slice(json)
            .map_err(|error| format!("not a safetensors header: {error}"))?;
        let mut end = 0;

        // In order, each tensor must begin where the one before ended: no gaps, no overlaps.
        for (name, TensorInfo { dtype, shape, data_offsets: (from, to) }) in header.in_order() {
            let numbers = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
            let bytes = numbers.and_then(|n| n.checked_mul(dtype.size()));
            if *from != end || bytes.and_then(|bytes| bytes.checked_add(end)) != Some(*to) {
                return Err(format!(
                    "tensor `{name}` of shape {shape:?} in {dtype:?} cannot be at bytes {from} to \
                     {to} of the data"
                ));
            }
            end = *to;
        }

        if end == data {
            Ok(header)
        } else {
            Err(format!("expected {end} bytes of tensors, got {data}: it is cut short or too long"))
        }
    }

    /// The tensors in the order of their bytes in the file.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&String, &TensorInfo)> {
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        tensors
    }

    /// The same header with room for a checksum, which a [`Writer`](super::Writer) then fills in.
    #[must_use]
    pub fn with_checksum(mut self) -> Self {
        self.metadata.insert(CHECKSUM.to_owned(), NO_CHECKSUM.to_owned());
        self
    }

    /// The header as bytes, after its length, padded with blanks to a multiple of eight. Keys are
    /// sorted, so equal headers are equal bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec(self).expect("a header holds texts, numbers and lists only");
        json.resize(json.len().next_multiple_of(8), b' ');

        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut json);
        bytes
    }
}

// Read by hand, because serde's maps silently keep the last of two equal names.
impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();

                while let Some(name) = map.next_key::<String>()? {
                    let is_second = match name.as_str() {
                        METADATA => metadata.replace(map.next_value::<Texts>()?.0).is_some(),
                        _ => {
                            tensors.insert(name.clone(), map.next_value::<TensorInfo>()?).is_some()
                        }
                    };

                    if is_second {
                        return Err(Error::custom(format!("`{name}` is there twice")));
                    }
                }

                Ok(Header { metadata: metadata.unwrap_or_default(), tensors })
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// Texts by name. A name that occurs twice is an error.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    if texts.insert(key.clone(), text).is_some() {
                        return Err(Error::custom(format!("`{key}` is in the metadata twice")));
                    }
                }

                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// The length and the header of a file of `bytes` bytes, once byte for byte and once parsed; or why
/// the file is refused.
pub(super) fn read(file: &mut File, bytes: u64) -> io::Result<Result<(Vec<u8>, Header), String>> {
    if bytes < 8 {
        return Ok(Err(format!("not a safetensors file: expected at least 8 bytes, got {bytes}")));
    }

    let mut head = vec![0; 8];
    file.read_exact(&mut head)?;

    let length = u64::from_le_bytes(head[..8].try_into().expect("eight bytes are eight bytes"));
    // Checked before memory is allocated for it: the length may be anything.
    if length > MOST_HEADER_BYTES || length > bytes - 8 {
        return Ok(Err(format!(
            "not a safetensors file, or cut short: its header claims {length} bytes, the file has \
             {bytes}"
        )));
    }

    (&*file).take(length).read_to_end(&mut head)?;
    let header = Header::parse(&head[8..], bytes - 8 - length);
    Ok(header.map(|header| (head, header)))
}

/// Where the digits of the checksum are in a header. Its key with quotes cannot occur inside a
/// text, where quotes are escaped.
pub(super) fn checksum_place(header: &[u8]) -> Option<std::ops::Range<usize>> {
    let key = format!("\"{CHECKSUM}\":\"");
    let start = header.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let range = start..start + NO_CHECKSUM.len();
    let digits = header.get(range.clone())?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str, data: u64) -> Result<Header, String> {
        Header::parse(json.as_bytes(), data)
    }

    #[test]
    fn law_a_header_returns_equal() {
        let info =
            |from, to| TensorInfo { dtype: Number::F32, shape: vec![2], data_offsets: (from, to) };
        let header = Header {
            metadata: BTreeMap::from([("spec".to_owned(), "a = \"b\"\n".to_owned())]),
            tensors: BTreeMap::from([("b".to_owned(), info(0, 8)), ("a".to_owned(), info(8, 16))]),
        };

        let bytes = header.to_bytes();
        assert!(bytes.len().is_multiple_of(8));
        assert_eq!(Header::parse(&bytes[8..], 16), Ok(header));
    }

    #[test]
    fn rejects_hostile_headers() {
        for (json, data, says) in [
            ("", 0, "not a safetensors header"),
            ("[1]", 0, "not a safetensors header"),
            (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4, "unknown variant"),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "tensor `a`"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "tensor `a`"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#, 8, "tensor `a`"),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-1,4]}}"#,
                8,
                "not a safetensors header",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
                4,
                "tensor",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[18446744073709551615],
                    "data_offsets":[0,18446744073709551615]}}"#,
                4,
                "cut",
            ),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 3, "cut short"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5, "too long"),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                    "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                6,
                "tensor `b`",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                    "a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                4,
                "`a` is there twice",
            ),
            (
                r#"{"a":{"dtype":"U8","dtype":"F32","shape":[4],"data_offsets":[0,4]}}"#,
                4,
                "duplicate field",
            ),
            (r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "`__metadata__` is there twice"),
            (r#"{"__metadata__":{"k":"a","k":"b"}}"#, 0, "`k` is in the metadata twice"),
            (r#"{"__metadata__":{"k":1}}"#, 0, "not a safetensors header"),
        ] {
            let error = parse(json, data).expect_err(json);
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn the_checksum_is_found_and_not_in_a_text() {
        let text = format!(r#""spec":"\"checksum\":\"{NO_CHECKSUM}\"","#);
        assert_eq!(checksum_place(text.as_bytes()), None);
        let header = format!(r#"{{{text}"checksum":"{NO_CHECKSUM}"}}"#);
        let place = checksum_place(header.as_bytes()).expect("there");
        assert_eq!(&header[place], NO_CHECKSUM);
    }
}
