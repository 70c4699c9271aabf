//! Token streams, and the three of them that a text becomes.

use crate::{
    error::DataError,
    files::{BadRows, TextColumn},
    mapping::MappedFile,
    split::Split,
    windows::Windows,
};
use dlt_spec::spec::Pipeline;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The tokens of a text, in memory or mapped from the cache. A clone shares them.
#[derive(Clone, Debug)]
pub struct TokenStream {
    ids: Ids,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Ids {
    Memory(Arc<[u32]>),
    Mapped(Arc<MappedFile>),
}

impl TokenStream {
    /// Tokens in memory, and the bytes of text that they stand for.
    #[must_use]
    pub fn new(tokens: Vec<u32>, bytes: usize) -> Self {
        Self { ids: Ids::Memory(tokens.into()), bytes }
    }

    pub(crate) fn mapped(file: MappedFile, bytes: usize) -> Self {
        Self { ids: Ids::Mapped(Arc::new(file)), bytes }
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        match &self.ids {
            Ids::Memory(ids) => ids,
            Ids::Mapped(file) => file.ids(),
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text that the tokens stand for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the tokens are mapped from the cache rather than held in memory.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        matches!(self.ids, Ids::Mapped(_))
    }
}

/// The tokens of the three splits of a text, and where they come from.
#[derive(Clone, Debug)]
pub struct TokenSplits {
    /// Trained on.
    pub train: TokenStream,
    /// Chooses the model.
    pub validation: TokenStream,
    /// Read once, at the end.
    pub test: TokenStream,
    /// Where the tokens come from.
    pub provenance: Provenance,
    /// Size of the tokenizer's vocabulary, V.
    pub vocabulary: usize,
    /// The tokenizer's token that ends a text, if it has one.
    pub eos: Option<u32>,
    pub(crate) pipeline: Pipeline,
    pub(crate) context: usize,
}

impl TokenSplits {
    /// The tokens of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &TokenStream {
        split.of([&self.train, &self.validation, &self.test])
    }

    /// The windows of a split, by the pipeline and the context that were asked for.
    ///
    /// # Errors
    /// None that [`load`](fn@crate::load) has not reported already.
    pub fn windows(&self, split: Split) -> Result<Windows, DataError> {
        let stream = self.split(split).clone();
        Windows::new(stream, self.pipeline, self.context, self.eos, &self.provenance.tokenizer)
    }
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of a data set, or path, as it was asked for.
    pub source: String,
    /// SHA-256 of its files, one after the other; of a shipped corpus, of its text: train, validation and test. Where
    /// it comes from the hub, of the names of its files and their checksums.
    pub sha256: String,
    /// The commit that was read, where it comes from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubProvenance>,
    /// The column of its tables that the text is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<TextColumn>,
    /// Rows without text that were met. Where the tokens were cached, nothing was read and none were.
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Identity of the tokenizer.
    pub tokenizer: String,
    /// Train, validation and test.
    pub splits: Vec<SplitProvenance>,
}

/// A repository of the hub at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubProvenance {
    /// Its name.
    pub repository: String,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it was.
    pub commit: String,
}

/// Size and checksum of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitProvenance {
    /// Which split.
    pub split: Split,
    /// Tokens.
    pub tokens: usize,
    /// Bytes of its text.
    pub bytes: usize,
    /// SHA-256 of its text.
    pub sha256: String,
}
