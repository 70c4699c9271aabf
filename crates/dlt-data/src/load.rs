//! From the name of a text to its tokens.

use crate::{
    blocks::block_stream,
    cache::{self, CacheKey, TokenizedText, hex},
    error::DataError,
    source::SourceText,
    split::Split,
    stream::{Provenance, SplitProvenance, TokenSplits, TokenStream},
    tokenizer::{END_OF_TEXT, Tokenizer, TokenizerSource},
};
use dlt_spec::spec::{DataSpec, Pipeline};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct DataRequest<'a> {
    /// Source, tokenizer, fractions and pipeline.
    pub data: &'a DataSpec,
    /// Tokens of one window, T.
    pub context: usize,
    /// Folder of cached tokens, made if it is missing; `None` keeps tokens in memory.
    pub cache: Option<&'a Path>,
}

/// What [`load`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Reading the text.
    Reading,
    /// The tokens of this split were in the cache.
    Cached {
        /// Which split.
        split: Split,
    },
    /// Tokenizing a split.
    Tokenizing {
        /// Which split.
        split: Split,
        /// Bytes of its text that are done.
        bytes: usize,
        /// Bytes of its text.
        of: usize,
    },
}

/// The tokens of a text, from the cache where they are, else tokenized and cached.
///
/// # Errors
/// If the source or the tokenizer cannot be used, or a split is too short for one window. A cache that cannot be
/// read or written is no error: it is reported as a warning.
pub fn load(request: &DataRequest<'_>, progress: &mut dyn FnMut(Progress)) -> Result<TokenSplits, DataError> {
    let DataRequest { data, context, .. } = *request;
    let least = if data.pipeline == Pipeline::Blocks { 2 } else { 1 };
    if context < least {
        return Err(DataError::ContextTooShort { context, least });
    }
    progress(Progress::Reading);
    let text = SourceText::read(&data.source, data.split)?;
    let mut loader = Loader { request, source: TokenizerSource::resolve(&data.tokenizer)?, tokenizer: None };
    let train = loader.split(&text, Split::Train, progress)?;
    let validation = loader.split(&text, Split::Validation, progress)?;
    let test = loader.split(&text, Split::Test, progress)?;
    let splits = [&train, &validation, &test].map(|loaded| loaded.provenance.clone());
    let provenance = Provenance {
        source: data.source.clone(),
        sha256: hex(&Sha256::digest(&text.text).into()),
        tokenizer: loader.source.id(),
        splits: splits.to_vec(),
    };
    let (vocabulary, eos) = (train.text.vocabulary, train.text.eos);
    let [train, validation, test] = [train, validation, test].map(|loaded| loaded.text.stream);
    Ok(TokenSplits { train, validation, test, provenance, vocabulary, eos, pipeline: data.pipeline, context })
}

struct Loader<'a> {
    request: &'a DataRequest<'a>,
    source: TokenizerSource,
    /// Built for the first split that is not in the cache.
    tokenizer: Option<Tokenizer>,
}

struct LoadedSplit {
    text: TokenizedText,
    provenance: SplitProvenance,
}

impl Loader<'_> {
    fn split(
        &mut self,
        text: &SourceText,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LoadedSplit, DataError> {
        let content = text.split(split);
        let digest: [u8; 32] = Sha256::digest(content).into();
        let key = CacheKey::new(&digest, &self.source.id(), &self.pipeline());
        let cached = self.request.cache.and_then(|folder| cache::read(folder, &key));
        let text = match (cached, self.request.cache) {
            (Some(text), _) => {
                progress(Progress::Cached { split });
                text
            }
            (None, Some(folder)) => cache::write(folder, &key, self.tokenize(content, split, progress)?),
            (None, None) => self.tokenize(content, split, progress)?,
        };
        self.check_length(&text.stream, split)?;
        let (tokens, bytes) = (text.stream.len(), content.len());
        let provenance = SplitProvenance { split, tokens, bytes, sha256: hex(&digest) };
        Ok(LoadedSplit { text, provenance })
    }

    /// What shapes the tokens beside text and tokenizer: blocks are whole blocks of one context.
    fn pipeline(&self) -> String {
        match self.request.data.pipeline {
            Pipeline::Stream => "stream".to_owned(),
            Pipeline::Blocks => format!("blocks of context {}", self.request.context),
        }
    }

    fn tokenize(
        &mut self,
        content: &str,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TokenizedText, DataError> {
        let tokenizer = match self.tokenizer.take() {
            Some(tokenizer) => tokenizer,
            None => self.source.open()?,
        };
        let mut done = |bytes| progress(Progress::Tokenizing { split, bytes, of: content.len() });
        done(0);
        let stream = match self.request.data.pipeline {
            Pipeline::Stream => TokenStream::new(tokenizer.encode_with(content, &mut done)?, content.len()),
            Pipeline::Blocks if tokenizer.eos().is_none() => {
                let (tokenizer, expected) = (tokenizer.id().to_owned(), END_OF_TEXT.to_owned());
                return Err(DataError::NoEndOfText { tokenizer, expected });
            }
            Pipeline::Blocks => block_stream(content, &tokenizer, self.request.context - 1, &mut done)?,
        };
        done(content.len());
        let (vocabulary, eos) = (tokenizer.vocabulary(), tokenizer.eos());
        self.tokenizer = Some(tokenizer);
        Ok(TokenizedText { stream, vocabulary, eos })
    }

    fn check_length(&self, stream: &TokenStream, split: Split) -> Result<(), DataError> {
        let DataRequest { data, context, .. } = *self.request;
        let needed = match data.pipeline {
            Pipeline::Stream => context.saturating_add(1),
            Pipeline::Blocks => context - 1,
        };
        let tokens = stream.len();
        if tokens >= needed {
            return Ok(());
        }
        Err(DataError::SplitTooShort { name: data.source.clone(), split, tokens, needed, context })
    }
}
