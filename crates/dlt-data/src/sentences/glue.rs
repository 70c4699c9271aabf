//! GLUE's tasks in their original files. Columns are separated by tabs, and quotes mean nothing.
//!
//! | task | first line | columns that are read |
//! |---|---|---|
//! | SST-2 | `sentence`, `label` | both |
//! | CoLA | none | the second, the class, and the fourth, the sentence |
//! | RTE, WNLI | `index`, `sentence1`, `sentence2`, `label` | the last three |
//! | QNLI | `index`, `question`, `sentence`, `label` | the last three |
//! | MRPC | `Quality`, `#1 ID`, `#2 ID`, `#1 String`, `#2 String` | the first and the last two |
//!
//! Test files have no class, and CoLA's test file has a first line, `index` and `sentence`. Classes
//! that are words are numbered as on the hub: `entailment` 0, `not_entailment` 1.

use super::{Example, MOST_CLASSES};
use crate::{error::DataError, text::source::read_text};
use dlt_spec::file;
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// The columns of the parts of an example.
struct Header {
    first: usize,
    second: Option<usize>,
    label: Option<usize>,
    fields: usize,
}

/// Most bytes of a first line that are read.
const LONGEST_HEADER: u64 = 1 << 16;

/// Columns of CoLA's files, which have no line of names.
const COLA: Header = Header { first: 3, second: None, label: Some(1), fields: 4 };

/// The examples of one of GLUE's original files.
///
/// # Errors
/// If the file cannot be read, does not have the columns of any task, or a row has the wrong number
/// of fields or no valid class.
pub fn read_sentences(path: &Path) -> Result<Vec<Example>, DataError> {
    let text = read_text(path)?;
    let mut lines = text.trim_start_matches('\u{feff}').lines().zip(1_u64..).peekable();
    let header = match lines.peek().and_then(|(line, _)| named(line)) {
        Some(header) => {
            lines.next();
            header
        }
        None if lines.peek().is_some_and(|(line, _)| line.split('\t').count() == COLA.fields) => {
            COLA
        }
        None => {
            let reason =
                "expected a first line with the columns of a GLUE task, or CoLA's four columns";
            return Err(DataError::BadFile {
                path: path.to_owned(),
                format: "GLUE",
                reason: reason.to_owned(),
            });
        }
    };

    let rows = lines.filter(|(line, _)| !line.is_empty());

    rows.map(|(line, row)| {
        header.example(line).map_err(|reason| DataError::BadRow {
            path: path.to_owned(),
            row,
            reason,
        })
    })
    .collect()
}

/// Whether a file is one of GLUE's, by its first line.
pub(super) fn is_original(path: &Path) -> Result<bool, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut line = Vec::new();
    let file = file::regular(path, u64::MAX).map_err(unreadable)?;

    BufReader::new(file).take(LONGEST_HEADER).read_until(b'\n', &mut line).map_err(unreadable)?;
    let line = String::from_utf8_lossy(&line);
    let line = line.trim_start_matches('\u{feff}').trim_end();

    Ok(named(line).is_some() || line.split('\t').count() == COLA.fields)
}

/// The columns by a line of names; `None` if the line is no such line.
fn named(line: &str) -> Option<Header> {
    let names: Vec<&str> = line.split('\t').collect();
    let position = |wanted: &[&str]| names.iter().position(|name| wanted.contains(name));
    let (first, second) = match position(&["question"]) {
        Some(question) => (question, Some(position(&["sentence"])?)),
        None => match position(&["sentence1", "#1 String"]) {
            Some(first) => (first, Some(position(&["sentence2", "#2 String"])?)),
            None => (position(&["sentence"])?, None),
        },
    };

    Some(Header { first, second, label: position(&["label", "Quality"]), fields: names.len() })
}

impl Header {
    fn example(&self, line: &str) -> Result<Example, String> {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != self.fields {
            return Err(format!(
                "expected {} fields between tabs, got {}",
                self.fields,
                fields.len()
            ));
        }

        let label = self.label.map(|at| class(fields[at])).transpose()?;
        let second = self.second.map(|at| fields[at].to_owned());
        Ok(Example { first: fields[self.first].to_owned(), second, label })
    }
}

fn class(word: &str) -> Result<u32, String> {
    match word {
        "entailment" => Ok(0),
        "not_entailment" => Ok(1),
        number => {
            let class = number.parse().ok().filter(|&class| class < MOST_CLASSES);
            class.ok_or_else(|| format!("expected a class below {MOST_CLASSES}, got {number:?}"))
        }
    }
}
