//! What can be wrong with a spec.

use std::fmt;

use crate::exit::ExitCode;
use crate::overlay::Origin;

/// Why a spec was refused. Every message names the key or the text, and its origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text is not TOML.
    #[error("{origin}, line {line}, column {column}: not valid TOML: {message}")]
    Syntax {
        /// Origin of the text.
        origin: Origin,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
        /// What the reader expected.
        message: String,
    },
    /// A file of another layout.
    #[error("{origin}: schema {got}, but this program reads schema {expected}")]
    UnknownSchema {
        /// Origin of the file.
        origin: Origin,
        /// The layout of the file.
        got: i64,
        /// The layout that this program reads.
        expected: u32,
    },
    /// `--set` without an equals sign or without a key.
    #[error("{origin}: expected key=value, for example tying.decide_every=15")]
    Assignment {
        /// The assignment as it was typed.
        origin: Origin,
    },
    /// A key that no spec has.
    #[error("{origin}: unknown key `{key}`; {likeness} `{nearest}`")]
    UnknownKey {
        /// Origin of the key.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The existing key that was most likely meant.
        nearest: String,
        /// Why this one.
        likeness: Likeness,
    },
    /// A value of the wrong type, or a word that the key does not accept.
    #[error("{origin}: `{key}` must be {expected}; got {got}{}", Hint(nearest))]
    WrongValue {
        /// Origin of the value.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The values that the key accepts.
        expected: String,
        /// The value that was found, with its type.
        got: String,
        /// The most similar word that the key accepts, if a word was expected and given.
        nearest: Option<Box<str>>,
    },
    /// A value that another one makes meaningless.
    #[error("{origin}: `{key}` has no effect {because}")]
    NoEffect {
        /// Origin of the value.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// Which value overrides it, and what to do.
        because: String,
    },
    /// Values outside their range, or values that do not fit together: all of them at once.
    #[error("{}", Listed(violations))]
    Invalid {
        /// The violations, in the order of the file; at least one.
        violations: Vec<Violation>,
    },
    /// A preset that does not exist.
    #[error(
        "unknown {kind} `{name}`; the nearest is `{nearest}`, and there are {}",
        known.join(", ")
    )]
    UnknownPreset {
        /// `preset` or `method`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// The most similar name that exists.
        nearest: String,
        /// All names of this kind.
        known: Vec<String>,
    },
}

/// Why a key is suggested in place of an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Other programs use the unknown name for it.
    Meaning,
    /// Its spelling is the most similar one.
    Spelling,
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meaning => "here this is called",
            Self::Spelling => "the nearest is",
        })
    }
}

impl SpecError {
    /// The exit code of a process that ends with this error: `usage` for a wrong assignment or
    /// preset name on the command line, otherwise `bad spec`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Assignment { .. } | Self::UnknownPreset { .. } => ExitCode::Usage,
            _ => ExitCode::BadSpec,
        }
    }
}

/// One value that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key, with its section.
    pub key: &'static str,
    /// The value, as TOML.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}: must be {}", self.key, self.value, self.rule)
    }
}

/// All violations: a single one as it is, several as a list.
struct Listed<'a>(&'a [Violation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0 {
            return write!(f, "{only}");
        }
        write!(f, "{} values of the spec cannot be used:", self.0.len())?;
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// `; the nearest is ...`, or nothing.
struct Hint<'a>(&'a Option<Box<str>>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |word| write!(f, "; the nearest is \"{word}\""))
    }
}

/// The name that is most similar to `name`. `candidates` must not be empty.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    candidates
        .into_iter()
        .map(|candidate| (similarity(name, candidate), candidate))
        // The first of equals, so that the answer does not depend on the direction of the search.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map_or_else(String::new, |(_, candidate)| candidate.to_owned())
}

/// Similarity of two names, from 0 to 1. The last parts are compared too, so that a name without
/// its section finds a key.
fn similarity(name: &str, candidate: &str) -> f64 {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::normalized_damerau_levenshtein(name, candidate);
    // The right name in the wrong section beats a wrong name in the right one, but not an exact
    // match.
    whole.max(0.95 * strsim::normalized_damerau_levenshtein(&last(name), &last(candidate)))
}
