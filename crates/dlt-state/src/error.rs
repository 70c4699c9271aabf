//! Reasons why a value is invalid.

use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt::{self, Display, Formatter};

/// The reason why a value cannot become an action, a state, a transition, a binding or a recording.
///
/// ```
/// use dlt_state::{Action, StateError};
///
/// let error = Action::new(vec![0, 1, 5]).unwrap_err();
/// assert_eq!(error, StateError::EntryTooLarge { index: 2, value: 5, bound: 2 });
/// assert_eq!(error.to_string(), "entry 2 is 5: expected at most 2");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// There is no layer.
    Empty,
    /// A layer names a later one.
    EntryTooLarge {
        /// The entry, that is, the layer.
        index: usize,
        /// Its value.
        value: usize,
        /// The largest value that it may have: its index.
        bound: usize,
    },
    /// A layer is named as an owner, but is itself owned by another one.
    NotFixedPoint {
        /// The layer whose entry is wrong.
        index: usize,
        /// The owner that it names.
        value: usize,
        /// The owner of that layer.
        owner: usize,
    },
    /// Two values that belong together have different numbers of layers.
    DepthMismatch {
        /// Number of layers that was expected.
        expected: usize,
        /// Number of layers that was found.
        got: usize,
    },
    /// The header of a recording has more layers than the reader accepts.
    TooDeep {
        /// Number of layers in the header.
        n_layers: usize,
        /// The most layers that the reader accepts.
        limit: usize,
    },
    /// There is no such layer.
    LayerOutOfRange {
        /// The layer that was named.
        layer: usize,
        /// The number of layers.
        n_layers: usize,
    },
    /// A permutation names a layer twice, or one that does not exist.
    NotPermutation {
        /// The entry.
        index: usize,
        /// Its value.
        value: usize,
        /// The number of layers.
        n_layers: usize,
    },
    /// Layers cannot be divided into this many groups.
    GroupCount {
        /// Number of groups that was requested.
        groups: usize,
        /// The number of layers.
        n_layers: usize,
    },
    /// A group is named by a layer that does not own it.
    NotAnOwner {
        /// The layer that was named.
        layer: usize,
        /// Its owner.
        owner: usize,
    },
    /// A part of a group names a layer of another group.
    NotAMember {
        /// The layer that was named.
        layer: usize,
        /// The owner of the group that is to be split.
        owner: usize,
    },
    /// The layers of a part are not in rising order, or one appears twice.
    NotRising {
        /// The layer before.
        previous: usize,
        /// The next layer, which is not above it.
        layer: usize,
    },
    /// A part of a group has no layer.
    EmptyPart {
        /// The owner of the group that is to be split.
        owner: usize,
    },
    /// A part of a group is the whole of it.
    WholeGroup {
        /// The owner of the group that is to be split.
        owner: usize,
    },
    /// A group is to be merged with itself.
    SameGroup {
        /// Its owner.
        owner: usize,
    },
    /// A row of values has another length than the choices at this depth.
    ValueCount {
        /// Number of values that was expected.
        expected: usize,
        /// Number of values that was found.
        got: usize,
    },
    /// A binding names a layer as the lowest that uses a storage, but it is not.
    CannotShare {
        /// The layer that shares.
        layer: usize,
        /// The layer that it names.
        with: usize,
    },
    /// A binding names a storage that does not exist.
    StorageOutOfRange {
        /// The number of the storage.
        id: usize,
        /// Number of the next new storage, above all that exist.
        next: usize,
    },
    /// A layer is frozen, but trains by itself or uses a storage that is not an initial one.
    CannotFreeze {
        /// The layer.
        layer: usize,
    },
    /// A decision is recorded at an earlier step than the one before it.
    StepDecreased {
        /// Step of the decision before.
        previous: usize,
        /// Step of this one.
        step: usize,
    },
    /// A recorded state is not the one that Eq. 1 gives for the recorded action.
    StateMismatch {
        /// The first layer that differs.
        layer: usize,
        /// Its owner by Eq. 1.
        expected: usize,
        /// Its recorded owner.
        got: usize,
    },
    /// A refused decision is recorded, but the header says that there are none.
    NotGated,
    /// The line of a refused decision does not have the action that stays in force.
    RefusedChanges {
        /// The first layer that differs.
        layer: usize,
        /// Its entry in the action in force.
        expected: usize,
        /// Its entry in the line.
        got: usize,
    },
    /// Something is wrong in one line of a recording's text.
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// The reason why it is invalid.
        error: Box<StateError>,
    },
    /// A line is longer than the line of any decision can be.
    LongLine {
        /// Bytes of the line.
        bytes: usize,
        /// The most bytes that a line may have.
        limit: usize,
    },
    /// A line is not what the text form allows.
    Syntax {
        /// Number of the character in the line, from 1.
        column: usize,
        /// What was expected there.
        expected: &'static str,
        /// The character there; `None` at the end of the line.
        got: Option<char>,
    },
    /// A line has a key that the text form does not know.
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A line has a key twice.
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// A line lacks a key.
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The header names another format.
    UnknownFormat {
        /// The format that it names.
        got: String,
        /// The format that the reader accepts.
        expected: &'static str,
    },
    /// The header names another version of the format.
    UnknownVersion {
        /// The version that it names.
        got: usize,
        /// The newest version that the reader accepts. It accepts all from 1 to this one.
        newest: usize,
    },
}

