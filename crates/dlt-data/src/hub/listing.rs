//! The files of a repository at a revision.

use serde::{Deserialize, Serialize};

/// The files of a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit of the revision.
    pub commit: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Name in the repository, with folders.
    pub name: String,
    /// Size in bytes, if the hub states it.
    pub size: Option<u64>,
    /// SHA-256 of the content, if the hub states it, which it does for large files.
    pub sha256: Option<String>,
}
