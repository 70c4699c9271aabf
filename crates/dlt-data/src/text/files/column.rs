//! How to find the column of a table that is its text.
//!
//! A name decides: the requested one, or `text`, or the only one of the other usual names.
//! Otherwise the first rows decide, but only if they leave no doubt: exactly one column holds
//! sentences. Numbers, dates, addresses and identifiers are used as text only on request. A member
//! of an object within a row has to be named.

use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Most rows of a sample: enough to show the content of a column that is null at first.
pub(super) const SAMPLE_ROWS: u64 = 1_000;

/// Most bytes of a sample. It has at least one row.
pub(super) const SAMPLE_BYTES: u64 = 8 << 20;

/// Most columns that are distinguished. A row may hold an object with a member for each word of a
/// language.
const MOST_COLUMNS: usize = 4_096;

/// Most columns that a message shows.
const SHOWN: usize = 20;

/// Most characters of a value that a message shows.
const SHOWN_CHARACTERS: usize = 40;

/// The name of a column that is always the text.
pub(super) const TEXT: &str = "text";

/// Other names of the text, if a table has exactly one of them.
const USUAL: [&str; 2] = ["sentence", "content"];

/// Most characters of a word. A longer one is text: a protein, or a text without blanks.
const LONGEST_WORD: usize = 64;

/// The column of a table that a text is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextColumn {
    /// Its name, with dots where it is a member of an object.
    pub name: String,
    /// How it was chosen.
    pub chosen: ColumnChoice,
}

/// How the column of a text was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnChoice {
    /// It was requested.
    Named,
    /// By its usual name, or because it is the only one of text.
    Found,
}

impl ColumnChoice {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Found => "found",
        }
    }
}

/// The kind of a value of a row, with its text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Missing,
    Text(&'a str),
    Bytes,
    Number,
    Truth,
    List,
}

/// Where a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// In the row itself.
    Row,
    /// In an object within it.
    Member,
}

/// What kind of content a value has. The order is that of [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Prose,
    Word,
    Identifier,
    Address,
    Date,
    Number,
    Truth,
    List,
    Bytes,
}

/// The kinds in messages.
const KINDS: [&str; 9] = [
    "text",
    "words",
    "identifiers",
    "addresses",
    "dates",
    "numbers",
    "true or false",
    "lists",
    "bytes",
];

/// What the first rows show of a column.
#[derive(Debug)]
struct Seen {
    name: String,
    depth: Depth,
    /// Values of each kind.
    values: [u64; KINDS.len()],
    example: String,
}

/// What the first rows show of a table.
#[derive(Debug, Default)]
pub(super) struct Sample {
    columns: Vec<Seen>,
    pub(super) rows: u64,
    bytes: u64,
}

impl Sample {
    /// Whether no column was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Counts a row of `bytes` bytes. Returns whether the sample needs more rows.
    pub(super) fn count_row(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes as u64;
        self.rows < SAMPLE_ROWS && self.bytes < SAMPLE_BYTES
    }

    /// Notes a value of a column.
    pub(super) fn note(&mut self, name: &str, depth: Depth, value: Value<'_>) {
        let at = match self.columns.iter().position(|column| column.name == name) {
            Some(at) => at,
            None if self.columns.len() < MOST_COLUMNS => {
                let name = name.to_owned();
                let example = String::new();
                self.columns.push(Seen { name, depth, values: [0; KINDS.len()], example });
                self.columns.len() - 1
            }
            None => return,
        };

        let column = &mut self.columns[at];
        let Some(kind) = kind_of(value) else { return };
        column.values[kind as usize] += 1;

        if column.example.is_empty()
            && let Value::Text(text) = value
        {
            column.example = shortened(text);
        }
    }

    /// The column of the text: the requested one, or the one that is clearly meant.
    pub(super) fn choose(
        &self,
        path: &Path,
        wanted: Option<&str>,
    ) -> Result<TextColumn, DataError> {
        let unsure = |reason: String| {
            Err(DataError::NoTextColumn {
                path: path.to_owned(),
                reason,
                known: self.description(),
            })
        };

        if let Some(name) = wanted {
            let found = self.columns.iter().find(|column| column.name == name);
            return match found {
                Some(column) if column.is_readable() => {
                    Ok(TextColumn { name: name.to_owned(), chosen: ColumnChoice::Named })
                }
                Some(column) => {
                    unsure(format!("its column {name:?} has {}, not text", column.kind()))
                }
                None => unsure(format!("it has no column {name:?}")),
            };
        }

        let found = match self.meant() {
            Ok(Some(column)) => column,
            Ok(None) => return unsure("it has no column that is clearly its text".to_owned()),
            Err(several) => {
                let names: Vec<String> =
                    several.iter().map(|column| shortened(&column.name)).collect();
                return unsure(format!(
                    "more than one column may be its text ({})",
                    names.join(", ")
                ));
            }
        };

        Ok(TextColumn { name: found.name.clone(), chosen: ColumnChoice::Found })
    }

