//! GPT-2's pre-tokenizer, implemented without a regular expression.
//!
//! The published pattern is
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. A table gives the
//! class of each character. The alternatives are then tried in order, as in the pattern.

use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// Most bytes of a word, 64 KiB. A longer word is cut into several. Merging a word needs some
/// hundred times its bytes.
pub(super) const LONGEST_WORD: usize = 64 * 1024;

/// The class of a character in the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Other,
    Letter,
    Number,
    Space,
}

static CLASSES: LazyLock<Vec<CharClass>> = LazyLock::new(|| {
    let mut classes: Vec<CharClass> = (0..=0x10_FFFF_u32)
        .map(|code| match char::from_u32(code) {
            Some(letter) if letter.is_whitespace() => CharClass::Space,
            _ => CharClass::Other,
        })
        .collect();

    for (category, class) in [(r"\p{L}", CharClass::Letter), (r"\p{N}", CharClass::Number)] {
        let parsed = regex_syntax::parse(category)
            .expect("a class of Unicode's general categories is valid");
        let HirKind::Class(Class::Unicode(ranges)) = parsed.kind() else {
            unreachable!("a class of Unicode's parses to one");
        };

        for range in ranges.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }

    classes
});

/// Iterates over the words of a text. Together they are the text.
pub(super) struct Words<'a> {
    rest: &'a str,
    classes: &'static [CharClass],
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text, classes: &CLASSES }
    }

    fn class(&self, letter: char) -> CharClass {
        self.classes[letter as usize]
    }

    /// Bytes of the run of one class with which a text begins.
    fn run(&self, text: &str, class: CharClass) -> usize {
        let mut length = 0;
        for letter in text.chars() {
            // A run beyond the longest word is cut anyway. Scanning it to its end for each word
            // would take quadratic time.
            if self.class(letter) != class || length > LONGEST_WORD {
                break;
            }
            length += letter.len_utf8();
        }

        length
    }

    fn next_length(&self) -> Option<usize> {
        let text = self.rest;
        let first = text.chars().next()?;
        if first == '\''
            && let Some(length) = contraction(&text.as_bytes()[1..])
        {
            return Some(1 + length);
        }

        let class = self.class(first);
        if class != CharClass::Space {
            return Some(self.run(text, class));
        }

        // A blank belongs to the word after it.
        if first == ' '
            && let Some(second) = text[1..].chars().next()
            && self.class(second) != CharClass::Space
        {
            return Some(1 + self.run(&text[1..], self.class(second)));
        }

        let run = self.run(text, CharClass::Space);
        if run == text.len() {
            return Some(run);
        }

        // `\s+(?!\S)`: white space before a word ends before its last character, unless it has only
        // one.
        let last = text[..run].chars().next_back().map_or(0, char::len_utf8);

        Some(if run > last { run - last } else { run })
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let length = self.next_length()?;
        let length = if length > LONGEST_WORD {
            self.rest.floor_char_boundary(LONGEST_WORD)
        } else {
            length
        };

        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }
}

/// The start of the last word of a text, which is a boundary whatever text follows. The end of the
/// text if it is one word.
pub(super) fn last_boundary(text: &str) -> usize {
    let mut begin = 0;
    let mut last = 0;
    for word in Words::of(text) {
        last = begin;
        begin += word.len();
    }

    if last == 0 { text.len() } else { last }
}

/// Bytes of the contraction after an apostrophe.
fn contraction(after: &[u8]) -> Option<usize> {
    match after {
        [b's' | b't' | b'm' | b'd', ..] => Some(1),
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Words::of(text).collect()
    }

    #[test]
    fn words_are_those_of_the_pattern() {
        assert_eq!(
            words("Don't  stop\n\nme 'll"),
            ["Don", "'t", " ", " stop", "\n", "\n", "me", " '", "ll"]
        );
        assert_eq!(words("a1 ?!b   "), ["a", "1", " ?!", "b", "   "]);
        assert_eq!(words("\u{3000}x"), ["\u{3000}", "x"]);
        assert_eq!(words(""), [""; 0]);
    }
}
