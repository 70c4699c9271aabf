//! Text to token ids and back: GPT-2's tokenizer, single bytes, or one read from a
//! `tokenizer.json`.

mod bytes;
mod chunks;
mod companions;
mod encoder;
mod gpt2;
mod guard;
mod kept;
mod legacy;
mod marks;
mod source;
mod special;
mod training;
mod vetting;
mod words;

pub(crate) use chunks::{Chunker, Portion};
pub(crate) use companions::is_companion;
pub use companions::{COMPANIONS_FOLDER, Companions};
pub(crate) use encoder::Encoder;
pub use kept::KeptTokenizer;
pub use marks::{Marks, Pairs, Template};
pub(crate) use source::TokenizerSource;
use source::of_model;
pub use special::{END_OF_TEXT, SpecialTokens};
pub use training::{TrainingRequest, train_tokenizer};

use crate::{
    error::DataError,
    hub::{HubConfig, OnFetch},
    text::files::Flow,
};
use chunks::cuts_safely;
use special::Declared;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// Name and identity of the built-in tokenizer of GPT-2.
pub const GPT2: &str = "gpt2";

/// Name and identity of the built-in tokenizer whose tokens are the 256 bytes and, after them,
/// `<|endoftext|>`.
pub const BYTES: &str = "bytes";

/// The file of a model that holds its tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Text to token ids and back. Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    id: String,
    /// The content of its file; `None` for built-in tokenizers.
    content: Option<Arc<[u8]>>,
    vocabulary: usize,
    /// The size of the vocabulary without added tokens.
    without_added: usize,
    special: Arc<SpecialTokens>,
    /// What a user should know about it.
    notes: Arc<[String]>,
    /// Whether a text may be encoded in pieces with the same result.
    cuts_safely: bool,
    /// Whether each character of a token stands for one byte.
    byte_level: bool,
}

