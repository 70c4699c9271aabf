//! An object of JSON a line; the text is one of its members.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader};

pub(super) fn read(file: &DataFile, column: Option<&str>, sink: Sink<'_>) -> Result<Flow, DataError> {
    let mut reader = BufReader::new(file.open()?);
    let mut line = Vec::new();
    let (mut number, mut name) = (0, None::<String>);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|error| file.unreadable(error))? == 0 {
            return Ok(Flow::On);
        }
        number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let bad = |reason: String| DataError::BadRow { path: file.path.clone(), row: number, reason };
        let row: Map<String, Value> = serde_json::from_slice(&line)
            .map_err(|error| bad(format!("expected an object of JSON on one line: {error}")))?;
        let name = match &name {
            Some(name) => name,
            None => {
                let known: Vec<String> =
                    row.iter().filter(|(_, value)| value.is_string()).map(|(name, _)| name.clone()).collect();
                let index = file.choose_column(&known, column)?;
                name.insert(known[index].clone())
            }
        };
        let text = match row.get(name) {
            Some(Value::String(text)) => text.as_str(),
            Some(other) => return Err(bad(format!("expected text in {name:?}, came {}", kind(other)))),
            None => return Err(bad(format!("expected the member {name:?}, which it lacks"))),
        };
        if sink(Piece { text, kind: PieceKind::Ends })? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
