//! Token streams, and the three streams that a text becomes.

use crate::{
    checksum::hex,
    error::DataError,
    split::Split,
    text::files::{BadRows, TextColumn},
    text::token_file::TokenFile,
    text::windows::Windows,
};
use dlt_spec::{
    record::{Boundary, FolderPlan},
    spec::Pipeline,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, sync::Arc};

/// The tokens of a text, in memory or in a file of the cache. Clones share them.
#[derive(Clone, Debug)]
pub struct TokenStream {
    ids: Ids,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Ids {
    Memory(Arc<[u32]>),
    File(Arc<TokenFile>),
}

impl TokenStream {
    /// Tokens in memory, and the bytes of text that they stand for.
    #[must_use]
    pub fn new(tokens: Vec<u32>, bytes: usize) -> Self {
        Self { ids: Ids::Memory(tokens.into()), bytes }
    }

    pub(crate) fn in_file(file: TokenFile, bytes: usize) -> Self {
        Self { ids: Ids::File(Arc::new(file)), bytes }
    }

    /// All tokens. For a stream in a file this is a copy, which takes four bytes a token.
    ///
    /// # Errors
    /// If the file cannot be read, or was changed since it was opened.
    pub fn tokens(&self) -> Result<Cow<'_, [u32]>, DataError> {
        match &self.ids {
            Ids::Memory(ids) => Ok(Cow::Borrowed(ids)),
            Ids::File(file) => {
                let mut ids = vec![0; file.len()];
                file.read(0, &mut ids)?;
                Ok(Cow::Owned(ids))
            }
        }
    }

    /// Fills `ids` with the tokens from `start` on.
    ///
    /// # Errors
    /// If there are too few tokens, or the file cannot be read or was changed since it was opened.
    pub fn read(&self, start: usize, ids: &mut [u32]) -> Result<(), DataError> {
        let end = start.saturating_add(ids.len());
        if end > self.len() {
            return Err(DataError::TooFewWindows { asked: end, count: self.len(), context: 1 });
        }

        match &self.ids {
            Ids::Memory(all) => ids.copy_from_slice(&all[start..end]),
            Ids::File(file) => file.read(start, ids)?,
        }

        Ok(())
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.ids {
            Ids::Memory(ids) => ids.len(),
            Ids::File(file) => file.len(),
        }
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

    /// Whether the tokens are read from a file of the cache rather than held in memory.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.ids, Ids::File(_))
    }
}

/// The tokens of the three splits of a text, and their provenance.
#[derive(Clone, Debug)]
pub struct TokenSplits {
    /// Trains the model.
    pub train: TokenStream,
    /// Chooses the model.
    pub validation: TokenStream,
    /// Read once, at the end; empty if the data have no test split.
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
    /// Tokens that were made outside of this crate: `streams` are train, validation and test, which
    /// may be empty. `source` and `tokenizer` name them in records. A run that is resumed must get
    /// the same tokens, which their checksums say.
    ///
    /// # Errors
    /// [`DataError::SplitTooShort`] for a stream, other than an empty test, without one window of
    /// `context` tokens and the one that follows. [`DataError::BadSetting`] for a token that is not
    /// below `vocabulary`.
    pub fn of_streams(
        source: &str,
        tokenizer: &str,
        vocabulary: usize,
        context: usize,
        streams: [TokenStream; 3],
    ) -> Result<Self, DataError> {
        let mut splits = Vec::new();
        let mut whole = Sha256::new();

        for (split, stream) in Split::ALL.into_iter().zip(&streams) {
            let needed = context.saturating_add(1);
            let is_absent = split == Split::Test && stream.is_empty();
            if stream.len() < needed && !is_absent {
                let (name, tokens) = (source.to_owned(), stream.len());
                return Err(DataError::SplitTooShort { name, split, tokens, needed, context });
            }

            let tokens = stream.tokens()?;
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(DataError::BadSetting {
                    what: "a token",
                    expected: format!(
                        "a number below {vocabulary} in the {split} split of {source}"
                    ),
                    got: token.to_string(),
                });
            }

            let mut hash = Sha256::new();
            for token in tokens.iter() {
                hash.update(token.to_le_bytes());
                whole.update(token.to_le_bytes());
            }

            if !is_absent {
                let (tokens, bytes) = (stream.len(), stream.bytes());
                let sha256 = hex(&hash.finalize().into());
                splits.push(SplitProvenance { split, tokens, bytes, sha256 });
            }
        }

        let provenance = Provenance {
            source: source.to_owned(),
            sha256: hex(&whole.finalize().into()),
            tokenizer: tokenizer.to_owned(),
            splits,
            ..Provenance::default()
        };

        let [train, validation, test] = streams;
        let pipeline = Pipeline::Stream;
        Ok(Self { train, validation, test, provenance, vocabulary, eos: None, pipeline, context })
    }

    /// The tokens of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &TokenStream {
        split.of([&self.train, &self.validation, &self.test])
    }

    /// Whether the data have this split. Only test may be missing.
    #[must_use]
    pub fn has(&self, split: Split) -> bool {
        self.provenance.split(split).is_some()
    }

    /// The windows of a split, by the pipeline and the context of the request.
    ///
    /// # Errors
    /// Only errors that [`load`](fn@crate::load) has already reported.
    pub fn windows(&self, split: Split) -> Result<Windows, DataError> {
        let stream = self.split(split).clone();
        Windows::new(stream, self.pipeline, self.context, self.eos, &self.provenance.tokenizer)
    }
}

/// Where tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of a data set, or path, as it was requested.
    pub source: String,
    /// SHA-256 of its files, one after the other. For a shipped corpus: of its texts for train,
    /// validation and test. For data of the hub: of the names of the files and their checksums.
    pub sha256: String,
    /// The commit that was read, if the data come from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubProvenance>,
    /// The column of its tables that the text is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<TextColumn>,
    /// Rows without text that were found when the tokens were made, by this process or by the one
    /// that cached them.
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Which file belongs to which split, if there are several files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<FolderPlan>,
    /// For a text: what was put between two documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<Boundary>,
    /// The name of each class, by its number; empty if there are no classes, or only numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Identity of the tokenizer.
    pub tokenizer: String,
    /// Train, validation and, where the data have one, test.
    pub splits: Vec<SplitProvenance>,
}

impl Provenance {
    /// Size and checksum of a split, if the data have it.
    #[must_use]
    pub fn split(&self, split: Split) -> Option<&SplitProvenance> {
        self.splits.iter().find(|provenance| provenance.split == split)
    }
}

/// A repository of the hub at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubProvenance {
    /// Its name.
    pub repository: String,
    /// The revision that was requested.
    pub revision: String,
    /// The commit of the revision at that time.
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
