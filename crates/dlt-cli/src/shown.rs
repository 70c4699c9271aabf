//! Makes text safe to show on a terminal: no text of a file, a name or the hub may move the cursor
//! or fill the screen.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest line of a message, in letters: more than anyone reads, and enough for most paths (at
/// most 4,096 bytes).
const LONGEST_LINE: usize = 2_000;

/// Letters that are kept at the end of a line that is too long: there, messages say what to do.
const KEPT_END: usize = 500;

/// Most lines of a message: more than a list of all values of a spec, which has about ninety.
const MOST_LINES: usize = 200;

/// A text in which control characters other than line feeds and tabs are escaped, as in `\u001b`.
/// This is how JSON writes them, so an escaped line of JSON has the same value.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }

    let mut shown = String::with_capacity(text.len() + 16);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        // The two characters of a line end on Windows stay.
        let ends_line = letter == '\r' && letters.peek() == Some(&'\n');
        if is_unsafe(letter) && !ends_line {
            write!(shown, "\\u{:04x}", u32::from(letter)).expect("writing to a string cannot fail");
        } else {
            shown.push(letter);
        }
    }

    Cow::Owned(shown)
}

/// Whether a letter does something to a terminal: control characters of ASCII and of Latin-1, and
/// those that change the direction of writing.
fn is_unsafe(letter: char) -> bool {
    let is_turn = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_turn || (letter.is_control() && !matches!(letter, '\n' | '\t'))
}

/// A message as it may be shown: escaped, long lines without their middle, and without the lines
/// beyond [`MOST_LINES`].
pub(crate) fn message(text: &str) -> String {
    let mut lines: Vec<Cow<'_, str>> = text.lines().take(MOST_LINES).map(line).collect();
    let more = text.lines().skip(MOST_LINES).count();
    if more > 0 {
        lines.push(format!("... and {more} more lines").into());
    }

    lines.join("\n")
}

/// A value inside a line of a log: escaped, shortened, and without line feeds.
pub(crate) fn value(text: &str) -> String {
    line(text).replace('\n', "\\n")
}

/// A line, escaped and without its middle if it is too long.
fn line(text: &str) -> Cow<'_, str> {
    let letters = text.chars().count();
    if letters <= LONGEST_LINE {
        return escaped(text);
    }

    let begin: String = text.chars().take(LONGEST_LINE - KEPT_END).collect();
    let end: String = text.chars().skip(letters - KEPT_END).collect();
    let left_out = letters - LONGEST_LINE;

    format!("{} [{left_out} letters left out] {}", escaped(&begin), escaped(&end)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_is_shown() {
        let all: String = (0..0x2_100).filter_map(char::from_u32).collect();
        let shown = escaped(&all);
        let left: Vec<char> = shown.chars().filter(|letter| letter.is_control()).collect();

        assert_eq!(left, ['\t', '\n']);
        assert!(!shown.contains('\u{202e}'));
        assert_eq!(escaped("\u{1b}[2J\u{7}\r\u{9b}"), "\\u001b[2J\\u0007\\u000d\\u009b");

        for plain in ["déjà\tvu\n", "two\r\nlines", ""] {
            assert_eq!(escaped(plain), plain);
        }
    }

    #[test]
    fn law_a_line_of_json_stays_the_same_value() {
        let text: String =
            (0..0x100).filter_map(char::from_u32).chain("\u{202e}".chars()).collect();
        let json = serde_json::json!({ "text": text }).to_string();
        let read: serde_json::Value = serde_json::from_str(&escaped(&json)).unwrap();
        assert_eq!(read["text"], text);
    }

    #[test]
    fn long_messages_keep_their_beginning_and_their_end() {
        let key = "k".repeat(1_000_000);
        let shown = message(&format!("unknown key `{key}`; the nearest is `seed`\nadvice"));
        assert!(shown.len() < 2_100, "{}", shown.len());
        assert!(shown.starts_with("unknown key `kkk") && shown.contains("letters left out"));
        assert!(shown.ends_with("; the nearest is `seed`\nadvice"));

        let many = message(&"line\n".repeat(1_000));
        assert!(many.ends_with("... and 800 more lines") && many.lines().count() == 201);
        assert_eq!(value("a\nb\u{1b}"), "a\\nb\\u001b");
    }
}
