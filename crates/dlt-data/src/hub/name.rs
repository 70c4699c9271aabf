//! Names of repositories, revisions and files that are safe in an address and in a path.

use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a name.
const LONGEST: usize = 200;

/// The kind of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepoKind {
    /// Data.
    Dataset,
    /// Weights and tokenizers.
    Model,
}

/// Name of a repository: `OWNER/NAME`, or `NAME` for the oldest repositories.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoName {
    kind: RepoKind,
    name: String,
}

impl RepoName {
    /// A data set's name.
    ///
    /// # Errors
    /// If it is not `OWNER/NAME` of letters, digits, `.`, `_` and `-`.
    pub fn dataset(name: &str) -> Result<Self, DataError> {
        Self::new(RepoKind::Dataset, name)
    }

    /// A model's name.
    ///
    /// # Errors
    /// As [`RepoName::dataset`].
    pub fn model(name: &str) -> Result<Self, DataError> {
        Self::new(RepoKind::Model, name)
    }

    /// A model and its revision, `OWNER/NAME[@REVISION]`.
    ///
    /// # Errors
    /// If one of the two is not valid.
    pub(crate) fn model_at(text: &str) -> Result<(Self, Revision), DataError> {
        match text.split_once('@') {
            Some((name, revision)) => Ok((Self::model(name)?, Revision::new(revision)?)),
            None => Ok((Self::model(text)?, Revision::default())),
        }
    }

    fn new(kind: RepoKind, name: &str) -> Result<Self, DataError> {
        let parts: Vec<&str> = name.split('/').collect();
        let is_fit =
            parts.len() <= 2 && parts.iter().all(|part| is_word(part)) && !name.contains("--");
        if is_fit && name.len() <= LONGEST {
            return Ok(Self { kind, name: name.to_owned() });
        }

        Err(DataError::BadHubName { name: name.to_owned(), expected: "OWNER/NAME" })
    }

    /// The kind of the repository.
    #[must_use]
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A branch, a tag, a reference such as `refs/convert/parquet`, or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// A revision.
    ///
    /// # Errors
    /// If it is not made of letters, digits, `.`, `_`, `-` and `/` between them.
    pub fn new(name: &str) -> Result<Self, DataError> {
        if name.split('/').all(is_word) && name.len() <= LONGEST {
            return Ok(Self(name.to_owned()));
        }
        let expected = "a branch, a tag or a commit, of letters, digits, '.', '_', '-' and '/'";
        Err(DataError::BadHubName { name: name.to_owned(), expected })
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a commit, whose content never changes.
    pub(crate) fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a part of a name is safe: it cannot act as a path, as `..` would.
fn is_word(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !part.is_empty()
        && part.bytes().all(allowed)
        && !part.starts_with(['.', '-'])
        && !part.contains("..")
}

/// Whether a file of a repository may be written under its own name below a folder.
pub(super) fn is_safe_file(name: &str) -> bool {
    let fit = |part: &str| {
        let strange = |letter: char| letter.is_control() || matches!(letter, '\\' | ':');
        !part.is_empty() && part != "." && part != ".." && !part.contains(strange)
    };
    name.len() <= LONGEST && name.split('/').all(fit)
}

/// Whether this can be a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether this can be an entity tag, which names a file among the contents.
pub(super) fn is_etag(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// The SHA-256 in an entity tag. Only large files have one.
pub(super) fn as_sha256(etag: &str) -> Option<String> {
    let is_one = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| etag.to_ascii_lowercase())
}

/// A file's name as part of an address.
pub(super) fn escaped(name: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'/');
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_none() {
        for name in
            ["", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a b/c", "a/-b", ".a", "a--b", "a/b?c"]
        {
            assert!(RepoName::dataset(name).is_err(), "{name:?}");
        }

        for name in ["gpt2", "openai-community/gpt2", "nyu-mll/glue", "A_b.c/d-1"] {
            assert_eq!(RepoName::dataset(name).unwrap().as_str(), name);
        }

        for name in ["", "..", "a/../b", "a b", "a?b", "/main", "main/"] {
            assert!(Revision::new(name).is_err(), "{name:?}");
        }

        assert_eq!(Revision::new("refs/convert/parquet").unwrap().as_str(), "refs/convert/parquet");
    }

    #[test]
    fn files_stay_below_their_folder() {
        for name in
            ["../a", "a/../../b", "/etc/passwd", "a\\..\\b", "c:a", "a//b", "a/.", "a\nb", ""]
        {
            assert!(!is_safe_file(name), "{name:?}");
        }

        assert!(
            is_safe_file("sst2/train-00000-of-00001.parquet") && is_safe_file(".gitattributes")
        );
    }

    #[test]
    fn file_names_are_escaped_but_for_their_folders() {
        assert_eq!(escaped("a b/ü#?.txt"), "a%20b/%C3%BC%23%3F.txt");
    }
}
