//! From the name of a text to its tokens.

use crate::{
    cache::{self, Begun, CacheKey, Facts, TokenizedText, Writer},
    checksum::hex,
    error::DataError,
    files::{Reading, TextColumn},
    hub::{FetchEvent, HubConfig},
    origin::HubOrigin,
    retrieval::{Retrieval, Retrieved},
    source::Source,
    split::Split,
    stream::{Provenance, SplitProvenance, TokenSplits, TokenStream},
    tokenizer::{Marks, Tokenizer, TokenizerSource},
    tokenizing::Work,
};
use dlt_spec::spec::{DataSpec, Marks as MarksWord, Pipeline};
use std::{io, num::NonZeroUsize, path::Path, sync::mpsc, thread};

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct DataRequest<'a> {
    /// Source, tokenizer, fractions and pipeline.
    pub data: &'a DataSpec,
    /// Tokens of one window, T.
    pub context: usize,
    /// Folder of cached tokens, made if it is missing; `None` keeps tokens in memory.
    pub cache: Option<&'a Path>,
    /// How the hub is reached; without it, names that come from the hub are refused.
    pub hub: Option<&'a HubConfig>,
    /// Threads that tokenize; `None` takes one for each core.
    pub threads: Option<NonZeroUsize>,
}

impl<'a> DataRequest<'a> {
    /// Data for windows of `context` tokens, without cache and hub.
    #[must_use]
    pub fn new(data: &'a DataSpec, context: usize) -> Self {
        Self { data, context, cache: None, hub: None, threads: None }
    }
}

/// What [`load`] is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Fetching from the hub.
    Fetching(FetchEvent),
    /// Finding and reading the text.
    Reading,
    /// The text is this column of its tables.
    Column(TextColumn),
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
        /// Bytes of its text; about so many until it is done, where it is packed.
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
    let text = find(&data.source, data.split, data.into(), request.hub, request.cache, progress)?;
    if let Some(column) = text.column() {
        progress(Progress::Column(column.clone()));
    }
    let loaded = load_splits(request, &text, progress);
    // Also where it failed: what was left out may be why.
    text.tell_bad_rows();
    loaded
}

fn load_splits(
    request: &DataRequest<'_>,
    text: &Source,
    progress: &mut dyn FnMut(Progress),
) -> Result<TokenSplits, DataError> {
    let DataRequest { data, context, .. } = *request;
    let source = listening(progress, |on| TokenizerSource::resolve(&data.tokenizer, request.hub, on))?;
    let mut loader = Loader { request, source, tokenizer: None };
    let train = loader.split(text, Split::Train, progress)?;
    let validation = loader.split(text, Split::Validation, progress)?;
    let test = loader.split(text, Split::Test, progress)?;
    let splits = [&train, &validation, &test].map(|loaded| loaded.provenance.clone());
    let provenance = Provenance {
        source: data.source.clone(),
        sha256: text.sha256.clone(),
        hub: text.hub.clone(),
        column: text.column().cloned(),
        bad_rows: text.bad_rows(),
        tokenizer: loader.source.id(),
        splits: splits.to_vec(),
    };
    let Facts { vocabulary, eos, .. } = train.text.facts;
    let [train, validation, test] = [train, validation, test].map(|loaded| loaded.text.stream);
    Ok(TokenSplits { train, validation, test, provenance, vocabulary, eos, pipeline: data.pipeline, context })
}

