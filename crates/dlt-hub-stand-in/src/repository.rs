//! A repository and its files.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A repository at one revision.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) kind: RepositoryKind,
    pub(crate) name: String,
    pub(crate) revision: String,
    pub(crate) files: Vec<File>,
}

/// `datasets` or `models`, as in the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepositoryKind {
    Dataset,
    Model,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    /// Large and binary files are in another store, which a redirect leads to, and have a SHA-256.
    pub(crate) is_large: bool,
}

impl File {
    pub(crate) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.content))
    }

    /// The entity tag: the SHA-256 of a large file, or forty digits for a small one.
    pub(crate) fn etag(&self) -> String {
        let digits = self.sha256();
        if self.is_large { digits } else { digits[..40].to_owned() }
    }
}

impl Repository {
    /// An empty data set on the branch `main`.
    #[must_use]
    pub fn dataset(name: &str) -> Self {
        Self {
            kind: RepositoryKind::Dataset,
            name: name.to_owned(),
            revision: "main".to_owned(),
            files: Vec::new(),
        }
    }

    /// An empty model on the branch `main`.
    #[must_use]
    pub fn model(name: &str) -> Self {
        Self { kind: RepositoryKind::Model, ..Self::dataset(name) }
    }

    /// The same repository on another branch, such as `refs/convert/parquet`.
    #[must_use]
    pub fn at(self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self }
    }

    /// Adds a file. Parquet, safetensors and packed files count as large files, as on the hub.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        let is_large =
            [".parquet", ".safetensors", ".zst", ".gz"].iter().any(|end| name.ends_with(end));
        self.files.push(File { name: name.to_owned(), content: content.into(), is_large });
        self
    }

    /// The commit: forty digits that depend on every name and byte.
    #[must_use]
    pub fn commit(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(&file.name);
            hash.update(Sha256::digest(&file.content));
        }

        hex(&hash.finalize())[..40].to_owned()
    }

    /// The listing, as the hub gives it for a request with `blobs=true`.
    pub(crate) fn listing(&self) -> Value {
        let siblings: Vec<Value> = self.files.iter().map(sibling).collect();
        json!({ "id": self.name, "sha": self.commit(), "private": false, "siblings": siblings })
    }

    pub(crate) fn api_path(&self) -> String {
        let kind = if self.kind == RepositoryKind::Dataset { "datasets" } else { "models" };
        format!("/api/{kind}/{}", self.name)
    }

    pub(crate) fn resolve_path(&self) -> String {
        let prefix = if self.kind == RepositoryKind::Dataset { "/datasets" } else { "" };
        format!("{prefix}/{}/resolve", self.name)
    }
}

fn sibling(file: &File) -> Value {
    let mut entry =
        json!({ "rfilename": file.name, "blobId": file.etag(), "size": file.content.len() });
    if file.is_large {
        entry["lfs"] =
            json!({ "sha256": file.sha256(), "size": file.content.len(), "pointerSize": 134 });
    }

    entry
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
