//! Objects of JSON, one in each line or in an array. The text is one of their members, or a member
//! of a member.

mod array;
mod member;

use super::{
    DataFile, Flow, JsonLayout, LONGEST_ROW, Sink, TakeObject,
    bad_rows::{RowText, hand_on},
    column::{Depth, Sample, TextColumn, Value},
};
use crate::error::DataError;
pub(super) use array::ArrayError;
use array::Elements;
use member::{Found, member};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read};

/// Hands the texts of a column to `sink`, row by row.
pub(super) fn read(
    file: &DataFile,
    layout: JsonLayout,
    column: &str,
    sink: Sink<'_>,
) -> Result<Flow, DataError> {
    each(file, layout, &mut |number, row| {
        // Rows with Python's numbers are rare, so a row is only rewritten if it cannot be read.
        if let Ok(found) = member(row, column) {
            return hand_on(file, number, text_of(&found, column), sink);
        }

        without_numbers_of_python(row);
        match member(row, column) {
            Ok(found) => hand_on(file, number, text_of(&found, column), sink),
            Err(error) => hand_on(file, number, Err(described(&error)), sink),
        }
    })
}

fn text_of<'a>(found: &'a Found<'_>, column: &str) -> RowText<'a> {
    match found {
        Found::Text(text) => Ok(Some(text)),
        Found::Nothing => Ok(None),
        Found::Other(kind) => Err(format!("expected text in {column:?}, got {kind}")),
    }
}

/// The column of the text, found in the first rows.
pub(super) fn column(
    file: &DataFile,
    layout: JsonLayout,
    wanted: Option<&str>,
) -> Result<TextColumn, DataError> {
    let mut sample = Sample::default();
    let mut unread: Option<(u64, String)> = None;
    let mut note_unread = |row, reason| {
        unread.get_or_insert((row, reason));
    };

    each(file, layout, &mut |number, row| {
        without_numbers_of_python(row);
        match serde_json::from_slice::<Json>(row) {
            Ok(Json::Object(members)) => note(&mut sample, "", &Json::Object(members)),
            Ok(other) => note_unread(number, format!("expected an object, got {}", kind(&other))),
            Err(error) => note_unread(number, described(&error)),
        }

        Ok(if sample.count_row(row.len()) { Flow::On } else { Flow::Stop })
    })?;

    match (sample.choose(&file.path, wanted), unread) {
        // If no row could be read, that error is the useful one.
        (Err(_), Some((row, reason))) if sample.is_empty() => {
            Err(DataError::BadRow { path: file.path.clone(), row, reason })
        }
        (chosen, _) => chosen,
    }
}

/// Hands the bytes of each row to `take`, with its number from 1. Rows are lines or elements.
pub(super) fn each(
    file: &DataFile,
    layout: JsonLayout,
    take: TakeObject<'_>,
) -> Result<Flow, DataError> {
    let reader = BufReader::new(file.open()?);
    match layout {
        JsonLayout::Lines => each_line(file, reader, take),
        JsonLayout::Array => each_element(file, reader, take),
    }
}

fn each_line(
    file: &DataFile,
    mut reader: impl BufRead,
    take: TakeObject<'_>,
) -> Result<Flow, DataError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // One byte more than the limit, to notice a longer row.
        let mut limited = reader.by_ref().take(LONGEST_ROW + 1);
        let read = limited.read_until(b'\n', &mut line).map_err(|error| file.unreadable(error))?;

        if read == 0 {
            break;
        }
        if read as u64 > LONGEST_ROW {
            return Err(file.too_long(number));
        }

        if !line.iter().all(u8::is_ascii_whitespace) && take(number, &mut line)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }

    Ok(Flow::On)
}

fn each_element(
    file: &DataFile,
    reader: impl BufRead,
    take: TakeObject<'_>,
) -> Result<Flow, DataError> {
    let mut elements = Elements::new(reader);
    let mut element = Vec::new();
    for number in 1.. {
        match elements.next(&mut element).map_err(|error| file.of_array(number, error))? {
            None => break,
            Some(()) if take(number, &mut element)? == Flow::Stop => return Ok(Flow::Stop),
            Some(()) => {}
        }
    }

    Ok(Flow::On)
}

/// Notes the members of an object, and of the objects in it.
fn note(sample: &mut Sample, before: &str, object: &Json) {
    for (name, value) in object.as_object().into_iter().flatten() {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        let depth = if before.is_empty() { Depth::Row } else { Depth::Member };
        let value = match value {
            Json::Object(_) => {
                note(sample, &path, value);
                continue;
            }
            Json::Null => Value::Missing,
            Json::Bool(_) => Value::Truth,
            Json::Number(_) => Value::Number,
            Json::String(text) => Value::Text(text),
            Json::Array(_) => Value::List,
        };

        sample.note(&path, depth, value);
    }
}

/// Replaces numbers that Python writes but JSON does not have (`NaN`, `Infinity`) by 0, outside of
/// texts. Returns whether there were any.
fn without_numbers_of_python(row: &mut [u8]) -> bool {
    let mut at = 0;
    let mut in_text = false;
    let mut is_changed = false;

    while at < row.len() {
        match row[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                let found = [&b"NaN"[..], b"Infinity", b"-Infinity"]
                    .into_iter()
                    .find(|number| row[at..].starts_with(number));
                if let Some(number) = found {
                    row[at..at + number.len()].fill(b' ');
                    row[at] = b'0';
                    at += number.len() - 1;
                    is_changed = true;
                }
            }
            _ => {}
        }

        at += 1;
    }

    is_changed
}

/// An error of a row in the words of a user.
fn described(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if message.contains("surrogate") || message.contains("end of hex escape") {
        return format!("it has a lone surrogate, half of a character as \"\\ud83d\" ({message})");
    }
    format!("expected an object of JSON: {message}")
}

/// The kind of a value, in words.
pub(crate) fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
