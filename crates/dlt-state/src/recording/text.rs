//! The lines of a recording's text form: a small part of JSON.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Recording, Row};
use crate::{Action, State, StateError};

/// No transformer is nearly as deep. Without a limit, a single wrong number in a header could
/// exhaust the memory.
const MAX_LAYERS: usize = 1 << 16;

/// Refuses a line that is longer than the line of any decision can be, before its numbers are
/// collected. The longest line of version 1 has two lists of [`MAX_LAYERS`] numbers with five
/// digits and a comma each, that of version 2 has three. 256 bytes are for the keys and the step.
fn check_length(line: &str, version: usize) -> Result<(), StateError> {
    let limit = (version + 1) * 6 * MAX_LAYERS + 256;
    if line.len() > limit {
        return Err(StateError::LongLine { bytes: line.len(), limit });
    }

    Ok(())
}

pub(super) fn header_line(version: usize, initial: &State) -> String {
    let format = Recording::FORMAT;
    let n_layers = initial.n_layers();
    let initial = if initial.n_independent() == 1 {
        String::new()
    } else {
        format!(r#","initial":{}"#, array(initial.owners()))
    };

    format!(r#"{{"format":"{format}","version":{version},"n_layers":{n_layers}{initial}}}"#)
}

pub(super) fn row_line(row: &Row) -> String {
    let step = row.step();
    let layer = row.layer().map(|layer| format!(r#""layer":{layer},"#)).unwrap_or_default();
    let action = array(row.action().values());
    let state = array(row.state().owners());
    let refused = row.refused().map(|asked| format!(r#","refused":{}"#, array(asked.values())));
    let refused = refused.unwrap_or_default();

    format!(r#"{{"step":{step},{layer}"action":{action},"state":{state}{refused}}}"#)
}

fn array(values: &[usize]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", values.join(","))
}

/// The version and the initial state of a header.
pub(super) fn parse_header(line: &str) -> Result<(usize, State), StateError> {
    // The version is not known yet, but even the longest header has only one list.
    check_length(line, Recording::VERSION)?;
    let mut format = None;
    let mut version = None;
    let mut n_layers = None;
    let mut initial = None;

    Cursor::new(line).object(|cursor, key| match key {
        "format" => set(&mut format, "format", cursor.string("a string")?),
        "version" => set(&mut version, "version", cursor.number()?),
        "n_layers" => set(&mut n_layers, "n_layers", cursor.number()?),
        "initial" => set(&mut initial, "initial", cursor.numbers()?),
        _ => Err(StateError::UnknownKey { key: key.to_string() }),
    })?;

    let format = require(format, "format")?;
    if format != Recording::FORMAT {
        return Err(StateError::UnknownFormat {
            got: format.to_string(),
            expected: Recording::FORMAT,
        });
    }

    let version = require(version, "version")?;
    if !(Recording::VERSION..=Recording::GATED_VERSION).contains(&version) {
        return Err(StateError::UnknownVersion { got: version, newest: Recording::GATED_VERSION });
    }

    Ok((version, initial_state(require(n_layers, "n_layers")?, initial)?))
}

fn initial_state(n_layers: usize, owners: Option<Vec<usize>>) -> Result<State, StateError> {
    if n_layers == 0 {
        return Err(StateError::Empty);
    }
    if n_layers > MAX_LAYERS {
        return Err(StateError::TooDeep { n_layers, limit: MAX_LAYERS });
    }

    let Some(owners) = owners else { return Ok(State::all_tied(n_layers)) };
    if owners.len() != n_layers {
        return Err(StateError::DepthMismatch { expected: n_layers, got: owners.len() });
    }

    State::new(owners)
}

/// The content of a decision's line. Its owners are not yet compared with its action.
pub(super) struct ReadRow {
    pub(super) step: usize,
    pub(super) layer: Option<usize>,
    pub(super) action: Action,
    pub(super) owners: Vec<usize>,
    pub(super) refused: Option<Action>,
}

pub(super) fn parse_row(line: &str, version: usize) -> Result<ReadRow, StateError> {
    check_length(line, version)?;
    let mut step = None;
    let mut layer = None;
    let mut action = None;
    let mut owners = None;
    let mut refused = None;

    Cursor::new(line).object(|cursor, key| match key {
        "step" => set(&mut step, "step", cursor.number()?),
        "layer" => set(&mut layer, "layer", cursor.number()?),
        "action" => set(&mut action, "action", cursor.numbers()?),
        "state" => set(&mut owners, "state", cursor.numbers()?),
        "refused" => set(&mut refused, "refused", cursor.numbers()?),
        _ => Err(StateError::UnknownKey { key: key.to_string() }),
    })?;

    Ok(ReadRow {
        step: require(step, "step")?,
        layer,
        action: Action::new(require(action, "action")?)?,
        owners: require(owners, "state")?,
        refused: refused.map(Action::new).transpose()?,
    })
}

fn set<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), StateError> {
    match slot.replace(value) {
        Some(_) => Err(StateError::DuplicateKey { key }),
        None => Ok(()),
    }
}

fn require<T>(slot: Option<T>, key: &'static str) -> Result<T, StateError> {
    slot.ok_or(StateError::MissingKey { key })
}

/// A place in a line. Every method first skips blanks.
struct Cursor<'a> {
    line: &'a str,
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn new(line: &'a str) -> Self {
        Self { line, offset: 0 }
    }

    /// Reads a whole line as one object; `field` reads the value of each key.
    fn object(
        mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.expect('{', "`{`")?;
        loop {
            let key = self.string("a key")?;
            self.expect(':', "`:`")?;
            field(&mut self, key)?;

            if !self.continues('}', "`,` or `}`")? {
                break;
            }
        }

        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("the end of the line")),
        }
    }

    /// An array of whole numbers.
    fn numbers(&mut self) -> Result<Vec<usize>, StateError> {
        self.expect('[', "`[`")?;
        let mut numbers = Vec::new();

        if self.peek() == Some(']') {
            self.offset += 1;
            return Ok(numbers);
        }

        loop {
            numbers.push(self.number()?);
            if !self.continues(']', "`,` or `]`")? {
                return Ok(numbers);
            }
        }
    }

    fn number(&mut self) -> Result<usize, StateError> {
        const EXPECTED: &str = "a whole number";
        self.skip_blanks();

        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];

        // JSON has no leading zeros.
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(self.error("a whole number without leading zeros"));
        }

        let number = match digits.parse() {
            Ok(number) => number,
            Err(_) if digits.is_empty() => return Err(self.error(EXPECTED)),
            Err(_) => return Err(self.error("a number that fits the machine's words")),
        };

        self.offset += digits.len();
        Ok(number)
    }

    fn string(&mut self, expected: &'static str) -> Result<&'a str, StateError> {
        self.expect('"', expected)?;
        let rest = self.rest();
        let length =
            rest.find(|c: char| c == '"' || c == '\\' || c.is_control()).unwrap_or(rest.len());

        self.offset += length;
        if !self.rest().starts_with('"') {
            return Err(self.error("`\"` or a character without an escape"));
        }

        self.offset += 1;
        Ok(&rest[..length])
    }

    /// Skips a comma or the `end` of a list. Returns whether more follows.
    fn continues(&mut self, end: char, expected: &'static str) -> Result<bool, StateError> {
        match self.peek() {
            Some(',') => {
                self.offset += 1;
                Ok(true)
            }
            _ => self.expect(end, expected).map(|()| false),
        }
    }

    fn expect(&mut self, token: char, expected: &'static str) -> Result<(), StateError> {
        if self.peek() != Some(token) {
            return Err(self.error(expected));
        }
        self.offset += token.len_utf8();
        Ok(())
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_blanks();
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    }

    fn rest(&self) -> &'a str {
        &self.line[self.offset..]
    }

    /// The error that something other than `expected` is here.
    fn error(&self, expected: &'static str) -> StateError {
        let column = self.line[..self.offset].chars().count() + 1;
        StateError::Syntax { column, expected, got: self.rest().chars().next() }
    }
}