impl StateError {
    pub(crate) fn at_line(self, line: usize) -> Self {
        Self::Line { line, error: Box::new(self) }
    }
}

impl Display for StateError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "expected at least one layer, got none"),
            Self::EntryTooLarge { index, value, bound } => {
                write!(f, "entry {index} is {value}: expected at most {bound}")
            }
            Self::NotFixedPoint { index, value, owner } => {
                write!(
                    f,
                    "entry {index} is {value}: expected an owner, \
                     but layer {value} is owned by layer {owner}"
                )
            }
            Self::DepthMismatch { expected, got } => {
                write!(f, "expected {expected} layers, got {got}")
            }
            Self::TooDeep { n_layers, limit } => {
                write!(f, "expected at most {limit} layers, got {n_layers}")
            }
            Self::LayerOutOfRange { layer, n_layers } => {
                write!(f, "expected one of the {n_layers} layers, got layer {layer}")
            }
            Self::NotPermutation { index, value, n_layers } => {
                write!(
                    f,
                    "entry {index} of the permutation is {value}: \
                     expected each of 0..{n_layers} once"
                )
            }
            Self::GroupCount { groups, n_layers } => {
                write!(f, "expected 1 to {n_layers} groups, got {groups}")
            }
            Self::ValueCount { expected, got } => {
                write!(f, "expected {expected} values, one for each choice, got {got}")
            }
            Self::CannotShare { layer, with } => {
                write!(f, "layer {layer} cannot share with layer {with}")
            }
            Self::StorageOutOfRange { id, next } => {
                write!(f, "expected storages below {next}, got storage {id}")
            }
            Self::CannotFreeze { layer } => {
                write!(f, "layer {layer} cannot be frozen: it trains or has no initial weights")
            }
            Self::StepDecreased { previous, step } => {
                write!(f, "expected a step of at least {previous}, got {step}")
            }
            Self::StateMismatch { layer, expected, got } => {
                write!(
                    f,
                    "owner of layer {layer} is {got}: expected {expected} by Eq. 1 of the action"
                )
            }
            Self::Line { line, error } => write!(f, "line {line}: {error}"),
            Self::LongLine { bytes, limit } => {
                write!(f, "expected a line of at most {limit} bytes, got {bytes}")
            }
            Self::Syntax { column, expected, got: Some(got) } => {
                write!(f, "column {column}: expected {expected}, got {got:?}")
            }
            Self::Syntax { column, expected, got: None } => {
                write!(f, "column {column}: expected {expected}, got the end of the line")
            }
            Self::UnknownKey { key } => write!(f, "unknown key {key:?}"),
            Self::DuplicateKey { key } => write!(f, "key {key:?} appears twice"),
            Self::MissingKey { key } => write!(f, "key {key:?} is missing"),
            Self::UnknownFormat { got, expected } => {
                write!(f, "expected format {expected:?}, got {got:?}")
            }
            Self::UnknownVersion { got, newest } => {
                write!(f, "expected a version from 1 to {newest}, got {got}")
            }
            Self::NotAnOwner { layer, owner } => {
                write!(
                    f,
                    "expected the owner of a group, got layer {layer}, which layer {owner} owns"
                )
            }
            Self::NotAMember { layer, owner } => {
                write!(f, "expected layers of the group of layer {owner}, got layer {layer}")
            }
            Self::NotRising { previous, layer } => {
                write!(f, "expected layers in rising order, got {layer} after {previous}")
            }
            Self::EmptyPart { owner } => {
                write!(f, "expected at least one layer of the group of layer {owner}, got none")
            }
            Self::WholeGroup { owner } => {
                write!(f, "expected a part of the group of layer {owner}, got all of it")
            }
            Self::SameGroup { owner } => {
                write!(f, "expected two groups to merge, got the group of layer {owner} twice")
            }
            Self::NotGated => {
                write!(
                    f,
                    "expected a recording of version 2 for a refused decision, got one of version 1"
                )
            }
            Self::RefusedChanges { layer, expected, got } => {
                write!(
                    f,
                    "entry {layer} next to a refused action is {got}: \
                     expected {expected}, as before it"
                )
            }
        }
    }
}

// No `source`: the message of `Line` already contains that of the error inside.
impl Error for StateError {}
