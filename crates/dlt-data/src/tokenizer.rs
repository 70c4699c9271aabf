//! Text to token ids and back: GPT-2's tokenizer, single bytes, or one read from a `tokenizer.json`.

mod bytes;
mod chunks;
mod encoder;
mod gpt2;
mod training;
mod words;

pub(crate) use chunks::Chunker;
pub(crate) use encoder::Encoder;
pub use training::{TrainingRequest, train_tokenizer};

use crate::{
    error::DataError,
    hub::{Hub, HubConfig, OnFetch, RepoName},
    origin::HUB_PREFIX,
};
use chunks::{CHUNK_BYTES, chunks, cuts_safely};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Name and identity of the built-in tokenizer of GPT-2.
pub const GPT2: &str = "gpt2";

/// Name and identity of the built-in tokenizer whose tokens are the 256 bytes, and `<|endoftext|>` after them.
pub const BYTES: &str = "bytes";

/// The file of a model that holds its tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// The token that ends a text, BOS and EOS at once in GPT-2's vocabulary.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Tokens that other vocabularies end a text with, in the order in which they are looked for.
const ENDS_OF_TEXT: [&str; 4] = [END_OF_TEXT, "</s>", "<eos>", "[SEP]"];

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

    /// One token for each byte, and one that ends a text: 257 tokens, ids 0 to 255 are the bytes themselves.
    ///
    /// # Errors
    /// None; it is built like the others.
    pub fn bytes() -> Result<Self, DataError> {
        let failed = |reason| DataError::BadTokenizer { name: BYTES.to_owned(), reason };
        Ok(Self::new(bytes::tokenizer().map_err(failed)?, BYTES.to_owned()))
    }

    /// What a spec names: `gpt2`, `bytes`, or the path of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn open(name: &str) -> Result<Self, DataError> {
        TokenizerSource::resolve(name, None, &|_| ())?.open()
    }

    /// As [`Tokenizer::open`], and `hf:OWNER/NAME[@REVISION]`, the `tokenizer.json` of a model of the hub: the one in
    /// the hub's cache where it is there, else fetched.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`], or if the hub cannot be reached or misbehaves.
    pub fn open_from(name: &str, hub: &HubConfig, on: OnFetch<'_>) -> Result<Self, DataError> {
        TokenizerSource::resolve(name, Some(hub), on)?.open()
    }

    /// Token ids of a text. Where the text spells out one of the tokenizer's added tokens, as `<|endoftext|>`, it
    /// becomes that token.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let pieces = if self.cuts_safely { chunks(text, CHUNK_BYTES) } else { vec![text] };
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut encoder = Encoder::new(self);
        pieces.into_iter().try_for_each(|piece| encoder.encode(piece, &mut ids))?;
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
        let lengths = self.lengths();
        Ok(ids.iter().map(|&id| lengths.get(id as usize).copied().unwrap_or(0) as usize).sum())
    }

    /// Bytes that each token stands for; about so many where they hang on what stands around it.
    pub(crate) fn lengths(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let length = |id: u32| match added.get(&id) {
            Some(token) => token.content.len(),
            None if self.byte_level => self.inner.id_to_token(id).map_or(0, |token| token.chars().count()),
            None => self.inner.decode(&[id], false).map_or(0, |text| text.len()),
        };
        (0..self.vocabulary as u32).map(|id| length(id) as u32).collect()
    }

    /// Whether a text may be encoded in pieces with the same result.
    pub(crate) fn is_cut_safely(&self) -> bool {
        self.cuts_safely
    }

    /// The id of a token of the vocabulary.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
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
    /// GPT-2's, built in.
    Gpt2,
    /// Single bytes, built in.
    Bytes,
    /// The content of a file.
    File {
        /// Its path.
        name: String,
        /// Its content.
        content: Vec<u8>,
    },
}

impl TokenizerSource {
    pub(crate) fn resolve(name: &str, hub: Option<&HubConfig>, on: OnFetch<'_>) -> Result<Self, DataError> {
        if let Some(model) = name.strip_prefix(HUB_PREFIX) {
            let hub = hub.ok_or_else(|| DataError::NoHub { name: name.to_owned() })?;
            return Self::read(&of_model(model, hub, on)?);
        }
        match name {
            GPT2 => Ok(Self::Gpt2),
            BYTES => Ok(Self::Bytes),
            path => Self::read(Path::new(path)),
        }
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
            Self::Bytes => BYTES.to_owned(),
            Self::File { content, .. } => {
                format!("sha256:{}", crate::checksum::hex(&Sha256::digest(content).into()))
            }
        }
    }

    pub(crate) fn open(&self) -> Result<Tokenizer, DataError> {
        let (name, content) = match self {
            Self::Gpt2 => return Tokenizer::gpt2(),
            Self::Bytes => return Tokenizer::bytes(),
            Self::File { name, content } => (name, content),
        };
        let inner = tokenizers::Tokenizer::from_bytes(content)
            .map_err(|error| DataError::BadTokenizer { name: name.clone(), reason: error.to_string() })?;
        Ok(Tokenizer::new(inner, self.id()))
    }
}

/// The tokenizer's file of a model, `OWNER/NAME[@REVISION]`.
fn of_model(model: &str, hub: &HubConfig, on: OnFetch<'_>) -> Result<PathBuf, DataError> {
    let (name, revision) = RepoName::model_at(model)?;
    let offline = HubConfig { is_offline: true, ..hub.clone() };
    let find = |config: &HubConfig| -> Result<PathBuf, DataError> {
        let hub = Hub::new(config, &name, &revision);
        let listing = hub.listing(on)?;
        let file = listing.files.iter().find(|file| file.name == TOKENIZER_FILE);
        let file = file.ok_or_else(|| DataError::NotInRepository {
            repository: name.to_string(),
            what: format!("revision {revision}"),
            wanted: TOKENIZER_FILE.to_owned(),
            known: listing.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        Ok(hub.fetch(&listing, &[file], on)?.remove(0))
    };
    match find(&offline) {
        Ok(path) => Ok(path),
        Err(error) if hub.is_offline => Err(error),
        Err(_) => find(hub),
    }
}
