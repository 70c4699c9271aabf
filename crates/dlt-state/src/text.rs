//! Actions, states and events as text for people. The text form of files is that of
//! [`Recording`](crate::Recording).

use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};
use core::str::FromStr;

use crate::{Action, Event, State, StateError, Transition};

/// The entries as a list, which JSON and TOML read too.
///
/// ```
/// use dlt_state::Action;
///
/// let action = Action::new(vec![0, 1, 0])?;
/// assert_eq!(action.to_string(), "[0, 1, 0]");
/// assert_eq!(action.to_string().parse(), Ok(action));
/// # Ok::<(), dlt_state::StateError>(())
/// ```
impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_list(f, self.values())
    }
}

/// The owners as a list, which JSON and TOML read too.
///
/// ```
/// assert_eq!(dlt_state::State::all_tied(3).to_string(), "[0, 0, 0]");
/// ```
impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_list(f, self.owners())
    }
}

/// The layer, its former and its new owner, and what that is.
///
/// ```
/// use dlt_state::Event;
///
/// assert_eq!(Event::Tied { layer: 2, from: 2, to: 0 }.to_string(), "layer 2: 2 -> 0 (tied)");
/// assert_eq!(Event::Untied { layer: 3, from: 1 }.to_string(), "layer 3: 1 -> 3 (untied)");
/// ```
impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Tied { .. } => "tied",
            Self::Untied { .. } => "untied",
        };

        let (layer, from, to) = (self.layer(), self.former_owner(), self.new_owner());
        write!(f, "layer {layer}: {from} -> {to} ({kind})")
    }
}

/// The events, or `no change`.
///
/// ```
/// use dlt_state::State;
///
/// let transition = State::all_tied(3).transition_to(&State::independent(3))?;
/// assert_eq!(transition.to_string(), "layer 1: 0 -> 1 (untied), layer 2: 0 -> 2 (untied)");
/// # Ok::<(), dlt_state::StateError>(())
/// ```
impl Display for Transition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "no change");
        }

        for (place, event) in self.events().iter().enumerate() {
            write!(f, "{}{event}", if place == 0 { "" } else { ", " })?;
        }

        Ok(())
    }
}

/// Reads the entries in any common way of writing a list: separated by commas, semicolons or
/// space, with or without brackets.
///
/// # Errors
///
/// [`StateError::Syntax`] for other text, and those of [`Action::new`].
///
/// ```
/// use dlt_state::{Action, StateError};
///
/// let action = Action::new(vec![0, 1, 0])?;
/// for text in ["[0, 1, 0]", "0,1,0", "0 1 0", "(0; 1; 0)", " [0,1,0,]\n"] {
///     assert_eq!(text.parse(), Ok(action.clone()));
/// }
/// assert_eq!("0,1,x".parse::<Action>().unwrap_err().to_string(),
///     "column 5: expected the number of a layer, got 'x'");
/// # Ok::<(), StateError>(())
/// ```
impl FromStr for Action {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::new(read_list(text)?)
    }
}

/// Reads the owners, written as for [`Action`].
///
/// # Errors
///
/// [`StateError::Syntax`] for other text, and those of [`State::new`].
///
/// ```
/// use dlt_state::State;
///
/// assert_eq!("0 0 2 2".parse(), State::new(vec![0, 0, 2, 2]));
/// assert!("0 0 1 2".parse::<State>().is_err());
/// ```
impl FromStr for State {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::new(read_list(text)?)
    }
}

fn write_list(f: &mut Formatter<'_>, values: &[usize]) -> fmt::Result {
    write!(f, "[")?;
    for (place, value) in values.iter().enumerate() {
        write!(f, "{}{value}", if place == 0 { "" } else { ", " })?;
    }
    write!(f, "]")
}

/// The numbers of a list, and the bracket that is to close it.
fn read_list(text: &str) -> Result<Vec<usize>, StateError> {
    let mut rest = text.chars().enumerate().peekable();
    let mut closing = None;
    let mut numbers = Vec::new();
    let mut can_separate = false;

    let wrong = |expected, found: Option<(usize, char)>| StateError::Syntax {
        column: found.map_or_else(|| text.chars().count(), |(column, _)| column) + 1,
        expected,
        got: found.map(|(_, got)| got),
    };

    while let Some(&(column, character)) = rest.peek() {
        match character {
            _ if character.is_whitespace() => {}
            '[' | '(' | '{' if closing.is_none() && numbers.is_empty() => {
                closing = Some(match character {
                    '[' => ']',
                    '(' => ')',
                    _ => '}',
                });
            }
            // One separator between two numbers and one after the last, so that a number that was
            // left out is not read as a shorter list.
            ',' | ';' if can_separate => can_separate = false,
            '0'..='9' => {
                let mut number = 0_usize;
                while let Some(digit) = rest.peek().and_then(|(_, digit)| digit.to_digit(10)) {
                    let longer = number.checked_mul(10);
                    number = longer
                        .and_then(|longer| longer.checked_add(digit as usize))
                        .ok_or_else(|| wrong("a smaller number", Some((column, character))))?;
                    rest.next();
                }

                numbers.push(number);
                can_separate = true;
                continue;
            }
            _ if Some(character) == closing => {
                rest.next();
                let after = rest.find(|(_, character)| !character.is_whitespace());
                return match after {
                    None => Ok(numbers),
                    after => Err(wrong("the end of the list", after)),
                };
            }
            _ => return Err(wrong("the number of a layer", Some((column, character)))),
        }

        rest.next();
    }

    if closing.is_some() { Err(wrong("a closing bracket", None)) } else { Ok(numbers) }
}
