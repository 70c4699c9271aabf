//! Text to token ids and back: GPT-2's tokenizer, or one read from a `tokenizer.json`.

mod chunks;
mod gpt2;

use crate::error::DataError;
use chunks::{CHUNK_BYTES, chunks, cuts_safely};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
};

/// Name and identity of the built-in tokenizer.
pub const GPT2: &str = "gpt2";

/// The token that ends a text, BOS and EOS at once in GPT-2's vocabulary.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Tokens that other vocabularies end a text with, in the order in which they are looked for.
const ENDS_OF_TEXT: [&str; 4] = [END_OF_TEXT, "</s>", "<eos>", "[SEP]"];

/// Chunks that are encoded between two reports of progress.
const CHUNKS_PER_REPORT: usize = 16;

/// Text to token ids and back. A clone shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    id: String,
    vocabulary: usize,
    eos: Option<u32>,
    /// Whether a text may be encoded in pieces with the same result.
    cuts_safely: bool,
    /// Whether each character of a token stands for one byte.
    byte_level: bool,
}

impl Tokenizer {
    /// GPT-2's byte-level BPE of 50,257 tokens, from merge ranks that are built in: no file, no network. It is built
    /// once in a process.
    ///
    /// # Errors
    /// If the built-in ranks are not those of a byte-pair encoding.
    pub fn gpt2() -> Result<Self, DataError> {
        static BUILT: OnceLock<Result<Tokenizer, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Ok(Self::new(gpt2::tokenizer()?, GPT2.to_owned())));
        built.clone().map_err(|reason| DataError::BadTokenizer { name: GPT2.to_owned(), reason })
    }

    /// The tokenizer of a `tokenizer.json`. Truncation, padding and the tokens that a template adds are left out:
    /// a text becomes its tokens and nothing else.
    ///
    /// # Errors
    /// If the file cannot be read or is no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, DataError> {
        TokenizerSource::read(path)?.open()
    }

    /// What a spec names: `gpt2`, or the path of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn open(name: &str) -> Result<Self, DataError> {
        TokenizerSource::resolve(name)?.open()
    }

    /// Token ids of a text, the same whatever the number of threads. Where the text spells out one of the tokenizer's
    /// added tokens, as `<|endoftext|>`, it becomes that token.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        self.encode_with(text, &mut |_| ())
    }

    /// As [`Tokenizer::encode`], calling `done` with the number of bytes encoded so far.
    pub(crate) fn encode_with(&self, text: &str, done: &mut dyn FnMut(usize)) -> Result<Vec<u32>, DataError> {
        let pieces = if self.cuts_safely { chunks(text, CHUNK_BYTES) } else { vec![text] };
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut bytes = 0;
        for batch in pieces.chunks(CHUNKS_PER_REPORT) {
            let encodings = self.inner.encode_batch_fast(batch.to_vec(), false);
            for encoding in encodings.map_err(|error| self.failed(&error))? {
                ids.extend_from_slice(encoding.get_ids());
            }
            bytes += batch.iter().map(|piece| piece.len()).sum::<usize>();
            done(bytes);
        }
        Ok(ids)
    }

    /// The text of token ids; bytes that are not UTF-8 become the replacement character.
    ///
    /// # Errors
    /// If the tokenizer refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner.decode(ids, false).map_err(|error| self.failed(&error))
    }

    /// Bytes of text that token ids stand for; ids outside the vocabulary stand for none.
    ///
    /// # Errors
    /// If the tokenizer refuses the ids.
    pub fn bytes_of(&self, ids: &[u32]) -> Result<usize, DataError> {
        if !self.byte_level {
            return Ok(self.decode(ids)?.len());
        }
        let added = self.inner.get_added_tokens_decoder();
        let length = |id: u32| match added.get(&id) {
            Some(token) => token.content.len(),
            None => self.inner.id_to_token(id).map_or(0, |token| token.chars().count()),
        };
        let lengths: Vec<usize> = (0..self.vocabulary as u32).map(length).collect();
        Ok(ids.iter().map(|&id| lengths.get(id as usize).copied().unwrap_or(0)).sum())
    }

    /// Size of the vocabulary, V: one more than the largest id.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// What tells this tokenizer from others: `gpt2`, or `sha256:` and the checksum of its file.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The token that ends a text, if the vocabulary has one: the first of `<|endoftext|>`, `</s>`, `<eos>`, `[SEP]`.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Writes the tokenizer as a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        let failed = |reason: String| DataError::Write { path: path.to_owned(), reason };
        let json = self.inner.to_string(false).map_err(|error| failed(error.to_string()))?;
        fs::write(path, json).map_err(|error| failed(error.to_string()))
    }

    fn new(mut inner: tokenizers::Tokenizer, id: String) -> Self {
        inner.with_padding(None);
        // Cannot fail: only a truncation with a bad stride is refused.
        let _ = inner.with_truncation(None);
        let largest = inner.get_vocab(true).into_values().max();
        Self {
            vocabulary: largest.map_or(0, |id| id as usize + 1),
            eos: ENDS_OF_TEXT.iter().find_map(|token| inner.token_to_id(token)),
            cuts_safely: cuts_safely(&inner),
            byte_level: matches!(inner.get_decoder(), Some(tokenizers::DecoderWrapper::ByteLevel(_))),
            inner: Arc::new(inner),
            id,
        }
    }

    fn failed(&self, error: &tokenizers::Error) -> DataError {
        DataError::Tokenize { tokenizer: self.id.clone(), reason: error.to_string() }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, vocabulary, eos) = (&self.id, self.vocabulary, self.eos);
        f.debug_struct("Tokenizer")
            .field("id", id)
            .field("vocabulary", &vocabulary)
            .field("eos", &eos)
            .finish()
    }
}

/// A tokenizer whose identity is known and which is built only where it is needed: with cached tokens it is not.
pub(crate) enum TokenizerSource {
    /// The built-in one.
    Gpt2,
    /// The content of a file.
    File {
        /// Its path.
        name: String,
        /// Its content.
        content: Vec<u8>,
    },
}

impl TokenizerSource {
    pub(crate) fn resolve(name: &str) -> Result<Self, DataError> {
        if name == GPT2 { Ok(Self::Gpt2) } else { Self::read(Path::new(name)) }
    }

    fn read(path: &Path) -> Result<Self, DataError> {
        let name = path.to_string_lossy().into_owned();
        match fs::read(path) {
            Ok(content) => Ok(Self::File { name, content }),
            Err(error) => Err(DataError::BadTokenizer { name, reason: error.to_string() }),
        }
    }

    pub(crate) fn id(&self) -> String {
        match self {
            Self::Gpt2 => GPT2.to_owned(),
            Self::File { content, .. } => {
                format!("sha256:{}", crate::cache::hex(&Sha256::digest(content).into()))
            }
        }
    }

    pub(crate) fn open(&self) -> Result<Tokenizer, DataError> {
        let Self::File { name, content } = self else { return Tokenizer::gpt2() };
        let inner = tokenizers::Tokenizer::from_bytes(content)
            .map_err(|error| DataError::BadTokenizer { name: name.clone(), reason: error.to_string() })?;
        Ok(Tokenizer::new(inner, self.id()))
    }
}
