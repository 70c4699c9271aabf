//! GPT-2's pre-tokenizer without a regular expression.
//!
//! The published pattern is
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. What a character
//! is to it comes out of one table; the alternatives are then tried in order, as written.

use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// Most bytes of a word, 64 KiB; a longer one is several. Merging a word takes some hundred times
/// its bytes.
pub(super) const LONGEST_WORD: usize = 64 * 1024;

/// What a character is to the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Other,
    Letter,
    Number,
    Space,
}

static KINDS: LazyLock<Vec<CharClass>> = LazyLock::new(|| {
    let mut kinds: Vec<CharClass> = (0..=0x10_FFFF_u32)
        .map(|code| match char::from_u32(code) {
            Some(letter) if letter.is_whitespace() => CharClass::Space,
            _ => CharClass::Other,
        })
        .collect();

    for (class, kind) in [(r"\p{L}", CharClass::Letter), (r"\p{N}", CharClass::Number)] {
        let parsed =
            regex_syntax::parse(class).expect("a class of Unicode's general categories is valid");
        let HirKind::Class(Class::Unicode(ranges)) = parsed.kind() else {
            unreachable!("a class of Unicode's parses to one");
        };

        for range in ranges.ranges() {
            kinds[range.start() as usize..=range.end() as usize].fill(kind);
        }
    }

    kinds
});

/// The words of a text, in order; together they are the text.
pub(super) struct Words<'a> {
    rest: &'a str,
    kinds: &'static [CharClass],
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text, kinds: &KINDS }
    }

    fn kind(&self, letter: char) -> CharClass {
        self.kinds[letter as usize]
    }

    /// Bytes of the run of one kind that a text begins with.
    fn run(&self, text: &str, kind: CharClass) -> usize {
        let mut length = 0;
        for letter in text.chars() {
            // Past the longest word nothing is decided any more, and a long run would be looked at
            // again and again.
            if self.kind(letter) != kind || length > LONGEST_WORD {
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

        let kind = self.kind(first);
        if kind != CharClass::Space {
            return Some(self.run(text, kind));
        }

        // A blank belongs to the word behind it.
        if first == ' '
            && let Some(second) = text[1..].chars().next()
            && self.kind(second) != CharClass::Space
        {
            return Some(1 + self.run(&text[1..], self.kind(second)));
        }

        let run = self.run(text, CharClass::Space);
        if run == text.len() {
            return Some(run);
        }

        // White space before a word leaves its last character to the word, unless it is all there
        // is.
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

/// The last place of a text where one word ends and another begins, whatever follows the text; its
/// end where it is one word.
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
