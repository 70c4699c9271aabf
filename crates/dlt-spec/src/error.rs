//! What can be wrong with a spec.

use std::fmt;

use crate::exit::ExitCode;
use crate::overlay::Origin;

/// Why a spec was refused. Every message names the key and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text is not TOML.
    #[error("{origin}, line {line}, column {column}: not valid TOML: {message}")]
    Syntax {
        /// Where the text came from.
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
        /// Where the file came from.
        origin: Origin,
        /// The layout that it says it has.
        got: i64,
        /// The layout that is read.
        expected: u32,
    },
    /// `--set` without an equals sign or without a key.
    #[error("{origin}: expected key=value, for example tying.decide_every=15")]
    Assignment {
        /// The assignment as it was given.
        origin: Origin,
    },
    /// A key that no spec has.
    #[error("{origin}: unknown key `{key}`; {likeness} `{nearest}`")]
    UnknownKey {
        /// Where the key came from.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The key that exists and was meant, most likely.
        nearest: String,
        /// Why that one.
        likeness: Likeness,
    },
    /// A value of the wrong type, or a word that the key does not take.
    #[error("{origin}: `{key}` must be {expected}; got {got}{}", Hint(nearest))]
    WrongValue {
        /// Where the value came from.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The values that the key takes.
        expected: String,
        /// The value that was found, with its type.
        got: String,
        /// The most similar word that the key takes, where a word was expected and given.
        nearest: Option<Box<str>>,
    },
    /// A value that another one makes meaningless.
    #[error("{origin}: `{key}` has no effect {because}")]
    NoEffect {
        /// Where the value came from.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// Which value overrides it, and what to do.
        because: String,
    },
    /// Values outside their range, or that do not go together: all of them at once.
    #[error("{}", Listed(violations))]
    Invalid {
        /// What was violated, in the order of the file; at least one.
        violations: Vec<Violation>,
    },
    /// A preset that does not exist.
    #[error("unknown {kind} `{name}`; the nearest is `{nearest}`, and there are {}", known.join(", "))]
    UnknownPreset {
        /// `preset` or `method`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The most similar name that exists.
        nearest: String,
        /// All names of this kind.
        known: Vec<String>,
    },
}

/// Why a key is taken to be the one that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Other programs call it so.
    Meaning,
    /// It is written most like it.
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
    /// The exit code of a process that ends with this error: what was typed wrong is `usage`, all
    /// else `bad spec`.
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

/// All violations: one on a line by itself, several as a list.
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

/// `; the nearest is ...`, where there is one.
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
        // The first of equals, so that the answer does not hang on the direction of the search.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map_or_else(String::new, |(_, candidate)| candidate.to_owned())
}

/// A name without its section is compared with the names inside the sections too.
fn similarity(name: &str, candidate: &str) -> f64 {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::normalized_damerau_levenshtein(name, candidate);
    // The right name in the wrong section beats a wrong name in the right one, but not an exact
    // match.
    whole.max(0.95 * strsim::normalized_damerau_levenshtein(&last(name), &last(candidate)))
}