    /// The column that is clearly meant, if there is one. The error holds several columns that may
    /// be meant.
    fn meant(&self) -> Result<Option<&Seen>, Vec<&Seen>> {
        let rows: Vec<&Seen> =
            self.columns.iter().filter(|column| column.depth == Depth::Row).collect();
        let named = |name: &str| {
            rows.iter().copied().find(|column| column.name == name && column.has_text())
        };

        if let Some(text) = named(TEXT) {
            return Ok(Some(text));
        }

        let usual: Vec<&Seen> = USUAL.iter().filter_map(|name| named(name)).collect();
        match usual[..] {
            [] => {}
            [only] => return Ok(Some(only)),
            _ => return Err(usual),
        }

        let prose: Vec<&Seen> = rows
            .iter()
            .copied()
            .filter(|column| column.values[ValueKind::Prose as usize] > 0)
            .collect();

        match prose[..] {
            [only] => Ok(only.is_mostly_text().then_some(only)),
            // A list of words is the text if the table has no other column.
            [] => Ok(rows.first().copied().filter(|only| rows.len() == 1 && only.is_mostly_text())),
            _ => Err(prose),
        }
    }

    /// The columns, with what they hold and an example value of each.
    fn description(&self) -> String {
        if self.columns.is_empty() {
            return "none".to_owned();
        }

        let mut shown: Vec<String> =
            self.columns.iter().take(SHOWN).map(Seen::description).collect();
        if self.columns.len() > SHOWN {
            shown.push(format!("and {} more", self.columns.len() - SHOWN));
        }

        shown.join(", ")
    }
}

impl Seen {
    fn of(&self, kind: ValueKind) -> u64 {
        self.values[kind as usize]
    }

    fn has_text(&self) -> bool {
        self.of(ValueKind::Prose) + self.of(ValueKind::Word) + self.of(ValueKind::Identifier) > 0
    }

    fn is_mostly_text(&self) -> bool {
        let text = self.of(ValueKind::Prose) + self.of(ValueKind::Word);
        2 * text >= self.values.iter().sum()
    }

    /// Whether it can be read on request: it has values that are text, or no values so far.
    fn is_readable(&self) -> bool {
        let of_text = [
            ValueKind::Prose,
            ValueKind::Word,
            ValueKind::Identifier,
            ValueKind::Address,
            ValueKind::Date,
        ];
        let text: u64 = of_text.into_iter().map(|kind| self.of(kind)).sum();
        text > 0 || self.values.iter().sum::<u64>() == 0 || !self.example.is_empty()
    }

    /// What most of its values are.
    fn kind(&self) -> &'static str {
        let most = (0..KINDS.len()).max_by_key(|&kind| (self.values[kind], KINDS.len() - kind));
        match most {
            Some(kind) if self.values[kind] > 0 => KINDS[kind],
            _ => "nothing",
        }
    }

    fn description(&self) -> String {
        let name = shortened(&self.name);
        let kind = self.kind();
        if self.example.is_empty() {
            return format!("{name} ({kind})");
        }

        format!("{name} ({kind}, as \"{}\")", self.example)
    }
}

/// A name or a value as a message shows it: shortened, on one line, and with control characters
/// written out.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for letter in text.chars().take(SHOWN_CHARACTERS) {
        match letter {
            letter if letter.is_whitespace() => short.push(' '),
            letter if letter.is_control() => short += &format!("\\u{:04x}", u32::from(letter)),
            letter => short.push(letter),
        }
    }

    if text.chars().nth(SHOWN_CHARACTERS).is_some() {
        short.push('…');
    }

    short
}

fn kind_of(value: Value<'_>) -> Option<ValueKind> {
    Some(match value {
        Value::Missing => return None,
        Value::Bytes => ValueKind::Bytes,
        Value::Number => ValueKind::Number,
        Value::Truth => ValueKind::Truth,
        Value::List => ValueKind::List,
        Value::Text(text) => kind_of_text(text.trim())?,
    })
}

