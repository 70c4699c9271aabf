//! Lines of a file that may be damaged or endless: the length of each is bounded.

use std::io::{self, BufRead, Read};

use crate::file::RECORD_BYTES;

/// Largest length of a line of metrics or decisions, with its end, in bytes. The longest line that
/// this program writes is a decision about 65,536 layers, which has them twice, with numbers of
/// five digits: 0.8 MB.
pub const MOST_LINE_BYTES: usize = 1 << 20;

/// A line as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The text without the line end.
    pub text: String,
    /// Bytes in the file, with the line end.
    pub bytes: usize,
    /// Whether it has a line end. The last line of a file that is being written may have none yet.
    pub is_whole: bool,
}

/// The lines of a reader. It never holds more than [`MOST_LINE_BYTES`].
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: usize,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines from the reader's position on.
    pub fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes: 0 }
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        let mut raw = Vec::new();
        let bytes =
            (&mut self.reader).take(MOST_LINE_BYTES as u64 + 1).read_until(b'\n', &mut raw)?;
        if bytes == 0 {
            return Ok(None);
        }

        self.number += 1;
        self.bytes += bytes as u64;
        let refuse = |reason: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {reason}", self.number))
        };

        if bytes > MOST_LINE_BYTES {
            return Err(refuse(format!(
                "expected a line of at most {MOST_LINE_BYTES} bytes, got more"
            )));
        }

        if self.bytes > RECORD_BYTES {
            return Err(refuse(format!("expected at most {RECORD_BYTES} bytes, got more")));
        }

        let is_whole = raw.last() == Some(&b'\n');
        if is_whole {
            raw.pop();
        }

        let text = String::from_utf8(raw).map_err(|_| refuse("expected UTF-8".to_owned()))?;
        Ok(Some(Line { text, bytes, is_whole }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().transpose()
    }
}

/// All lines of a reader as one text, also a last line without a line end.
///
/// # Errors
/// Those of [`whole_lines`].
pub fn text_of_lines(reader: impl BufRead) -> io::Result<String> {
    joined(reader, |_| true)
}

/// The lines of a reader that have a line end, as one text. A half-written last line is left out.
///
/// # Errors
/// Those of the reader; an error of kind `InvalidData` if a line or all of them together are too
/// long, or if a line is not UTF-8.
pub fn whole_lines(reader: impl BufRead) -> io::Result<String> {
    joined(reader, |line| line.is_whole)
}

fn joined(reader: impl BufRead, wanted: impl Fn(&Line) -> bool) -> io::Result<String> {
    let mut text = String::new();
    for line in Lines::new(reader) {
        let line = line?;
        if wanted(&line) {
            text.push_str(&line.text);
            text.push_str(if line.is_whole { "\n" } else { "" });
        }
    }

    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_lines_add_up_to_the_text() {
        for text in ["", "\n", "a\nb\n", "a\n\nb", "é\r\nlast"] {
            let lines: Vec<_> = Lines::new(text.as_bytes()).map(Result::unwrap).collect();
            let joined: String = lines
                .iter()
                .map(|line| line.text.clone() + if line.is_whole { "\n" } else { "" })
                .collect();
            assert_eq!(joined, text);
            assert_eq!(lines.iter().map(|line| line.bytes).sum::<usize>(), text.len());
        }

        assert_eq!(whole_lines("a\nb\nhalf".as_bytes()).unwrap(), "a\nb\n");
        assert_eq!(text_of_lines("a\nb\nhalf".as_bytes()).unwrap(), "a\nb\nhalf");
    }

    #[test]
    fn rejects_a_line_without_end_and_bytes_that_are_no_text() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let error = Lines::new(endless).next().unwrap().unwrap_err().to_string();
        assert_eq!(error, "line 1: expected a line of at most 1048576 bytes, got more");

        let error = whole_lines(&b"a\n\xff\n"[..]).unwrap_err().to_string();
        assert_eq!(error, "line 2: expected UTF-8");

        let longest = "x".repeat(MOST_LINE_BYTES - 1) + "\n";
        assert_eq!(whole_lines(longest.as_bytes()).unwrap(), longest);
    }
}