/// The text of a name, fetched where it has to be.
pub(crate) fn find(
    name: &str,
    fractions: [f64; 3],
    reading: Reading,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Source, DataError> {
    listening(progress, |on| {
        let retrieval = hub.map(|hub| Retrieval { hub, cache, on });
        Source::find(name, fractions, reading, retrieval.as_ref())
    })
}

/// The files of a data set of the hub.
pub(crate) fn retrieved(
    origin: &HubOrigin,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Retrieved, DataError> {
    let hub = hub.ok_or_else(|| DataError::NoHub { name: origin.name.clone() })?;
    listening(progress, |on| Retrieval { hub, cache, on }.retrieve(origin))
}

/// Works on another thread and hands what it and its own threads report to one listener on this one.
fn listening<T: Send>(
    progress: &mut dyn FnMut(Progress),
    work: impl FnOnce(&(dyn Fn(FetchEvent) + Sync)) -> Result<T, DataError> + Send,
) -> Result<T, DataError> {
    thread::scope(|scope| {
        let (sender, events) = mpsc::channel();
        // The listener is there until the last event was sent.
        let working = scope.spawn(move || work(&move |event| drop(sender.send(event))));
        events.into_iter().for_each(|event| progress(Progress::Fetching(event)));
        // A panic goes on where it would have been without a thread.
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
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

/// Why tokens did not come about.
enum Failed {
    Data(DataError),
    /// The cache cannot be written.
    Cache(io::Error),
}

impl From<DataError> for Failed {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl Loader<'_> {
    fn split(
        &mut self,
        text: &Source,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LoadedSplit, DataError> {
        let key = CacheKey::new(&text.identity(split), &self.source.id(), &self.pipeline());
        let cached = self.request.cache.and_then(|folder| cache::read(folder, &key));
        let tokenized = match (cached, self.request.cache) {
            (Some(tokenized), _) => {
                progress(Progress::Cached { split });
                tokenized
            }
            (None, Some(folder)) => match self.tokenize_to(folder, key, text, split, progress) {
                Ok(tokenized) => tokenized,
                Err(Failed::Data(error)) => return Err(error),
                Err(Failed::Cache(error)) => {
                    tracing::warn!(folder = %folder.display(), %error, "tokens cannot be cached and stay in memory");
                    self.tokenize(text, split, progress)?
                }
            },
            (None, None) => self.tokenize(text, split, progress)?,
        };
        self.check_length(&tokenized.stream, split)?;
        let Facts { text_bytes, text_sha256, .. } = tokenized.facts;
        let provenance = SplitProvenance {
            split,
            tokens: tokenized.stream.len(),
            bytes: text_bytes as usize,
            sha256: hex(&text_sha256),
        };
        Ok(LoadedSplit { text: tokenized, provenance })
    }

    /// What shapes the tokens beside text and tokenizer: blocks are whole blocks of one context.
    fn pipeline(&self) -> String {
        match self.request.data.pipeline {
            Pipeline::Stream if self.request.data.marks == MarksWord::Template => {
                // Which tokens these are, the tokenizer's file says.
                "stream with the template's marks".to_owned()
            }
            Pipeline::Stream => "stream".to_owned(),
            Pipeline::Blocks => {
                // What ends a text is in the file of the tokenizer, or next to it.
                let ends =
                    self.source.ends_key().map_or_else(String::new, |ends| format!(" ended by {ends}"));
                format!("blocks of context {}{ends}", self.request.context)
            }
        }
    }

    /// Tokenizes into memory.
    fn tokenize(
        &mut self,
        source: &Source,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TokenizedText, DataError> {
        let mut tokens = Vec::new();
        let mut write = |ids: &[u32]| -> Result<(), DataError> {
            tokens.extend_from_slice(ids);
            Ok(())
        };
        let facts = self.work(source, split, &mut write, progress)?;
        Ok(TokenizedText { stream: TokenStream::new(tokens, facts.bytes as usize), facts })
    }

    /// Tokenizes into the cache, unless somebody else does just now; then it is waited for.
    fn tokenize_to(
        &mut self,
        folder: &Path,
        key: CacheKey,
        source: &Source,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TokenizedText, Failed> {
        let mut writer = match Writer::begin(folder, key).map_err(Failed::Cache)? {
            Begun::Ready(tokenized) => {
                progress(Progress::Cached { split });
                return Ok(tokenized);
            }
            Begun::Write(writer) => writer,
        };
        let mut write = |ids: &[u32]| writer.push(ids).map_err(Failed::Cache);
        match self.work(source, split, &mut write, progress) {
            Ok(facts) => writer.finish(&facts).map_err(Failed::Cache),
            Err(error) => {
                writer.abandon();
                Err(error)
            }
        }
    }

    fn work<E: From<DataError>>(
        &mut self,
        source: &Source,
        split: Split,
        write: &mut dyn FnMut(&[u32]) -> Result<(), E>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Facts, E> {
        let tokenizer = match self.tokenizer.take() {
            Some(tokenizer) => tokenizer,
            None => self.source.open()?,
        };
        let of = source.estimated_bytes(split)? as usize;
        progress(Progress::Tokenizing { split, bytes: 0, of });
        let marks = match (self.request.data.marks, self.request.data.pipeline) {
            (MarksWord::Template, Pipeline::Stream) => tokenizer.marks()?,
            _ => Marks::default(),
        };
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let work = Work {
            source,
            split,
            tokenizer: &tokenizer,
            pipeline: self.request.data.pipeline,
            marks: &marks,
            context: self.request.context,
            threads: self.request.threads.unwrap_or_else(cores),
        };
        let mut done = |bytes: u64| {
            let bytes = bytes as usize;
            progress(Progress::Tokenizing { split, bytes, of: of.max(bytes) });
        };
        let facts = work.run(write, &mut done)?;
        let bytes = facts.text_bytes as usize;
        progress(Progress::Tokenizing { split, bytes, of: bytes });
        self.tokenizer = Some(tokenizer);
        Ok(facts)
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