fn kind_of_text(text: &str) -> Option<ValueKind> {
    if text.is_empty() {
        return None;
    }
    if text.parse::<f64>().is_ok() {
        return Some(ValueKind::Number);
    }

    let has_blanks = text.contains(char::is_whitespace);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits >= 4
        && text.len() <= 40
        && text.bytes().all(|byte| b"0123456789-/:.,TZ+ ".contains(&byte))
    {
        return Some(ValueKind::Date);
    }

    if !has_blanks && (text.contains("://") || text.starts_with("www.")) {
        return Some(ValueKind::Address);
    }

    // Letters beyond ASCII may belong to a language that is written without blanks.
    if has_blanks || !text.is_ascii() {
        return Some(ValueKind::Prose);
    }
    if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
        return Some(ValueKind::Truth);
    }

    if digits > 0 || text.contains(['/', '\\', '_', '@']) {
        return Some(ValueKind::Identifier);
    }

    Some(if text.len() > LONGEST_WORD { ValueKind::Prose } else { ValueKind::Word })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns, each with its values.
    type Columns<'a> = &'a [(&'a str, &'a [&'a str])];

    fn sample(columns: Columns<'_>) -> Sample {
        let mut sample = Sample::default();
        for (name, values) in columns {
            values.iter().for_each(|value| sample.note(name, Depth::Row, Value::Text(value)));
        }
        sample
    }

    fn chosen(columns: Columns<'_>) -> Result<String, String> {
        let chosen = sample(columns).choose(Path::new("rows"), None);
        chosen.map(|column| column.name).map_err(|error| error.to_string())
    }

    #[test]
    fn control_characters_of_names_and_values_are_written_out() {
        let error = chosen(&[("\u{1b}[2Ja", &["one\ttwo \u{7}"]), ("b", &["three four"])]);
        let message = error.unwrap_err();
        assert!(message.contains(r"\u001b[2Ja (text, as "), "{message}");
        assert!(message.contains(r"one two \u0007"), "{message}");
    }

    #[test]
    fn the_text_is_known_by_its_name_or_by_being_the_only_one() {
        let prose: &[&str] = &["some words", "and more"];
        let cases: &[(Columns<'_>, &str)] = &[
            (&[("title", prose), ("text", prose)], "text"),
            (&[("title", prose), ("content", prose)], "content"),
            (&[("url", &["http://example.org/a"]), ("body", prose)], "body"),
            (&[("id", &["a-1", "b2"]), ("label", &["good", "bad"]), ("review", prose)], "review"),
            (&[("day", &["2024-01-31", "2024-02-01T10:00:00Z"]), ("entry", prose)], "entry"),
            (&[("word", &["apple", "pear"])], "word"),
            (&[("text", &["apple"]), ("body", prose)], "text"),
        ];

        for (columns, expected) in cases {
            assert_eq!(chosen(columns).as_deref(), Ok(*expected), "{columns:?}");
        }
    }

    #[test]
    fn rejects_a_guess_and_shows_what_there_is() {
        let prose: &[&str] = &["some words", "and more"];
        let cases: &[Columns<'_>] = &[
            &[("title", prose), ("body", prose)],
            &[("sentence", prose), ("content", prose)],
            &[("url", &["http://example.org/a", "www.example.org"])],
            &[("id", &["a1b2", "c3d4"])],
            &[("number", &["1", "2.5"])],
            &[("day", &["2024-01-31"])],
            &[("left", &["apple"]), ("right", &["pear"])],
            &[("text", &["1", "2"])],
            &[("mixed", &["a note here", "7", "8", "9"])],
            &[],
        ];

        for columns in cases {
            let error = chosen(columns).unwrap_err();
            for (name, values) in *columns {
                assert!(error.contains(name) && error.contains(values[0]), "{error}");
            }
            assert!(error.contains("PATH::COLUMN"), "{error}");
        }
    }

    #[test]
    fn rejects_a_member_of_a_member_that_was_not_asked_for() {
        let mut sample = Sample::default();
        sample.note("data.text", Depth::Member, Value::Text("some words"));

        let error = sample.choose(Path::new("rows"), None).unwrap_err().to_string();
        assert!(error.contains("data.text (text, as \"some words\")"), "{error}");

        let named = sample.choose(Path::new("rows"), Some("data.text")).unwrap();
        assert_eq!(named.chosen, ColumnChoice::Named);
    }

    #[test]
    fn a_column_that_is_asked_for_may_hold_anything_that_is_text() {
        let columns: Columns<'_> = &[("id", &["a1"]), ("number", &["1"])];
        for name in ["id", "number"] {
            assert!(sample(columns).choose(Path::new("rows"), Some(name)).is_ok());
        }

        let mut sample = sample(columns);
        sample.note("count", Depth::Row, Value::Number);

        let error = sample.choose(Path::new("rows"), Some("count")).unwrap_err().to_string();
        assert!(error.contains("\"count\" has numbers, not text"), "{error}");
    }
}
