//! The header of a safetensors file, read without trust and written in a fixed order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A longer header is refused: those that this program writes hold some hundred bytes a tensor.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Key of the checksum, and what stands there while it is computed.
pub(crate) const CHECKSUM: &str = "checksum";
/// 64 zeros.
pub(crate) const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Type of the numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Number {
    /// Bytes.
    U8,
    /// Floats of 32 bits.
    F32,
}

impl Number {
    fn size(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::F32 => 4,
        }
    }
}

/// Where a tensor stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Type of its numbers.
    pub dtype: Number,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First byte, and the one after the last, in the data after the header.
    pub data_offsets: (u64, u64),
}

/// What stands before the data of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Text beside the tensors.
    #[serde(rename = "__metadata__", default)]
    pub metadata: BTreeMap<String, String>,
    /// Tensors by name.
    #[serde(flatten)]
    pub tensors: BTreeMap<String, Place>,
}

impl Header {
    /// The header in `json`, before `data` bytes of tensors, which it has to cover exactly.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(json: &[u8], data: u64) -> Result<Self, String> {
        let header: Self =
            serde_json::from_slice(json).map_err(|error| format!("not a safetensors header: {error}"))?;
        let mut places: Vec<_> = header.tensors.iter().collect();
        places.sort_by_key(|(_, place)| place.data_offsets);
        let mut end = 0;
        for (name, Place { dtype, shape, data_offsets: (from, to) }) in places {
            let numbers = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
            let bytes = numbers.and_then(|n| n.checked_mul(dtype.size()));
            if *from != end || bytes.and_then(|bytes| bytes.checked_add(end)) != Some(*to) {
                return Err(format!(
                    "tensor `{name}` of shape {shape:?} cannot stand at bytes {from} to {to} of the data"
                ));
            }
            end = *to;
        }
        match end == data {
            true => Ok(header),
            false => {
                Err(format!("expected {end} bytes of tensors, came {data}: it is cut short or too long"))
            }
        }
    }

    /// The header as bytes, with its length before it, filled with blanks to a multiple of eight.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("a header holds texts, numbers and lists only");
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut json);
        bytes
    }
}

/// Where the checksum's digits stand in a header: after its key, which cannot stand in a text unescaped.
pub(crate) fn checksum_place(header: &[u8]) -> Option<std::ops::Range<usize>> {
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
    fn law_a_header_comes_back_equal() {
        let place = |from, to| Place { dtype: Number::F32, shape: vec![2], data_offsets: (from, to) };
        let header = Header {
            metadata: BTreeMap::from([("spec".to_owned(), "a = \"b\"\n".to_owned())]),
            tensors: BTreeMap::from([("b".to_owned(), place(0, 8)), ("a".to_owned(), place(8, 16))]),
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
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-1,4]}}"#, 8, "not a safetensors header"),
            (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#, 4, "tensor"),
            (
                r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
                4,
                "cut",
            ),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 3, "cut short"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5, "too long"),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                6,
                "tensor `b`",
            ),
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