impl Tokenizer {
    /// GPT-2's byte-level BPE of 50,257 tokens, from merge ranks that are built in: no file, no
    /// network. It is built once in a process.
    ///
    /// # Errors
    /// If the built-in ranks do not form a byte-pair encoding.
    pub fn gpt2() -> Result<Self, DataError> {
        static BUILT: OnceLock<Result<Tokenizer, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Ok(Self::built_in(gpt2::tokenizer()?, GPT2)));
        built.clone().map_err(|reason| DataError::BadTokenizer { name: GPT2.to_owned(), reason })
    }

    /// The tokenizer of a `tokenizer.json`, or of a folder that has one or its older equivalents.
    /// Truncation, padding and the tokens that a template adds are not used: a text becomes only
    /// its own tokens. The token that ends a text is read from the files next to a
    /// `tokenizer.json`: `generation_config.json`, `config.json`, `tokenizer_config.json` and
    /// `special_tokens_map.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is larger than 128 MiB, or is not a tokenizer. Also if it cannot
    /// be used safely: it has ids of 2^22 or more or far apart, or two tokens with one id; or its
    /// parts are nested more than 8 deep, lengthen a text more than 64 times, give up on long
    /// texts, or take more than a minute for a few lines.
    pub fn from_file(path: &Path) -> Result<Self, DataError> {
        TokenizerSource::read(path)?.open()
    }

    /// One token for each byte, and one that ends a text: 257 tokens. Ids 0 to 255 are the bytes
    /// themselves.
    ///
    /// # Errors
    /// None in practice: it is built in.
    pub fn bytes() -> Result<Self, DataError> {
        let failed = |reason| DataError::BadTokenizer { name: BYTES.to_owned(), reason };
        Ok(Self::built_in(bytes::tokenizer().map_err(failed)?, BYTES))
    }

    /// As [`Tokenizer::from_file`], from the content of a file. `name` is for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_bytes(name: &str, content: Vec<u8>) -> Result<Self, DataError> {
        TokenizerSource::of_content(name, content).open()
    }

    /// The tokenizer that a spec names: `gpt2`, `bytes`, or the path of a `tokenizer.json` or of a
    /// folder.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn open(name: &str) -> Result<Self, DataError> {
        TokenizerSource::resolve(name, None, &|_| ())?.open()
    }

    /// As [`Tokenizer::open`], and also `hf:OWNER/NAME[@REVISION]`: the `tokenizer.json` of a model
    /// of the hub, from the hub's cache or else fetched.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`], or if the hub cannot be reached or misbehaves.
    pub fn open_from(name: &str, hub: &HubConfig, on: OnFetch<'_>) -> Result<Self, DataError> {
        TokenizerSource::resolve(name, Some(hub), on)?.open()
    }

    /// Token ids of a text, the same as in training. If the text spells out an added token, as
    /// `<|endoftext|>`, it becomes that token.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut encoder = Encoder::new(self);
        let mut chunker = Chunker::new(self);
        let mut result = Ok(());

        let mut encode = |piece: Portion| {
            result = encoder.encode(&piece.text, &mut ids);
            if result.is_ok() { Flow::On } else { Flow::Stop }
        };

        if chunker.push(text, &mut encode) == Flow::On {
            chunker.finish(&mut encode);
        }

        result.map(|()| ids)
    }

    /// The text of token ids; bytes that are not UTF-8 become the replacement character.
    ///
    /// # Errors
    /// If the tokenizer refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let decoded = guard::caught(|| self.inner.decode(ids, false));
        decoded.map_err(|reason| self.broke(reason))?.map_err(|error| self.failed(&error))
    }

    /// Bytes of text that token ids stand for. Ids outside the vocabulary stand for none.
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

    /// Bytes that each token stands for, by id. This is an estimate if they depend on the tokens
    /// around it.
    pub(crate) fn lengths(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let length = |id: u32| match added.get(&id) {
            Some(token) => token.content.len(),
            None if self.byte_level => {
                self.inner.id_to_token(id).map_or(0, |token| token.chars().count())
            }
            None => self.decode(&[id]).map_or(0, |text| text.len()),
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

    /// The identity of this tokenizer: `gpt2`, `bytes`, or `sha256:` and the checksum of its file.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Size of the vocabulary without the tokens that were added after the others.
    #[must_use]
    pub fn without_added(&self) -> usize {
        self.without_added
    }

    /// The token that ends a text, if there is one: the first of [`SpecialTokens::ends`].
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special.ends.first().copied()
    }

    /// The tokens that begin, end and fill up a text. The files next to the tokenizer name them;
    /// otherwise tokens with the usual spellings are used, for the end `<|endoftext|>`, `</s>`,
    /// `<eos>` or `[SEP]`.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The spelling of a token.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// What a user should know about it: settings of its file that are not used, and text that it
    /// cannot encode.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its `tokenizer.json`, byte for byte as it was read.
    ///
    /// # Errors
    /// If it is built in and cannot be written.
    pub fn json(&self) -> Result<Vec<u8>, DataError> {
        match &self.content {
            Some(content) => Ok(content.to_vec()),
            None => self
                .inner
                .to_string(false)
                .map(String::into_bytes)
                .map_err(|error| self.failed(&error)),
        }
    }

    /// Writes the tokenizer as a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        let failed = |reason: String| DataError::Write { path: path.to_owned(), reason };
        dlt_spec::durable::replace(path, &self.json()?).map_err(|error| failed(error.to_string()))
    }

    fn built_in(inner: tokenizers::Tokenizer, name: &str) -> Self {
        Self::new(inner, name.to_owned(), &Declared::default())
    }

    fn new(mut inner: tokenizers::Tokenizer, id: String, declared: &Declared) -> Self {
        inner.with_padding(None);
        // Cannot fail: only a truncation with a bad stride is refused.
        let _ = inner.with_truncation(None);
        let size = |with_added| {
            inner.get_vocab(with_added).into_values().max().map_or(0, |id| id as usize + 1)
        };

        let vocabulary = size(true);
        let special = declared.resolve(&|token| inner.token_to_id(token), vocabulary);

        Self {
            vocabulary,
            without_added: size(false),
            special: Arc::new(special),
            content: None,
            notes: Arc::default(),
            cuts_safely: cuts_safely(&inner),
            byte_level: matches!(
                inner.get_decoder(),
                Some(tokenizers::DecoderWrapper::ByteLevel(_))
            ),
            inner: Arc::new(inner),
            id,
        }
    }

    fn failed(&self, error: &tokenizers::Error) -> DataError {
        self.broke(error.to_string())
    }

    fn broke(&self, reason: String) -> DataError {
        DataError::Tokenize { tokenizer: self.id.clone(), reason }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = &self.id;
        let vocabulary = self.vocabulary;
        let eos = self.eos();

        f.debug_struct("Tokenizer")
            .field("id", id)
            .field("vocabulary", &vocabulary)
            .field("eos", &eos)
            .finish()
    }
}
