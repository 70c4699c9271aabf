//! Reads an array element by element, with only one element in memory.

use super::super::LONGEST_ROW;
use std::io::{self, BufRead};

/// What is wrong with an array.
#[derive(Debug)]
pub(crate) enum ArrayError {
    /// It cannot be read.
    Io(io::Error),
    /// An element is longer than a row may be.
    TooLong,
    /// It is not a valid array, with the reason in words.
    Broken(String),
}

impl From<io::Error> for ArrayError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The elements of an array. This finds only where they end; it does not parse them.
pub(super) struct Elements<R> {
    reader: R,
    is_begun: bool,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, is_begun: false }
    }

    /// Puts the bytes of the next element into `element`. `None` at the end of the array.
    pub(super) fn next(&mut self, element: &mut Vec<u8>) -> Result<Option<()>, ArrayError> {
        element.clear();
        if !self.is_begun {
            self.expect(b"[", "the beginning of the array")?;
        } else if self.expect(b",]", "a comma or the end of the array")? == b']' {
            return self.end();
        }

        let first = self.peek("an element")?;
        if first == b']' && !self.is_begun {
            self.reader.consume(1);
            return self.end();
        }

        self.is_begun = true;
        self.take_element(element)?;

        if element.is_empty() {
            return Err(ArrayError::Broken(format!(
                "expected an element, got {:?}",
                char::from(first)
            )));
        }

        Ok(Some(()))
    }

    /// Only white space may follow the array.
    fn end(&mut self) -> Result<Option<()>, ArrayError> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }

            if let Some(other) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                let other = char::from(*other);
                return Err(ArrayError::Broken(format!("{other:?} follows the end of the array")));
            }

            let blank = bytes.len();
            self.reader.consume(blank);
        }
    }

    /// Consumes the next byte that is not white space. It has to be one of `any`.
    fn expect(&mut self, any: &[u8], what: &str) -> Result<u8, ArrayError> {
        let found = self.peek(what)?;
        if !any.contains(&found) {
            return Err(ArrayError::Broken(format!(
                "expected {what}, got {:?}",
                char::from(found)
            )));
        }

        self.reader.consume(1);
        Ok(found)
    }

    /// The next byte that is not white space, without consuming it.
    fn peek(&mut self, what: &str) -> Result<u8, ArrayError> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(ArrayError::Broken(format!(
                    "expected {what}, got the end of the file"
                )));
            }

            let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = bytes.get(blank).copied();
            self.reader.consume(blank);

            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    fn take_element(&mut self, element: &mut Vec<u8>) -> Result<(), ArrayError> {
        let mut scan = Scan::default();

        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                let reason = "expected the end of the element, got the end of the file".to_owned();
                return Err(ArrayError::Broken(reason));
            }

            let end = bytes.iter().position(|&byte| scan.ends_before(byte));
            let taken = end.unwrap_or(bytes.len());
            if (element.len() + taken) as u64 > LONGEST_ROW {
                return Err(ArrayError::TooLong);
            }

            element.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);

            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// The state of the scan within an element.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_text: bool,
    is_escaped: bool,
}

impl Scan {
    /// Whether the element ends before this byte. If not, the byte belongs to the element.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.in_text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }

            return false;
        }

        match byte {
            b',' | b']' if self.depth == 0 => return true,
            b'"' => self.in_text = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }

        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn elements(array: &str, buffer: usize) -> Result<Vec<String>, ArrayError> {
        let mut elements = Elements::new(BufReader::with_capacity(buffer, array.as_bytes()));
        let mut element = Vec::new();
        let mut all = Vec::new();

        while elements.next(&mut element)?.is_some() {
            all.push(String::from_utf8(element.clone()).unwrap().trim().to_owned());
        }

        Ok(all)
    }

    proptest! {
        #[test]
        fn law_elements_are_those_of_the_array(
            texts in proptest::collection::vec("[a\\[\\]{},\"\\\\ ]{0,6}", 0..5),
            buffer in 1_usize..9,
        ) {
            let values: Vec<serde_json::Value> = texts
                .iter()
                .map(|text| serde_json::json!({ "text": text, "more": [[], { text: text }, 1] }))
                .collect();
            let found = elements(&serde_json::to_string_pretty(&values).unwrap(), buffer).unwrap();
            let parsed: Vec<serde_json::Value> =
                found.iter().map(|element| serde_json::from_str(element).unwrap()).collect();

            prop_assert_eq!(parsed, values);
        }
    }

    #[test]
    fn rejects_arrays_that_are_none() {
        for array in
            ["", "[", "[1", "[1,", "[1,]", "[,1]", "[1] 2", "[1]]", "1", "[\"a]", "[{\"a\": 1]"]
        {
            assert!(elements(array, 3).is_err(), "{array}");
        }

        assert_eq!(elements(" [ ] \n", 1).unwrap(), [""; 0]);
        assert_eq!(elements("[1, [2, 3]]", 2).unwrap(), ["1", "[2, 3]"]);
    }
}
